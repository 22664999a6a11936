"""Blobs sealed for packs, and opened again.

Kept true: what is sealed here was opened again and compared with the plaintext (compression libraries and
memory have corrupted backups before), and `open_blob` returns nothing whose SHA-256 is not the blob's id.
"""

import threading
from collections.abc import Sequence
from enum import StrEnum

import zstandard

from client.errors import DamagedVault
from client.vault.blobs import SEAL_OVERHEAD, BlobId, BlobKind, Buffer, PackEntry, SealedBlob, blob_id
from client.vault.keys import DataKeys

LEVEL = 2  # 453 MB of 1 GiB of binaries where level 1 leaves 475 and level 3, at two thirds of the speed, 438
LEVEL_MAX = 12  # leaves 3.7 % less of an image, at a tenth of the speed; 15 leaves 1 % less again, at a third of that
COMPRESSED_VERSION = 2  # the first repository version that knows compression
MAX_BLOB = 128 << 20  # plain bytes of data; no writer comes near, so a larger claim is damage and not worth the memory
MAX_TREE = 2 << 30  # of a tree: 350 for each file in the folder, and 67 more for each MiB of a file
_LARGE = 16 << 20  # from this size on, the tree of a folder with some 40,000 files, no more copies than needed
_STEP = 1 << 20
_MOST_OUT_OF_A_BYTE = 32 << 10  # a zstd block has at least 4 bytes and at most 128 KiB come out of it (RFC 8878)
_SCRATCH = 128 << 10  # stays in the processor's own cache
_OPENED = 1 << 20  # kept for what is opened again; few blobs are larger, sealed
_SMALL = 256 << 10  # up to this size blobs are compressed as one batch, in C
_PROBES, _PROBE = 8, 4 << 10  # parts of a larger blob, and bytes in each, that are tried before the whole is


class Compression(StrEnum):
    """How data is compressed. Trees, like index files and snapshots, always are."""

    AUTO = "auto"  # quickly, and not where samples say that it is in vain
    MAX = "max"
    OFF = "off"


class _Codecs(threading.local):
    """zstd contexts must not be shared by threads."""

    def __init__(self) -> None:
        self.compressors: dict[int, zstandard.ZstdCompressor] = {}
        self.decompressor = zstandard.ZstdDecompressor()
        self.scratch = bytearray(_SCRATCH)
        self.opened = bytearray(_OPENED)

    def compressor(self, level: int) -> zstandard.ZstdCompressor:
        codec = self.compressors.get(level)
        if codec is None:
            codec = self.compressors[level] = zstandard.ZstdCompressor(level=level, write_content_size=True)
        return codec


_codecs = _Codecs()


def seal_batch(
    keys: DataKeys,
    kind: BlobKind,
    plaintexts: Sequence[Buffer],
    *,
    ids: Sequence[BlobId] | None = None,
    version: int = COMPRESSED_VERSION,
    compression: Compression = Compression.AUTO,
    verify: bool = True,
    room: memoryview | None = None,
) -> list[SealedBlob]:
    """Compress, seal and open again each of `plaintexts`, which must not be empty.

    `ids` saves hashing again where the ids are known; `version` is the repository's, version 1 has no compression. The
    bodies lie one after another in `room`, if it is given: with SEAL_OVERHEAD bytes for each beyond what they hold.
    Raises DamagedVault if what was sealed does not open to the plaintext: this machine cannot be trusted.
    """
    if ids is None:
        ids = [blob_id(plaintext) for plaintext in plaintexts]
    return Plaintexts(kind, plaintexts, ids, compression).seal(
        keys, range(len(plaintexts)), version=version, verify=verify, room=room
    )


