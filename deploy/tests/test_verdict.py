"""What the demonstration says of a restored tree."""

import os
import shutil
import time
from pathlib import Path

import pytest

from client.backup import regular
from deploy.demo import run
from deploy.demo.verdict import Expectation, compare, equality


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    """An original and an equal copy of it."""
    original, restored = tmp_path / "original", tmp_path / "restored"
    (original / "folder").mkdir(parents=True)
    (original / "folder" / "file").write_text("text")
    (original / "link").symlink_to("folder")
    shutil.copytree(original, restored, symlinks=True)
    return original, restored


def _expectation(began_ns: int | None = None, unreadable: frozenset[Path] = frozenset()) -> Expectation:
    return Expectation(time.time_ns() + 10**12 if began_ns is None else began_ns, unreadable, as_root=os.geteuid() == 0)


def test_equal_trees_have_no_difference(trees: tuple[Path, Path]) -> None:
    found = compare(*trees, _expectation())
    assert (found.different, found.changed_meanwhile) == ([], [])
    assert (found.files, found.folders, found.links, found.bytes) == (1, 2, 1, 4)


def test_a_changed_file_is_a_difference_unless_the_source_changed_after_the_backup_began(
    trees: tuple[Path, Path],
) -> None:
    original, _ = trees
    (original / "folder" / "file").write_text("other")
    assert len(compare(*trees, _expectation()).different) >= 1
    later = compare(*trees, _expectation(began_ns=0))
    assert later.different == []
    assert len(later.changed_meanwhile) >= 1


def test_what_was_not_restored_is_a_difference_unless_it_was_unreadable(trees: tuple[Path, Path]) -> None:
    original, restored = trees
    shutil.rmtree(restored / "folder")
    os.utime(restored, ns=(original.stat().st_atime_ns, original.stat().st_mtime_ns))
    assert compare(*trees, _expectation()).different == [f"{original / 'folder'} is missing"]
    assert compare(*trees, _expectation(unreadable=frozenset([original / "folder"]))).different == []


def test_an_original_that_vanishes_while_it_is_compared_counts_as_changed_meanwhile(
    trees: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, _ = trees
    began_ns = time.time_ns() - 10**9
    listdir = os.listdir

    def vanishing(path: bytes) -> list[bytes]:
        names = listdir(path)
        if path == os.fsencode(original / "folder"):
            (original / "folder" / "file").unlink()
        return names

    monkeypatch.setattr(os, "listdir", vanishing)
    found = compare(*trees, _expectation(began_ns))
    assert found.different == []
    assert f"{original / 'folder' / 'file'} has vanished from the original" in found.changed_meanwhile


def test_the_verdict_says_no_more_than_was_compared() -> None:
    assert equality(unreadable=False, changed=False) == "Every restored file equals its original."
    assert equality(unreadable=False, changed=True) == "Every file that did not change meanwhile equals its original."
    both = equality(unreadable=True, changed=True)
    assert both == "Every file that could be read and did not change meanwhile equals its original."


def test_the_demonstration_knows_the_engine_s_word_for_a_file_that_changed() -> None:
    assert run._CHANGED in regular.CHANGED
