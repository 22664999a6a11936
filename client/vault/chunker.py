"""Where files are cut: FastCDC with a minimum of 512 KiB, an average of 1 MiB and a maximum of 8 MiB.

Kept true: the cuts depend on the content and the seed alone, never on how the content was read, and stay the same
for ever (golden vectors in tests/), since every other cut would send all data again.

The seed is derived from the data keys. That is hygiene, not secrecy: 65 chunk lengths of a known file give it away.
What hides chunk lengths is how packs are filled and sent.
"""

import hashlib
import hmac
from collections.abc import Callable, Iterator

from pyfastcdc import FastCDC

from client.vault.blobs import Buffer
from client.vault.keys import DataKeys

MIN_CHUNK = 512 << 10
AVERAGE_CHUNK = 1 << 20
MAX_CHUNK = 8 << 20
_BUFFER = MAX_CHUNK + (4 << 20)
_SEED_BITS = 63  # what pyfastcdc takes


def chunker_seed(keys: DataKeys) -> int:
    """The vault's seed: 63 bits of HMAC-SHA-256 under the encryption key."""
    digest = hmac.new(keys.encrypt, b"oort chunker seed v1", hashlib.sha256).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - _SEED_BITS)


class Chunker:
    """Cuts content into chunks. One object may be used by several threads; each call keeps its own state."""

    def __init__(self, seed: int) -> None:
        if not 0 <= seed < 1 << _SEED_BITS:
            raise ValueError(f"a seed has {_SEED_BITS} bits")
        self._cutter = FastCDC(AVERAGE_CHUNK, min_size=MIN_CHUNK, max_size=MAX_CHUNK, normalized_chunking=1, seed=seed)

    def lengths(self, content: Buffer) -> list[int]:
        """The lengths of the chunks of a whole content; their sum is its length."""
        if len(content) <= MIN_CHUNK:
            return [len(content)] if content else []
        return [chunk.length for chunk in self._cutter.cut_buf(content)]

    def cut(self, content: Buffer) -> list[memoryview]:
        """The chunks of a whole content, as views of it."""
        view = memoryview(content)
        offset, chunks = 0, []
        for length in self.lengths(content):
            chunks.append(view[offset : offset + length])
            offset += length
        return chunks

    def stream(self, readinto: Callable[[memoryview], int | None]) -> Iterator[bytes]:
        """The chunks of what `readinto` gives (as a raw file's does) until it gives 0. Holds 12 MiB.

        A cut is final when its maximum length was looked at or the end is known; until then more is read.
        """
        buffer = bytearray(_BUFFER)
        view = memoryview(buffer)
        start = end = 0
        at_end = False
        while True:
            while not at_end and end - start < MAX_CHUNK:
                if end == _BUFFER:
                    view[: end - start] = bytes(view[start:end])
                    start, end = 0, end - start
                read = readinto(view[end:])
                at_end = not read
                end += read or 0
            if start == end:
                return
            length = next(iter(self._cutter.cut_buf(view[start:end]))).length
            yield bytes(view[start : start + length])
            start += length
