"""What every set of data to measure with is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Tree:
    """What lies below a folder: its number of files and their bytes."""

    files: int
    size: int

    @classmethod
    def of(cls, root: Path) -> "Tree":
        """Counted. Links count as nothing."""
        sizes = [path.lstat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
        return cls(len(sizes), sum(sizes))


@dataclass(frozen=True, slots=True)
class Dataset:
    """Data to measure with, which `place` puts somewhere.

    `about` states the full size, the histogram of sizes and the share of duplicates. `change`, where there is one,
    alters the data as its user would between two backups.
    """

    name: str
    about: str
    place: Callable[[Path, float], Path]
    change: Callable[[Path], None] | None = None


def written(write: Callable[[Path, float], None]) -> Callable[[Path, float], Path]:
    """Data that `write` makes: `scale` of the full size, the same bytes on every machine, in an empty folder."""

    def place(folder: Path, scale: float) -> Path:
        source = folder / "source"
        source.mkdir()
        write(source, scale)
        return source

    return place


def folder(path: Path) -> Dataset:
    """A folder of the user's, as it is, which is only read."""
    return Dataset("folder", f"`{path}` as it is.", lambda _folder, _scale: path)
