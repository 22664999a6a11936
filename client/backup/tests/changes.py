"""What may happen to a file or a folder between two backups."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def add(path: Path) -> None:
    (path.parent / "new").write_text("new")


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 2))


def change_in_secret(path: Path) -> None:
    """Other content of the same length, and the times put back."""
    before = path.stat()
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def rewrite(path: Path) -> None:
    path.write_text(f"{path.read_text()} and more")


def replace_by_copy(path: Path) -> None:
    """Another inode with everything else the same."""
    copy = path.with_name(".copy")
    shutil.copy2(path, copy)
    copy.replace(path)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "within").write_text("within")


def replace_by_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("elsewhere")


def give_attribute(path: Path) -> None:
    try:
        os.setxattr(path, "user.oort", b"attribute")
    except OSError:  # this file system has none: the change time is as good a change
        path.chmod(0o750)


def rename(path: Path) -> None:
    path.rename(path.with_name("renamed"))


def replace_folder_by_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("file")


MUTATIONS: dict[str, Callable[[Path], None]] = {
    "nothing": lambda _: None,
    "added": add,
    "touched": touch,
    "changed in secret": change_in_secret,
    "rewritten": rewrite,
    "mode": lambda path: path.chmod(0o600),
    "attribute": give_attribute,
    "renamed": rename,
    "replaced by a copy": replace_by_copy,
    "replaced by a folder": replace_by_folder,
    "replaced by a link": replace_by_link,
    "removed": Path.unlink,
    "linked": lambda path: os.link(path, path.with_name("linked")),
    "folder's mode": lambda path: path.parent.chmod(0o700),
    "folder's time": lambda path: touch(path.parent),
    "folder's attribute": lambda path: give_attribute(path.parent),
    "folder removed": lambda path: shutil.rmtree(path.parent),
    "folder renamed": lambda path: rename(path.parent),
    "folder becomes a file": lambda path: replace_folder_by_file(path.parent),
}