class Plaintexts:
    """Plaintexts on their way into one vault or several: each is compressed once. For one thread.

    Kept true: what is sealed for a vault was opened again with its keys, and is the plaintext, or the frame that was
    found to hold the plaintext when it was opened for the first vault.
    """

    def __init__(
        self,
        kind: BlobKind,
        plaintexts: Sequence[Buffer],
        ids: Sequence[BlobId],
        compression: Compression = Compression.AUTO,
        *,
        vaults: int = 1,
    ) -> None:
        """`vaults` is for how many they may be sealed: frames are kept only for more than one."""
        self._kind = kind
        self._plaintexts = plaintexts
        self._ids = ids
        self._compression = compression
        self._compresses = not (compression is Compression.OFF and kind is BlobKind.DATA)
        self._keeps = vaults > 1
        self._frames: dict[int, Buffer | None] = {}  # of what was compressed and is needed again, by position
        self._verified: set[int] = set()  # frames

    def seal(
        self,
        keys: DataKeys,
        positions: Sequence[int],
        *,
        version: int = COMPRESSED_VERSION,
        verify: bool = True,
        room: memoryview | None = None,
    ) -> list[SealedBlob]:
        """Those at `positions` for one vault. Else as `seal_batch`."""
        frames = self._frames_of(positions) if version >= COMPRESSED_VERSION and self._compresses else {}
        sealed = []
        for at in positions:
            # Incompressible data stays as it is: readers need no decompression for it.
            plaintext, frame = self._plaintexts[at], frames.pop(at, None)
            compressed = frame is not None and len(frame) < len(plaintext)
            content = frame if frame is not None and compressed else plaintext
            body: Buffer
            if room is None:
                body = keys.seal_buffer(content)
            else:
                length = keys.seal_into(content, room)
                body, room = room[:length], room[length:]
            blob = SealedBlob(self._ids[at], self._kind, len(plaintext), compressed, body)
            if verify:
                self._verify(keys, blob, at, content)
            del content
            del frame  # that of a large folder's tree has 100 bytes for each of its files
            sealed.append(blob)
        return sealed

    def _frames_of(self, positions: Sequence[int]) -> dict[int, Buffer | None]:
        """The frame of each, None where it would not be worth making."""
        new = [at for at in positions if at not in self._frames]
        made = _compress([self._plaintexts[at] for at in new], self._compression)
        frames = dict(zip(new, made, strict=True))
        if not self._keeps:
            return frames
        self._frames |= frames
        return {at: self._frames[at] for at in positions}

    def _verify(self, keys: DataKeys, blob: SealedBlob, at: int, content: Buffer) -> None:
        try:
            if at in self._verified:
                is_whole = _opens_to(keys, blob, content, decompressed=False)
            else:
                is_whole = _opens_to(keys, blob, self._plaintexts[at], decompressed=blob.compressed)
        except DamagedVault:
            is_whole = False
        if not is_whole:
            raise _untrusted(blob)
        if self._keeps and blob.compressed:
            self._verified.add(at)


def seal_again(
    keys: DataKeys, entry: PackEntry, sealed: Buffer, plaintext: bytes, *, of: DataKeys, version: int
) -> SealedBlob:
    """A blob of another vault, whose keys are `of`, sealed for this one of `version`: as it was compressed there.

    `plaintext` is what `sealed` was opened to. Raises DamagedVault as `seal_batch` does.
    """
    compressed = entry.uncompressed_length > 0 and version >= COMPRESSED_VERSION
    content = of.open(sealed) if compressed else plaintext
    blob = SealedBlob(entry.id, entry.kind, len(plaintext), compressed, keys.seal_buffer(content))
    if keys.open(blob.body) != content:
        raise _untrusted(blob)
    return blob


def compress(plaintext: Buffer) -> bytes:
    """One zstd frame that carries its content size."""
    return _codecs.compressor(LEVEL).compress(plaintext)


