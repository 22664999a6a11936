"""Index files: which packs there are and what lies in them.

Kept true: a pack is listed whole or not at all in a file that we write, since restic's check takes a partial entry
for damage; lengths and offsets fit 32 bits. Index files are decoded a pack at a time: of the document of a file with
40,000 blobs, only one pack's part is ever there as objects.
"""

import itertools
import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from client.vault.blobs import ID_BYTES, SEAL_OVERHEAD, BlobId, BlobKind, Buffer, PackEntry
from client.vault.documents import U32, Document
from domain.names import ObjectKind, ObjectName

MAX_ENTRIES = 40_000  # restic keeps index files below 8 MiB of JSON
ENTRY = struct.Struct(f"<{ID_BYTES}sBIII")  # id, kind, offset, length, uncompressed length

KINDS = (BlobKind.DATA, BlobKind.TREE)  # by their numbers in a packed entry
_KIND_NAMES = tuple(kind.value for kind in KINDS)
_KIND_NUMBERS = {kind.value: number for number, kind in enumerate(KINDS)}
_START, _END = '{"packs":[', "]}"
_scan = json.JSONDecoder().raw_decode


@dataclass(frozen=True, slots=True)
class IndexedPack:
    """A pack's id (32 bytes) and its blobs, in the order the index file has them, as `ENTRY` packs them.

    Entries are kept packed because an index has millions, most of which are only copied from one place to another.
    """

    pack: bytes
    table: bytes

    @classmethod
    def of(cls, pack: bytes, entries: Iterable[PackEntry]) -> "IndexedPack":
        """The pack with that id and those entries."""
        return cls(pack, b"".join(itertools.starmap(pack_entry, entries)))

    @property
    def name(self) -> ObjectName:
        return ObjectName(ObjectKind.PACK, self.pack.hex())

    @property
    def entries(self) -> list[PackEntry]:
        return list(iterate_entries(self.table))

    @property
    def ids(self) -> Iterator[BlobId]:
        """The blobs' ids, one made after another."""
        return (self.table[start : start + ID_BYTES] for start in range(0, len(self.table), ENTRY.size))

    def __len__(self) -> int:
        return len(self.table) // ENTRY.size


def pack_entry(identity: BlobId, kind: BlobKind, offset: int, length: int, uncompressed_length: int) -> bytes:
    """What PackEntry has, in its packed form."""
    return ENTRY.pack(identity, _KIND_NUMBERS[kind], offset, length, uncompressed_length)


def iterate_entries(table: Buffer) -> Iterator[PackEntry]:
    """The entries of a packed table. Raises struct.error if its length is none that a table has."""
    for identity, kind, offset, length, plain in ENTRY.iter_unpack(table):
        yield PackEntry(identity, KINDS[kind & 1], offset, length, plain)


def entry_at(table: Buffer, start: int) -> PackEntry:
    """The entry whose packed form begins at byte `start`. Raises struct.error."""
    identity, kind, offset, length, plain = ENTRY.unpack_from(table, start)
    return PackEntry(identity, KINDS[kind & 1], offset, length, plain)


@dataclass(frozen=True, slots=True)
class IndexFile:
    """`supersedes` are the ids of index files that this one replaces."""

    packs: Sequence[IndexedPack]
    supersedes: Sequence[bytes] = ()


def encode_index_file(index: IndexFile) -> bytes:
    """The JSON document of an index file, as restic writes it."""
    supersedes = ",".join(f'"{name.hex()}"' for name in index.supersedes)
    head = f'"supersedes":[{supersedes}],' if supersedes else ""
    # As bytes, pack after pack: that of 40,000 entries has 6 MB, and four times that as strings that are joined.
    packs = b",".join(map(_encode_pack, index.packs))
    return b"".join((f'{{{head}"packs":['.encode(), packs, b"]}\n"))


def decode_index_file(body: Buffer, name: str) -> IndexFile:
    """The packs that an index file lists. Raises DamagedVault."""
    packs = _usual_packs(body, name)
    if packs is not None:
        return IndexFile(packs, [])
    document = Document.parse(body, name)
    supersedes = [document.as_id(value, "supersedes") for value in document.items("supersedes")]
    return IndexFile([_decode_pack(name, fields) for fields in document.items("packs")], supersedes)


def _usual_packs(body: Buffer, name: str) -> list[IndexedPack] | None:
    """The packs of a document that has nothing but packs, written without spaces; None for any other."""
    try:
        text = str(body, "utf-8")
        if not text.startswith(_START):
            return None
        packs: list[IndexedPack] = []
        at = len(_START)
        while text[at] != "]" or (packs and text[at - 1] == ","):
            fields, at = _scan(text, at)
            packs.append(_decode_pack(name, fields))
            if text[at] == ",":
                at += 1
            elif text[at] != "]":
                return None
        return packs if text[at:].rstrip() == _END else None
    except (ValueError, IndexError, RecursionError):
        return None  # no JSON: reading it as a whole says where not


def _decode_pack(name: str, fields: Any) -> IndexedPack:
    pack = Document(name, fields)
    blobs = pack.items("blobs")
    table = _usual_table(blobs)
    if table is None:
        table = b"".join([_decode_entry(Document(name, blob)) for blob in blobs])
    return IndexedPack(pack.id("id"), table)


def _usual_table(blobs: list[Any]) -> bytes | None:
    """The blobs of a pack if all is as it should be: there are millions, so this is the short way. None if not."""
    packed = []
    try:
        for blob in blobs:
            digits, offset, length = blob["id"], blob["offset"], blob["length"]
            plain = blob.get("uncompressed_length", 0)
            identity = bytes.fromhex(digits)
            if not (
                type(offset) is type(length) is type(plain) is int
                and SEAL_OVERHEAD <= length <= length + offset <= U32
                and 0 <= plain <= U32
                and len(identity) == ID_BYTES
                and identity.hex() == digits
            ):
                return None
            packed.append(ENTRY.pack(identity, _KIND_NUMBERS[blob["type"]], offset, length, plain))
    except (KeyError, TypeError, AttributeError, ValueError):
        return None
    return b"".join(packed)


def split(packs: Iterable[IndexedPack], limit: int = MAX_ENTRIES) -> list[list[IndexedPack]]:
    """Packs in groups that each fit one index file; no pack is divided."""
    groups: list[list[IndexedPack]] = []
    room = 0
    for pack in packs:
        if room < len(pack) or not groups:
            groups.append([])
            room = limit
        groups[-1].append(pack)
        room -= len(pack)
    return groups


def _encode_pack(pack: IndexedPack) -> bytes:
    blobs = ",".join(
        [
            f'{{"id":"{identity.hex()}","type":"{_KIND_NAMES[kind & 1]}","offset":{offset},"length":{length}'
            + (f',"uncompressed_length":{plain}}}' if plain else "}")
            for identity, kind, offset, length, plain in ENTRY.iter_unpack(pack.table)
        ]
    )
    return f'{{"id":"{pack.pack.hex()}","blobs":[{blobs}]}}'.encode()


def _decode_entry(document: Document) -> bytes:
    """One blob of an index file. Raises DamagedVault, which says what is wrong with it."""
    kind = _KIND_NUMBERS.get(document.text("type"))
    if kind is None:
        document.refuse(f"a blob has the unknown type {document.text('type')!r}")
    offset, length = document.whole("offset", U32), document.whole("length", U32)
    if length < SEAL_OVERHEAD or offset + length > U32:
        document.refuse(f"a blob of {length} bytes at {offset} is not possible")
    return ENTRY.pack(document.id("id"), kind, offset, length, document.whole("uncompressed_length", U32))
