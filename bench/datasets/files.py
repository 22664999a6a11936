"""Many small files, and few that do not compress."""

from collections.abc import Callable, Iterator
from pathlib import Path

from bench.datasets.content import KIB, MIB, Noise, records, text
from bench.datasets.dataset import Dataset, written

SMALL_ABOUT = """\
63,000 files, about 1.25 GB, 25 to a folder. Shares of the files: 2 % are empty, 28 % have 64 B to 1 KiB, 39 % 1 to \
8 KiB, 20 % 8 to 32 KiB, 8 % 32 to 128 KiB, 3 % 128 to 512 KiB, each doubling as likely as the next. 60 % are text, \
20 % records, 10 % incompressible, 10 % copies of other files."""
TINY_ABOUT = """\
63,000 files of 64 B to 1 KiB of text, about 20 MB, 25 to a folder; no duplicates."""
NOISE_ABOUT = """\
8 files of 64 MiB each that do not compress, as films and encrypted files; no duplicates."""

_FILES = 63_000
_NOISE_FILES = 8
_FILES_A_FOLDER = 25
_FOLDERS_A_FOLDER = 40
_RECENT = 512
# (until which of 100 draws, least, most)
_SIZES = [
    (30, 64, KIB),
    (69, KIB, 8 * KIB),
    (89, 8 * KIB, 32 * KIB),
    (97, 32 * KIB, 128 * KIB),
    (100, 128 * KIB, 512 * KIB),
]
_EMPTY = 2


def _small_size(noise: Noise) -> int:
    drawn = noise.below(100)
    if drawn < _EMPTY:
        return 0
    return next(noise.size(least, most) for until, least, most in _SIZES if drawn < until)


def write_small(root: Path, scale: float) -> None:
    noise = Noise("small files")
    prose, tables = text(), records()
    kinds: list[Callable[[Noise, int], bytes]] = [prose.make] * 6 + [tables.make] * 2 + [Noise.bytes]
    recent: list[bytes] = []
    for number, path in enumerate(paths(root, int(_FILES * scale))):
        kind = noise.below(10)
        if kind < len(kinds) or not recent:
            body = kinds[kind % len(kinds)](noise, _small_size(noise))
            recent[number % _RECENT : number % _RECENT + 1] = [body]
        else:
            body = recent[noise.below(len(recent))]
        path.write_bytes(body)


def write_tiny(root: Path, scale: float) -> None:
    noise, prose = Noise("tiny files"), text()
    for path in paths(root, int(_FILES * scale)):
        path.write_bytes(prose.make(noise, noise.size(64, KIB)))


def write_noise(root: Path, scale: float) -> None:
    noise = Noise("incompressible")
    for number in range(_NOISE_FILES):
        with (root / f"film-{number}.bin").open("wb") as file:
            for _ in range(int(64 * scale)):
                file.write(noise.bytes(MIB))


def paths(root: Path, count: int) -> Iterator[Path]:
    """Names for `count` files in folders two deep, which are made."""
    for number in range(count):
        place = number // _FILES_A_FOLDER
        folder = root / f"{place // _FOLDERS_A_FOLDER:03d}" / f"{place % _FOLDERS_A_FOLDER:02d}"
        if number % _FILES_A_FOLDER == 0:
            folder.mkdir(parents=True)
        yield folder / f"file-{number:06d}.dat"


SMALL = Dataset("small", SMALL_ABOUT, written(write_small))
TINY = Dataset("tiny", TINY_ABOUT, written(write_tiny))
NOISE = Dataset("incompressible", NOISE_ABOUT, written(write_noise))
