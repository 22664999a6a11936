import os
from collections.abc import Callable
from pathlib import Path

import pytest

from client.restore.compare import differences


def a_pair(folder: Path) -> tuple[Path, Path]:
    for name in ("one", "other"):
        root = folder / name
        (root / "sub").mkdir(parents=True)
        (root / "file").write_text("text")
        (root / "twin").hardlink_to(root / "file")
        (root / "link").symlink_to("file")
        os.mkfifo(root / "pipe")
        for path in (*root.iterdir(), root):
            os.utime(path, ns=(10**18, 10**18), follow_symlinks=False)
    return folder / "one", folder / "other"


def test_equal_trees_do_not_differ(tmp_path: Path) -> None:
    assert list(differences(*a_pair(tmp_path))) == []


def relink(root: Path) -> None:
    (root / "link").unlink()
    (root / "link").symlink_to("sub")
    os.utime(root / "link", ns=(10**18, 10**18), follow_symlinks=False)
    os.utime(root, ns=(10**18, 10**18))


def separate(root: Path) -> None:
    (root / "twin").unlink()
    (root / "twin").write_text("text")
    os.utime(root / "twin", ns=(10**18, 10**18))
    os.utime(root, ns=(10**18, 10**18))


def rewrite(root: Path) -> None:
    (root / "file").write_text("TEXT")
    os.utime(root / "file", ns=(10**18, 10**18))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (rewrite, {"file: has other content", "twin: has other content"}),
        (relink, {"link: links to another target"}),
        (separate, {"twin: is no longer the same file as its other names"}),
        (lambda root: (root / "pipe").chmod(0o600), {"pipe: has mode prw------- and had prw-r--r--"}),
        (lambda root: os.setxattr(root / "sub", "user.a", b"b"), {"sub: has another attribute user.a"}),
        (
            lambda root: os.utime(root / "link", ns=(5, 5), follow_symlinks=False),
            {"link: was modified at 5 ns and had been at 1000000000000000000 ns"},
        ),
    ],
)
def test_a_change_is_named(tmp_path: Path, change: Callable[[Path], object], found: set[str]) -> None:
    one, other = a_pair(tmp_path)
    (one / "pipe").chmod(0o644)
    (other / "pipe").chmod(0o644)
    change(other)
    assert {str(difference) for difference in differences(one, other)} == found


def test_missing_and_added_names_and_other_kinds_are_named(tmp_path: Path) -> None:
    one, other = a_pair(tmp_path)
    (other / "pipe").unlink()
    (other / "more").touch()
    (other / "sub").rmdir()
    (other / "sub").touch()
    for root in (one, other):
        os.utime(root, ns=(10**18, 10**18))
    assert {str(difference) for difference in differences(one, other)} == {
        "pipe: is missing",
        "more: was not there",
        "sub: is a file and was a folder",
    }


def test_a_hole_that_was_filled_is_named_and_a_new_one_is_not(tmp_path: Path) -> None:
    full, sparse = tmp_path / "full", tmp_path / "sparse"
    full.write_bytes(b"x" * 4096 + bytes(60_000) + b"end")
    sparse.write_bytes(b"x" * 4096)
    os.truncate(sparse, 64_096)
    with sparse.open("ab") as file:
        file.write(b"end")
    for path in (full, sparse):
        os.utime(path, ns=(5, 5))
    assert sparse.stat().st_blocks < full.stat().st_blocks
    assert list(differences(full, sparse, holes=True)) == []
    assert [str(found) for found in differences(sparse, full, holes=True)] == [".: takes up disk where it had a hole"]
    assert list(differences(sparse, full)) == []
