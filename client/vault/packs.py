"""Packs: many sealed blobs in one object, with a sealed header at the end that lists them.

Kept true: a pack is EncryptedBlob1 | ... | EncryptedBlobN | EncryptedHeader | Header_Length, and what the header
lists fills the pack from its first byte to the header without a gap (restic, doc/design.rst, "Pack Format").
From version 2 on, data and tree blobs lie in packs of their own. What a pack takes in memory while it is filled is
bounded by its bytes and by the number of its blobs, none of which is an object there.
"""

import io
import struct
from collections.abc import Iterable
from hashlib import sha256

from client.errors import DamagedVault, TruncatedObject
from client.stores.abc import StoreSession
from client.vault.blobs import ID_BYTES, SEAL_OVERHEAD, BlobKind, Buffer, PackEntry, SealedBlob
from client.vault.index_files import ENTRY, IndexedPack, iterate_entries, pack_entry
from client.vault.keys import DataKeys
from client.vault.sealing import entry_of
from domain.names import ObjectName

PACK_TARGET = 16 << 20  # bytes from which a pack is full
MAX_BLOBS = 1 << 14  # and blobs: the ids of those in packs that are not stored yet are held as objects, 110 bytes each
_MOST_BLOB_SHARES = 2
_MAX_HEADER = 16 << 20  # what restic still reads
_LENGTH = struct.Struct("<I")
_PLAIN = struct.Struct(f"<BI{ID_BYTES}s")  # 37 bytes
_COMPRESSED = struct.Struct(f"<BII{ID_BYTES}s")  # 41 bytes
ENTRY_BYTES = (_PLAIN.size, _COMPRESSED.size)  # of a header, for a blob that is not compressed and for one that is
_EAGER_HEADER = 4 << 10  # read with the length: most headers need no second request
_KINDS = (BlobKind.DATA, BlobKind.TREE)
_IS_COMPRESSED = 2  # the bit of the type byte


class PackBuilder:
    """A pack being filled with blobs of one kind."""

    def __init__(self, keys: DataKeys, kind: BlobKind, target: int = PACK_TARGET, *, share: int = 1) -> None:
        """It is full with a `share`-th of the bytes and blobs where the packs of so many vaults are filled at once.

        Of the blobs with half at least: prune puts together what has fewer and is small.
        """
        self.kind = kind
        self.size = 0  # bytes without the header
        self._table = bytearray()  # of entries, as an IndexedPack has it
        self._keys = keys
        self._target = target // share
        self._most = MAX_BLOBS // min(share, _MOST_BLOB_SHARES)
        self._body = io.BytesIO()

    @property
    def is_full(self) -> bool:
        return self.size >= self._target or len(self) >= self._most

    def __len__(self) -> int:
        return len(self._table) // ENTRY.size

    def add(self, blob: SealedBlob) -> None:
        """Append a blob of the pack's kind."""
        if blob.kind != self.kind:
            raise ValueError(f"a {blob.kind} blob does not go into a pack of {self.kind} blobs")
        self.move(entry_of(blob, self.size), blob.body)

    def move(self, entry: PackEntry, body: Buffer) -> None:
        """Append a blob of the pack's kind from another pack, sealed as it is."""
        identity, kind, _, length, plain = entry
        self._table += pack_entry(identity, kind, self.size, length, plain)
        self._body.write(body)
        self.size += length

    def finish(self) -> tuple[IndexedPack, bytes]:
        """The pack as index files list it, and its body. The builder must not be used again."""
        if not self._table:
            raise ValueError("a pack holds at least one blob")
        self._body.write(encode_header(self._keys, iterate_entries(self._table)))
        body = self._body.getvalue()  # no copy, unless more is written
        return IndexedPack(sha256(body).digest(), bytes(self._table)), body


