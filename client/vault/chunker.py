"""Where files are cut: FastCDC with a minimum of 512 KiB, an average of 1 MiB and a maximum of 8 MiB.

Kept true: the cuts depend on the content and the seed alone, never on how the content was read, and stay the same
for ever (golden vectors in tests/), since every other cut would send all data again.

The seed is derived from the data keys. That is hygiene, not secrecy: 65 chunk lengths of a known file give it away.
What hides chunk lengths is how packs are filled and sent.
"""

import hashlib
import hmac
from collections.abc import Callable

from pyfastcdc import FastCDC

from client.vault.blobs import Buffer
from client.vault.keys import DataKeys

MIN_CHUNK = 512 << 10
AVERAGE_CHUNK = 1 << 20
MAX_CHUNK = 8 << 20
SEED_BITS = 63  # what pyfastcdc takes


def chunker_seed(keys: DataKeys) -> int:
    """The vault's seed: 63 bits of HMAC-SHA-256 under the encryption key."""
    digest = hmac.new(keys.encrypt, b"oort chunker seed v1", hashlib.sha256).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - SEED_BITS)


class Chunker:
    """Cuts content into chunks. One object may be used by several threads; each call keeps its own state."""

    def __init__(self, seed: int) -> None:
        if not 0 <= seed < 1 << SEED_BITS:
            raise ValueError(f"a seed has {SEED_BITS} bits")
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

    def cutter(self, readinto: Callable[[memoryview], int | None]) -> "Cutter":
        """Cuts what `readinto` gives (as a raw file's does) until it gives 0."""
        return Cutter(self._cutter, readinto)


class Cutter:
    """One content on its way from where it is read into chunks. For one thread.

    A cut before the end of what was read is final, since the chunker looks at nothing behind it; so is one at the
    greatest length, and the end.
    """

    def __init__(self, cutter: FastCDC, readinto: Callable[[memoryview], int | None]) -> None:
        self._cutter = cutter
        self._readinto = readinto
        self._carried = b""  # read, and not cut yet
        self.is_at_end = False

    def fill(self, buffer: memoryview) -> list[memoryview]:
        """Read until `buffer`, of MAX_CHUNK bytes, is full, and cut: the chunks are parts of it, empty only at the end.

        What is behind the last cut begins the next buffer. Raises what `readinto` does.
        """
        end = len(self._carried)
        buffer[:end] = self._carried
        while end < MAX_CHUNK and not self.is_at_end:
            read = self._readinto(buffer[end:])
            self.is_at_end = not read
            end += read or 0
        chunks: list[memoryview] = []
        start = 0
        while start < end:
            length = next(iter(self._cutter.cut_buf(buffer[start:end]))).length
            if start + length == end and length < MAX_CHUNK and not self.is_at_end:
                break
            chunks.append(buffer[start : start + length])
            start += length
        self._carried = bytes(buffer[start:end])
        return chunks
