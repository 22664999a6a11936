"""A device's own tree, which changes between its backups, and what a tree is compared by.

Kept true: a tree is what its seed makes of it. Many of its files have contents that the other devices' trees have, had,
or will have again, so a backup often refers to what another device's retention is just removing.
"""

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random

_KIB = 1 << 10
_CONTENTS = 48  # that all devices draw from
_SHARED_SIZES = (40 * _KIB, 2500 * _KIB)
_SMALL_SIZES = (0, 12 * _KIB)
_LARGE_SIZES = (800 * _KIB, 4000 * _KIB)
_CHANGES = (4, 14)  # at once
_SHARED, _SMALL, _LARGE, _FOLDERS = 16, 60, 3, 8
_MODES = (0o600, 0o640, 0o644, 0o755, 0o4711)
_TIMES_NS = (10**18, 17 * 10**17)


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of a tree: kind and permissions, time of modification, and a file's SHA-256 or a link's target."""

    mode: int
    mtime_ns: int
    content: str


Manifest = Mapping[str, Entry]  # by the path below the tree's root, which is the empty one


def manifest(root: Path) -> Manifest:
    """What there is in a tree. Raises OSError."""
    return {"": _entry(root)} | {str(path.relative_to(root)): _entry(path) for path in root.rglob("*")}


def differences(expected: Manifest, found: Manifest) -> Iterator[str]:
    """In what a tree is other than expected, a line for each path."""
    for path in sorted(expected.keys() | found.keys()):
        before, after = expected.get(path), found.get(path)
        if before is None or after is None:
            yield f"{path or '.'} {'was not there' if before is None else 'is missing'}"
        elif before != after:
            wrong = [name for name in Entry.__dataclass_fields__ if getattr(before, name) != getattr(after, name)]
            yield f"{path or '.'} has another {' and '.join(wrong)}"


class Tree:
    """The tree of one device. `contents` is the seed of what all devices draw from."""

    def __init__(self, root: Path, random: Random, contents: str) -> None:
        self.root = root
        self._random = random
        self._contents = contents
        self._changes: tuple[Callable[[], None], ...] = (
            self._share, self._share, self._share, self._write_small, self._write_small, self._write_large,
            self._overwrite, self._append, self._remove, self._move, self._touch, self._permit, self._link,
        )  # fmt: skip
        for number in range(_FOLDERS):
            (root / f"folder-{number}").mkdir(parents=True)
        for change in (self._share, self._write_small, self._write_large):
            for _ in range(8):
                change()

    def change(self) -> None:
        """Change something here and there."""
        for _ in range(self._random.randint(*_CHANGES)):
            self._random.choice(self._changes)()

    def freshen(self, size: int) -> None:
        """Have a file of so many bytes that nobody has stored yet."""
        (self.root / "fresh").write_bytes(self._random.randbytes(size))

    def _share(self) -> None:
        """A file with one of the contents that other devices have too."""
        number = self._random.randrange(_CONTENTS)
        content = Random(f"{self._contents}/{number}")
        body = content.randbytes(content.randint(*_SHARED_SIZES))
        self._write(f"shared-{self._random.randrange(_SHARED):02}", body)

    def _write_small(self) -> None:
        body = self._random.randbytes(self._random.randint(*_SMALL_SIZES))
        self._write(f"small-{self._random.randrange(_SMALL):02}", body)

    def _write_large(self) -> None:
        body = self._random.randbytes(self._random.randint(*_LARGE_SIZES))
        self._write(f"large-{self._random.randrange(_LARGE)}", body)

    def _overwrite(self) -> None:
        path = self._some_file()
        with path.open("r+b") as file:
            file.seek(self._random.randint(0, path.stat().st_size))
            file.write(self._random.randbytes(self._random.randint(1, 60 * _KIB)))

    def _append(self) -> None:
        with self._some_file().open("ab") as file:
            file.write(self._random.randbytes(self._random.randint(1, 60 * _KIB)))

    def _remove(self) -> None:
        files = self._files()
        if len(files) > _FOLDERS:
            self._random.choice(files).unlink()

    def _move(self) -> None:
        path = self._some_file()
        path.rename(self._folder() / path.name)

    def _touch(self) -> None:
        time_ns = self._random.randint(*_TIMES_NS)
        os.utime(self._some_file(), ns=(time_ns, time_ns))

    def _permit(self) -> None:
        self._some_file().chmod(self._random.choice(_MODES))

    def _link(self) -> None:
        path = self._folder() / f"link-{self._random.randrange(4)}"
        path.unlink(missing_ok=True)
        path.symlink_to(f"nowhere/{self._random.randrange(1000)}")

    def _write(self, name: str, body: bytes) -> None:
        (self._folder() / name).write_bytes(body)

    def _folder(self) -> Path:
        return self.root / f"folder-{self._random.randrange(_FOLDERS)}"

    def _some_file(self) -> Path:
        return self._random.choice(self._files())

    def _files(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("*") if path.is_file() and not path.is_symlink())


def _entry(path: Path) -> Entry:
    found = path.lstat()
    content = ""
    if stat.S_ISREG(found.st_mode):
        with path.open("rb") as file:
            content = _digest(file.read())
    elif stat.S_ISLNK(found.st_mode):
        content = str(path.readlink())
    return Entry(found.st_mode, found.st_mtime_ns, content)


def _digest(body: bytes) -> str:
    return sha256(body).hexdigest()