def decompress(frame: Buffer, size: int, name: str) -> bytes:
    """The content of one zstd frame, `size` bytes at most. Raises DamagedVault."""
    try:
        announced = zstandard.frame_content_size(frame)
        if announced > size:
            raise DamagedVault(name=name, detail=f"it holds {announced} bytes where at most {size} were announced")
        possible = len(frame) * _MOST_OUT_OF_A_BYTE
        if announced > possible:
            raise DamagedVault(name=name, detail=f"{len(frame)} compressed bytes cannot hold {announced}")
        if not announced:
            return b""
        # What is announced, or may come where nothing is, is taken from memory at once.
        return _codecs.decompressor.decompress(frame, max_output_size=min(size, possible), allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise DamagedVault(name=name, detail=f"its compression is broken ({error})") from None


def open_blob(keys: DataKeys, entry: PackEntry, sealed: Buffer) -> bytes:
    """The plaintext of a blob from the `entry.length` bytes that its pack holds. Raises DamagedVault."""
    try:
        return _open(keys, entry, sealed)
    except DamagedVault as error:  # named here: to name every blob beforehand is a tenth of opening a small one
        raise DamagedVault(name=f"{entry.kind} blob {entry.id.hex()}", detail=error.fields["detail"]) from None


def _open(keys: DataKeys, entry: PackEntry, sealed: Buffer) -> bytes:
    identity, kind, _, length, uncompressed = entry
    if len(sealed) != length:
        raise DamagedVault(name="", detail=f"{len(sealed)} of {length} bytes are there")
    plain = uncompressed or length - SEAL_OVERHEAD
    if plain > (MAX_TREE if kind is BlobKind.TREE else MAX_BLOB):
        raise DamagedVault(name="", detail=f"a length of {plain} bytes is not credible")
    plaintext = keys.open(sealed)
    if uncompressed:
        plaintext = decompress(plaintext, uncompressed, "")
        if len(plaintext) != uncompressed:
            raise DamagedVault(name="", detail=f"it holds {len(plaintext)} bytes, not the {uncompressed} announced")
    if blob_id(plaintext) != identity:
        raise DamagedVault(name="", detail="its content has another SHA-256")
    return plaintext


def _compress(plaintexts: Sequence[Buffer], compression: Compression) -> list[Buffer | None]:
    """The frame of each, None where it would not be worth making."""
    compressor = _codecs.compressor(LEVEL_MAX if compression is Compression.MAX else LEVEL)
    if len(plaintexts) > 1 and all(len(plaintext) <= _SMALL for plaintext in plaintexts):
        batch = compressor.multi_compress_to_buffer(list(plaintexts), threads=0)
        return [memoryview(batch[position]) for position in range(len(batch))]  # type: ignore[arg-type]
    frames: list[Buffer | None] = []
    for plaintext in plaintexts:
        if compression is Compression.AUTO and len(plaintext) > _SMALL and _is_noise(compressor, plaintext):
            frames.append(None)
        elif len(plaintext) < _LARGE:
            frames.append(compressor.compress(plaintext))
        else:
            frames.append(_compress_in_steps(compressor, plaintext))
    return frames


def _is_noise(compressor: zstandard.ZstdCompressor, plaintext: Buffer) -> bool:
    """Whether no part of several becomes smaller; of what compresses, the first part nearly always says so."""
    view = memoryview(plaintext)
    starts = range(0, len(view) - _PROBE, (len(view) - _PROBE) // _PROBES)
    return all(len(compressor.compress(view[at : at + _PROBE])) >= _PROBE for at in starts)


def _compress_in_steps(compressor: zstandard.ZstdCompressor, plaintext: Buffer) -> bytes:
    """As `compress`, without room for a result as large as the plaintext: a large folder's tree shrinks to a fifth."""
    chunker = compressor.chunker(size=len(plaintext), chunk_size=_STEP)
    view = memoryview(plaintext)
    parts = [part for at in range(0, len(view), _STEP) for part in chunker.compress(view[at : at + _STEP])]
    parts += chunker.finish()  # type: ignore[no-untyped-call]  # its stub has no types
    return b"".join(parts)


def _untrusted(blob: SealedBlob) -> DamagedVault:
    name = f"{blob.kind} blob {blob.id.hex()}"
    return DamagedVault(name=name, detail="it did not open to what was sealed: check this machine's memory")


def _opens_to(keys: DataKeys, blob: SealedBlob, expected: Buffer, *, decompressed: bool) -> bool:
    """Whether what a sealed blob holds, or what that is `decompressed`, is as expected. Raises DamagedVault."""
    opened = _codecs.opened
    if blob.length_sealed - SEAL_OVERHEAD > len(opened):
        opened = bytearray(blob.length_sealed - SEAL_OVERHEAD)
    length = keys.open_into(blob.body, opened)
    if not decompressed:
        return length == len(expected) and opened.startswith(expected)
    frame = memoryview(opened)[:length]
    if blob.length_plain > _SMALL:
        return _holds(frame, expected)
    return _is_same(decompress(frame, blob.length_plain, "a new blob"), expected)


def _holds(frame: Buffer, plaintext: Buffer) -> bool:
    """Whether a frame holds the plaintext, seen step by step: another copy of what is large is not made."""
    view = memoryview(plaintext)
    scratch = _codecs.scratch
    at = 0
    try:
        with _codecs.decompressor.stream_reader(frame) as reader:
            while length := reader.readinto(scratch):
                part = scratch if length == len(scratch) else scratch[:length]
                if not _is_same(part, view[at : at + length]):
                    return False
                at += length
    except zstandard.ZstdError:
        return False
    return at == len(view)


def _is_same(one: bytes | bytearray, other: Buffer) -> bool:
    """As `==`, which compares a memoryview byte by byte, at a fifth of the speed of reading the memory."""
    return len(one) == len(other) and one.startswith(other)


def entry_of(blob: SealedBlob, offset: int) -> PackEntry:
    """The entry of a sealed blob that lies at `offset` of its pack."""
    return PackEntry(blob.id, blob.kind, offset, blob.length_sealed, blob.length_plain if blob.compressed else 0)


__all__ = [
    "LEVEL",
    "SEAL_OVERHEAD",
    "Compression",
    "Plaintexts",
    "compress",
    "decompress",
    "entry_of",
    "open_blob",
    "seal_again",
    "seal_batch",
]
