"""One big file, as a disk image or a container of programs is."""

from collections.abc import Iterator
from pathlib import Path

from bench.datasets.content import GIB, KIB, MIB, Noise, records, text
from bench.datasets.dataset import Dataset, written

ABOUT = """\
One file of 2 GiB in extents. Shares of its bytes: 20 % zeros, 25 % text, 30 % records, 15 % incompressible, in \
extents of 64 KiB to 8 MiB; 10 % are copies of 8 to 16 MiB of what stands before."""

_SIZE = 2 * GIB
_LEAST_COPY = 8 * MIB
_STEP = 64 * MIB  # each has its share of everything


def write(root: Path, scale: float) -> None:
    with (root / "disk.img").open("wb+") as image:
        for extent in _extents(int(_SIZE * scale)):
            if isinstance(extent, bytes):
                image.write(extent)
            else:
                end = image.tell()
                image.seek(extent.start)
                copy = image.read(len(extent))
                image.seek(end)
                image.write(copy)


def _extents(size: int) -> Iterator[bytes | range]:
    """What follows what: new bytes, or a range of those written."""
    noise = Noise("image")
    kinds = [
        (25, text().make),
        (30, records().make),
        (20, lambda _, length: bytes(length)),
        (15, Noise.bytes),
    ]
    written = 0
    while written < size:
        step = min(_STEP, size - written)
        left = {make: step * share // 100 for share, make in kinds}
        while left:
            make = list(left)[noise.below(len(left))]
            length = min(noise.size(64 * KIB, 8 * MIB), left[make])
            yield make(noise, length)
            written += length
            left[make] -= length
            if not left[make]:
                del left[make]
        while rest := min(size - written, -written % _STEP):
            length = min(rest, noise.size(_LEAST_COPY, 2 * _LEAST_COPY), written)
            start = noise.below(written - length + 1)
            yield range(start, start + length)
            written += length


IMAGE = Dataset("image", ABOUT, written(write))