def encode_header(keys: DataKeys, entries: Iterable[PackEntry]) -> bytes:
    """The sealed header and its length; opened again and compared, as blobs are. Raises DamagedVault."""
    plaintext = bytearray()
    for entry in entries:
        kind = _KINDS.index(entry.kind)
        if entry.uncompressed_length:
            plaintext += _COMPRESSED.pack(kind | _IS_COMPRESSED, entry.length, entry.uncompressed_length, entry.id)
        else:
            plaintext += _PLAIN.pack(kind, entry.length, entry.id)
    sealed = keys.seal(plaintext)
    if keys.open(sealed) != plaintext:
        raise DamagedVault(name="the header of a new pack", detail="it did not open to what was sealed")
    return sealed + _LENGTH.pack(len(sealed))


def decode_header(keys: DataKeys, sealed: Buffer, name: str) -> list[PackEntry]:
    """The entries in a sealed header, offsets counted up from 0. Raises DamagedVault."""
    plaintext = keys.open(sealed, name)
    entries = []
    position = offset = 0
    while position < len(plaintext):
        kind = plaintext[position]
        layout = _COMPRESSED if kind & _IS_COMPRESSED else _PLAIN
        if kind > 3 or position + layout.size > len(plaintext):  # noqa: PLR2004 - two bits make a type
            raise DamagedVault(name=name, detail=f"its header has no valid entry at byte {position}")
        _, length, *plain, identity = layout.unpack_from(plaintext, position)
        if length < SEAL_OVERHEAD:
            raise DamagedVault(name=name, detail=f"its header lists a blob of {length} bytes")
        entries.append(PackEntry(identity, _KINDS[kind & 1], offset, length, plain[0] if plain else 0))
        position += layout.size
        offset += length
    return entries


def read_pack_header(session: StoreSession, keys: DataKeys, name: ObjectName, size: int) -> list[PackEntry]:
    """The entries of a pack of `size` bytes, by its own header. Raises DamagedVault, TruncatedObject, StoreError."""
    _refuse_short(name, size)
    start = max(0, size - _EAGER_HEADER)
    tail = session.get(name, start, size - start)
    length = _header_length(name, tail, size)
    if length + _LENGTH.size <= len(tail):
        sealed: Buffer = memoryview(tail)[-length - _LENGTH.size : -_LENGTH.size]
    else:
        sealed = session.get(name, size - length - _LENGTH.size, length)
    return _checked(decode_header(keys, sealed, str(name)), name, size - length - _LENGTH.size)


def parse_pack(keys: DataKeys, name: ObjectName, body: Buffer) -> list[PackEntry]:
    """The entries of a whole pack, by its own header. Raises DamagedVault, TruncatedObject."""
    _refuse_short(name, len(body))
    view = memoryview(body)
    length = _header_length(name, view[-_LENGTH.size :], len(body))
    sealed = view[-length - _LENGTH.size : -_LENGTH.size]
    return _checked(decode_header(keys, sealed, str(name)), name, len(body) - length - _LENGTH.size)


def header_size(entries: list[PackEntry]) -> int:
    """Bytes at a pack's end that are not blobs: the sealed header and its length."""
    plain = sum(_COMPRESSED.size if entry.uncompressed_length else _PLAIN.size for entry in entries)
    return plain + SEAL_OVERHEAD + _LENGTH.size


def _refuse_short(name: ObjectName, size: int) -> None:
    if size < 2 * SEAL_OVERHEAD + _PLAIN.size + _LENGTH.size:
        raise TruncatedObject(name=name, detail=f"{size} bytes are too few for a pack")


def _header_length(name: ObjectName, tail: Buffer, size: int) -> int:
    if len(tail) < _LENGTH.size:
        raise TruncatedObject(name=name, detail="its end is missing")
    (length,) = _LENGTH.unpack(bytes(tail[-_LENGTH.size :]))
    if not SEAL_OVERHEAD + _PLAIN.size <= length <= min(_MAX_HEADER, size - _LENGTH.size):
        raise DamagedVault(name=name, detail=f"a header of {length} bytes in a pack of {size} is not possible")
    return int(length)


def _checked(entries: list[PackEntry], name: ObjectName, blobs_end: int) -> list[PackEntry]:
    end = entries[-1].offset + entries[-1].length if entries else 0
    if end != blobs_end:
        raise DamagedVault(name=name, detail=f"its header lists {end} bytes of blobs where {blobs_end} bytes lie")
    return entries
