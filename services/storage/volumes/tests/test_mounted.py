"""A node with several disks does not take the folder of one that is not mounted for an empty disk."""

import errno
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from services.common.errors import StartError
from services.storage.volumes import marker
from services.storage.volumes.mounted import note, require_mounted


def opened(*folders: Path, gone: Sequence[UUID] = ()) -> None:
    """As a start does it."""
    require_mounted(folders, gone)
    for folder in folders:
        folder.mkdir(exist_ok=True)
    note({folder: marker.claim(folder, "a")[0] for folder in folders}, gone)


def test_a_disk_that_is_not_mounted_is_missed_and_nothing_is_written_in_its_place(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    opened(first, second)
    opened(first, second)
    second.rename(tmp_path / "away")
    second.mkdir()
    with pytest.raises(StartError, match="second is not there: mount it"):
        opened(first, second)
    assert list(second.iterdir()) == []
    opened(first)
    second.rmdir()
    (tmp_path / "away").rename(second)
    opened(first, second)


def test_a_disk_that_is_mounted_elsewhere_or_added_or_taken_away_is_none_that_is_missed(tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    opened(first, second)
    second.rename(third)
    opened(first, third)
    first.rename(second)
    third.rename(first)
    opened(first, second)
    opened(first, second, third)
    opened(third)


def test_an_empty_disk_in_the_place_of_a_broken_one_is_told_from_it(tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    opened(first, second)
    second.rename(tmp_path / "broken")
    second.mkdir()
    marker.claim(second, "a")
    with pytest.raises(StartError, match="Give a disk that takes its place another folder"):
        opened(first, second)
    opened(first, third)


@pytest.mark.parametrize("others", [1, 2])
def test_a_disk_that_was_left_out_is_still_missed_and_another_takes_its_place_when_it_is_gone_for_good(
    tmp_path: Path, others: int
) -> None:
    stay, last = [tmp_path / str(number) for number in range(others)], tmp_path / "last"
    opened(*stay, last)
    _, broken = marker.read(last) or ("", UUID(int=0))
    last.rename(tmp_path / "broken")
    opened(*stay)
    opened(*stay)
    last.mkdir()
    with pytest.raises(StartError, match=f"OORT_GONE_DISKS={broken}"):
        opened(*stay, last)
    assert list(last.iterdir()) == []
    opened(*stay, last, gone=[broken])
    opened(*stay, last)  # it need not be said twice
    last.rename(tmp_path / "away")
    last.mkdir()
    with pytest.raises(StartError, match="is not there: mount it"):  # and excuses no other one
        opened(*stay, last, gone=[broken])


def test_a_disk_that_was_not_mounted_when_the_disks_were_noted_first_takes_its_place_again(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):  # as an earlier version has left them, which noted nothing
        folder.mkdir()
        marker.claim(folder, "a")
    second.rename(tmp_path / "disk")
    opened(first, second)
    _, below = marker.read(second) or ("", UUID(int=0))
    second.rename(tmp_path / "below")
    (tmp_path / "disk").rename(second)
    with pytest.raises(StartError, match=f"OORT_GONE_DISKS={below}"):
        opened(first, second)
    opened(first, second, gone=[below])
    opened(first, second)


def test_a_node_of_one_disk_notes_nothing(tmp_path: Path) -> None:
    opened(tmp_path / "only")
    assert not (tmp_path / "only" / "disks").exists()


def test_a_list_that_cannot_be_read_ends_the_start(tmp_path: Path) -> None:
    first = tmp_path / "first"
    opened(first)
    (first / "disks").write_text("no disk\n")
    with pytest.raises(StartError, match="which is no disk"):
        opened(first)


def test_a_full_disk_keeps_its_list_and_the_node_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    opened(first, second)
    before = (first / "disks").read_bytes()
    rename = Path.rename

    def is_full(path: Path, target: Path) -> Path:
        if path.is_relative_to(first):
            raise OSError(errno.ENOSPC, "full")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", is_full)
    note({first: uuid4(), second: uuid4()})
    assert (first / "disks").read_bytes() == before
    assert (second / "disks").read_bytes() != before
