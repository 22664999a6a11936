"""Trees to measure with, the same bytes from the same seed on every machine.

Sizes and kinds of a mixed tree (shares of its bytes):

    share  files of           content
    10 %   1 to 16 KiB        text
    20 %   16 to 256 KiB      text
    25 %   256 KiB to 4 MiB   records (structured binary, compresses to about a third)
    25 %   16 to 64 MiB       records
    12 %   1 to 8 MiB         incompressible
     8 %   as the others      copies of earlier files
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

KIB = 1024
MIB = 1024 * KIB
_WORDS = 20_000
_FILES_A_FOLDER = 64
_COPY_SHARE = 0.08

Content = Callable[[Random, int], bytes]


def _vocabulary(random: Random) -> list[bytes]:
    letters = b"etaoinshrdlucmfwypvbgkjqxz"
    return [bytes(random.choices(letters, k=random.randint(2, 12))) for _ in range(_WORDS)]


def _text(words: list[bytes]) -> Content:
    phrases: list[bytes] = []

    def make(random: Random, size: int) -> bytes:
        if not phrases:
            phrases.extend(b" ".join(random.choices(words, k=8)) for _ in range(8_192))
        body = b"\n".join(random.choices(phrases, k=size // 48 + 1))
        return body[:size]

    return make


def _records(random: Random, size: int) -> bytes:
    """Runs of a repeating header, of counters and of noise, as in databases and programs."""
    parts = []
    left = size
    while left > 0:
        header = random.randbytes(24)
        noise = random.randbytes(random.randint(200, 1_200))
        run = header * random.randint(8, 64) + noise + bytes(random.randint(64, 512))
        parts.append(run)
        left -= len(run)
    return b"".join(parts)[:size]


def _noise(random: Random, size: int) -> bytes:
    return random.randbytes(size)


@dataclass(frozen=True, slots=True)
class Tree:
    """What was written: number of files and their bytes."""

    files: int
    size: int


def write_mixed_tree(root: Path, size: int, seed: int = 1) -> Tree:
    """Fill the empty folder `root` with about `size` bytes as the table above says."""
    random = Random(seed)
    text = _text(_vocabulary(random))
    classes: list[tuple[float, int, int, Content]] = [
        (0.10, KIB, 16 * KIB, text),
        (0.20, 16 * KIB, 256 * KIB, text),
        (0.25, 256 * KIB, 4 * MIB, _records),
        (0.25, 16 * MIB, 64 * MIB, _records),
        (0.12, MIB, 8 * MIB, _noise),
    ]
    paths = _paths(root)
    written: list[tuple[Path, int]] = []
    for share, least, most, content in classes:
        left = int(size * share)
        while left > 0:
            length = min(random.randint(least, most), left)
            path = next(paths)
            path.write_bytes(content(random, length))
            written.append((path, length))
            left -= length
    left = int(size * _COPY_SHARE)
    originals = list(written)
    while left > 0:
        original, length = random.choice(originals)
        path = next(paths)
        path.write_bytes(original.read_bytes())
        written.append((path, length))
        left -= length
    return Tree(files=len(written), size=sum(length for _, length in written))


def _paths(root: Path) -> Iterator[Path]:
    number = 0
    while True:
        folder = root / f"{number // _FILES_A_FOLDER:04d}"
        folder.mkdir(exist_ok=True)
        yield folder / f"file-{number:06d}.bin"
        number += 1
