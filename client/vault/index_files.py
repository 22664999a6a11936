"""Index files: which packs there are and what lies in them.

Kept true: a pack is listed whole or not at all in a file that we write, since restic's check takes a partial entry
for damage; lengths and offsets fit 32 bits.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from client.vault.blobs import SEAL_OVERHEAD, BlobKind, Buffer, PackEntry
from client.vault.documents import U32, Document

MAX_ENTRIES = 40_000  # restic keeps index files below 8 MiB of JSON

_IS_ID = re.compile(r"[0-9a-f]{64}").fullmatch
_KINDS = {kind.value: kind for kind in BlobKind}


@dataclass(frozen=True, slots=True)
class IndexedPack:
    """A pack's id (32 bytes) and its blobs, in the order the index file has them."""

    pack: bytes
    entries: Sequence[PackEntry]


@dataclass(frozen=True, slots=True)
class IndexFile:
    """`supersedes` are the ids of index files that this one replaces."""

    packs: Sequence[IndexedPack]
    supersedes: Sequence[bytes] = ()


def encode_index_file(index: IndexFile) -> bytes:
    """The JSON document of an index file, as restic writes it."""
    supersedes = ",".join(f'"{name.hex()}"' for name in index.supersedes)
    packs = ",".join(
        f'{{"id":"{pack.pack.hex()}","blobs":[{",".join(map(_encode_entry, pack.entries))}]}}' for pack in index.packs
    )
    head = f'"supersedes":[{supersedes}],' if supersedes else ""
    return f'{{{head}"packs":[{packs}]}}\n'.encode()


def decode_index_file(body: Buffer, name: str) -> IndexFile:
    """The packs that an index file lists. Raises DamagedVault."""
    document = Document.parse(body, name)
    supersedes = [document.as_id(value, "supersedes") for value in document.items("supersedes")]
    packs = []
    for fields in document.items("packs"):
        pack = Document(name, fields)
        packs.append(IndexedPack(pack.id("id"), [_decode_entry(name, blob) for blob in pack.items("blobs")]))
    return IndexFile(packs, supersedes)


def split(packs: Iterable[IndexedPack], limit: int = MAX_ENTRIES) -> list[list[IndexedPack]]:
    """Packs in groups that each fit one index file; no pack is divided."""
    groups: list[list[IndexedPack]] = []
    room = 0
    for pack in packs:
        if room < len(pack.entries) or not groups:
            groups.append([])
            room = limit
        groups[-1].append(pack)
        room -= len(pack.entries)
    return groups


def _encode_entry(entry: PackEntry) -> str:
    plain = f',"uncompressed_length":{entry.uncompressed_length}' if entry.uncompressed_length else ""
    return (
        f'{{"id":"{entry.id.hex()}","type":"{entry.kind.value}",'
        f'"offset":{entry.offset},"length":{entry.length}{plain}}}'
    )


def _decode_entry(name: str, fields: Any) -> PackEntry:
    """One blob of an index file; there are millions, so what is as it should be takes the short way."""
    try:
        identity, offset, length = fields["id"], fields["offset"], fields["length"]
        plain = fields.get("uncompressed_length", 0)
        if (
            type(offset) is type(length) is type(plain) is int
            and SEAL_OVERHEAD <= length <= length + offset <= U32
            and 0 <= plain <= U32
            and _IS_ID(identity)
        ):
            return PackEntry(bytes.fromhex(identity), _KINDS[fields["type"]], offset, length, plain)
    except (KeyError, TypeError, AttributeError):
        pass  # the long way says what is wrong
    return _decode_doubtful_entry(Document(name, fields))


def _decode_doubtful_entry(document: Document) -> PackEntry:
    kind = _KINDS.get(document.text("type"))
    if kind is None:
        document.refuse(f"a blob has the unknown type {document.text('type')!r}")
    offset, length = document.whole("offset", U32), document.whole("length", U32)
    if length < SEAL_OVERHEAD or offset + length > U32:
        document.refuse(f"a blob of {length} bytes at {offset} is not possible")
    return PackEntry(document.id("id"), kind, offset, length, document.whole("uncompressed_length", U32))
