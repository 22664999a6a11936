"""What the vault's content is made of: blobs, named by the SHA-256 of their plaintext.

Kept true: a blob id is 32 raw bytes everywhere in the program; hex is for JSON, file names and people.
"""

from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple

Buffer = bytes | bytearray | memoryview
BlobId = bytes  # 32 bytes, the SHA-256 of the plaintext

ID_BYTES = 32


class BlobKind(StrEnum):
    """What a blob holds; the value is its name in index files."""

    DATA = "data"
    TREE = "tree"


def blob_id(plaintext: Buffer) -> BlobId:
    """The name that `plaintext` has as a blob."""
    return sha256(plaintext).digest()


class SealedBlob(NamedTuple):
    """A blob ready for a pack: `body` is IV, ciphertext and tag.

    `length_plain` is the number of bytes before compression, `compressed` says whether `body` holds a zstd frame.
    """

    id: BlobId
    kind: BlobKind
    length_plain: int
    compressed: bool
    body: Buffer

    @property
    def length_sealed(self) -> int:
        return len(self.body)


class PackEntry(NamedTuple):
    """Where a blob lies in its pack: `length` sealed bytes from `offset`.

    `uncompressed_length` is the plain length of a compressed blob, and 0 for one that is not compressed, as the
    pack header and the index have it.
    """

    id: BlobId
    kind: BlobKind
    offset: int
    length: int
    uncompressed_length: int

    @property
    def length_plain(self) -> int:
        return self.uncompressed_length or self.length - SEAL_OVERHEAD


SEAL_OVERHEAD = 32  # IV and tag, 16 bytes each
