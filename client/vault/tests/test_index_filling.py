"""Large indexes: what is entered in several batches, parts and transactions is found like any other."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from client.vault import index_filling
from client.vault.blobs import BlobKind, PackEntry
from client.vault.index_cache import LmdbTable
from client.vault.index_files import IndexedPack
from client.vault.index_places import PLACE, Places
from client.vault.index_tables import BrokenTable

Files = list[tuple[bytes, Sequence[IndexedPack]]]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_filling, "_BATCH_BLOBS", 1000)
    monkeypatch.setattr(index_filling, "_WAITING_BLOBS", 150)
    monkeypatch.setattr(index_filling, "_DIRTY_PAGES", 4)


def a_pack(blobs: int) -> IndexedPack:
    entries = [PackEntry(os.urandom(32), BlobKind.DATA, 100 * number, 100, 0) for number in range(blobs)]
    return IndexedPack.of(os.urandom(32), entries)


def some_files() -> Files:
    return [(os.urandom(32), [a_pack(10) for _ in range(10)]) for _ in range(35)]


def holds(table: LmdbTable, file: bytes, packs: Sequence[IndexedPack]) -> bool:
    """Whether a file counts as kept; if so, all that it lists must be found."""
    numbers = table.records_of_file(file)
    if numbers is None:
        return False
    for number, pack in zip(numbers, packs, strict=True):
        assert number in table.records_of_pack(pack.pack)
        for position, entry in enumerate(pack.entries):
            assert (number, position) in table.places(entry.id)
    return True


def test_all_blobs_of_many_batches_are_found(tmp_path: Path) -> None:
    files = some_files()
    table = LmdbTable(tmp_path / "cache")
    table.add_files(files)
    assert all(holds(table, *file) for file in files)
    assert list(table.doubled()) == []
    table.close()


def test_a_pack_that_several_files_list_is_kept_once(tmp_path: Path) -> None:
    files = some_files()
    shared = files[0][1]
    files += [(os.urandom(32), [*shared, a_pack(5)]) for _ in range(3)]
    table = LmdbTable(tmp_path / "cache")
    table.add_files(files)
    table.add_files([(os.urandom(32), shared)])
    assert all(holds(table, *file) for file in files)
    assert all(len(table.records_of_pack(pack.pack)) == 1 for pack in shared)
    assert list(table.doubled()) == []
    table.close()


def test_blobs_in_several_places_are_told_once(tmp_path: Path) -> None:
    packs = [a_pack(3) for _ in range(3)]
    twice = IndexedPack.of(os.urandom(32), [packs[0].entries[1], packs[1].entries[2]])
    thrice = IndexedPack.of(os.urandom(32), [packs[0].entries[1]])
    table = LmdbTable(tmp_path / "cache")
    table.add_files([(os.urandom(32), [*packs, twice, thrice])])
    assert list(table.doubled()) == sorted([packs[0].entries[1].id, packs[1].entries[2].id])
    table.close()


@pytest.mark.parametrize("room", range(48, 400, 32))
def test_where_the_disk_becomes_full_a_file_that_counts_is_whole(room: int, tmp_path: Path) -> None:
    files = some_files()
    table = LmdbTable(tmp_path / "cache", budget=room << 10)
    with pytest.raises(BrokenTable):
        table.add_files(files)
    table.close()

    table = LmdbTable(tmp_path / "cache")
    kept = [holds(table, *file) for file in files]
    assert not all(kept)
    table.add_files(file for file, is_kept in zip(files, kept, strict=True) if not is_kept)
    assert all(holds(table, *file) for file in files)
    table.close()


class Stopped(Exception):
    """What the reading of an index file ends with."""


def test_files_before_one_that_cannot_be_read_may_be_kept_and_are_whole(tmp_path: Path) -> None:
    files = some_files()

    def stopping() -> Iterator[tuple[bytes, Sequence[IndexedPack]]]:
        yield from files[:15]
        raise Stopped

    table = LmdbTable(tmp_path / "cache")
    with pytest.raises(Stopped):
        table.add_files(stopping())
    assert [holds(table, *file) for file in files[:15]].count(True) == 10  # one batch
    table.add_files(files)
    assert all(holds(table, *file) for file in files)
    table.close()


def test_two_that_enter_the_same_files_at_once_both_find_all(tmp_path: Path) -> None:
    files = some_files()
    one, two = LmdbTable(tmp_path / "cache"), LmdbTable(tmp_path / "cache")

    def while_the_other_is_under_way() -> Iterator[tuple[bytes, Sequence[IndexedPack]]]:
        for number, file in enumerate(files):
            yield file
            if number == 5:
                two.add_files(files)

    one.add_files(while_the_other_is_under_way())
    assert all(holds(table, *file) for file in files for table in (one, two))
    one.close()
    two.close()


def test_places_come_in_order_whatever_the_number_of_parts() -> None:
    packs = [a_pack(50) for _ in range(20)]
    places = Places()
    for first in range(0, 20, 4):
        places.add_run(list(enumerate(packs))[first : first + 4])
    expected = sorted(
        (entry.id, PLACE.pack(number, position))
        for number, pack in enumerate(packs)
        for position, entry in enumerate(pack.entries)
    )
    assert len(places) == len(expected)
    for parts in (1, 2, 7, 300):
        assert [place for part in places.slices(parts) for place in part] == expected
