"""Bytes to measure with: the same from the same seed on every machine, made faster than they are read.

Kept true: everything comes from the AES-CTR keystream of a seed, so it depends on no library's random numbers and on no
byte order; what is made of pieces repeats them as real data does, and compresses as stated.
"""

import hashlib
import sys
from array import array
from collections.abc import Iterator
from itertools import accumulate
from operator import itemgetter

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

_PIECES = 65_536
_COMMON = 600
_STOCK = 32 * MIB
_LEAST_CUT = 4 * KIB
_CUTS = 64  # drawn at once
_LETTERS = b" etaoinshrdlucmfwypvbgkjqxz\n.,ETAOISH0123456789-'()\"/:=_"


class Noise:
    """A stream of bytes that look random, and numbers drawn from it."""

    def __init__(self, *seed: object) -> None:
        key = hashlib.sha256(repr(seed).encode()).digest()
        self._stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def bytes(self, size: int) -> bytes:
        return self._stream.update(bytes(size))

    def words(self, count: int) -> list[int]:
        """Numbers below 65,536."""
        numbers = array("H", self.bytes(2 * count))
        if sys.byteorder == "big":
            numbers.byteswap()
        return numbers.tolist()

    def below(self, limit: int) -> int:
        return int.from_bytes(self.bytes(8), "little") % limit

    def between(self, least: int, most: int) -> int:
        """Evenly from `least` to `most`, both included."""
        return least + self.below(most - least + 1)

    def size(self, least: int, most: int) -> int:
        """From `least` to `most`, a power of two times it, each doubling as likely as the next, as files are."""
        floor = least << self.below((most // least).bit_length() - 1)
        return self.between(floor, 2 * floor)


class Prose:
    """Data that repeats pieces of a vocabulary, as text and programs do.

    Made once, as a stock of 32 MiB; what is asked for is cut from it anywhere, a few KiB each time, so that compressors
    find what lies near and deduplication finds nothing.
    """

    def __init__(self, seed: str, alphabet: bytes, lengths: tuple[int, int], common: int) -> None:
        """`common` of 256 pieces are among a few hundred, the others rare; lengths of pieces in bytes."""
        noise = Noise("vocabulary", seed)
        least, most = lengths
        sizes = [least + number % (most - least + 1) for number in noise.words(_PIECES)]
        ends = list(accumulate(sizes))
        body = noise.bytes(ends[-1]).translate(alphabet)
        distinct = [body[end - size : end] for end, size in zip(ends, sizes, strict=True)]
        slots = _PIECES * common // 256
        pieces = [distinct[number % _COMMON] for number in range(slots)] + distinct[slots:]
        parts = []
        left = _STOCK
        while left > 0:
            parts.append(b"".join(itemgetter(*noise.words(_PIECES))(pieces)))
            left -= len(parts[-1])
        self._stock = memoryview(b"".join(parts))

    def make(self, noise: Noise, size: int) -> bytes:
        """`size` bytes, from places that `noise` says."""
        return b"".join(self._cuts(noise, size))

    def _cuts(self, noise: Noise, size: int) -> Iterator[memoryview]:
        last = len(self._stock) - 2 * _LEAST_CUT
        while size > 0:
            for place, length in zip(*[iter(noise.words(2 * _CUTS))] * 2, strict=True):
                start = (place << 16 | length) % last
                cut = self._stock[start : start + min(size, _LEAST_CUT + length % _LEAST_CUT)]
                yield cut
                size -= len(cut)
                if not size:
                    return


def _skewed(symbols: bytes, flat: int) -> bytes:
    """A table for bytes.translate that makes early symbols likelier, the less so the larger `flat`."""
    weights = [1_000_000 // (place + flat) for place in range(len(symbols))]
    table = bytearray()
    for symbol, edge in zip(symbols, accumulate(weights), strict=True):
        table += bytes([symbol]) * max(0, 256 * edge // sum(weights) - len(table))
    return bytes(table)


def text() -> Prose:
    """Prose and source code: level 3 of zstd leaves about a third."""
    return Prose("text", _skewed(_LETTERS, 4), (4, 28), common=150)


def records() -> Prose:
    """Programs and tables: level 3 of zstd leaves about a half."""
    return Prose("records", _skewed(bytes(range(256)), 12), (4, 48), common=110)
