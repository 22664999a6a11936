import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from client.errors import DamagedVault, ObjectMissing, StoreFull
from client.vault.blobs import BlobKind
from client.vault.index import Index, IndexWriter
from client.vault.index_files import IndexedPack, IndexFile
from client.vault.index_tables import MemoryTable
from client.vault.tests.a_made_up_index import Files, a_pack, an_entry, found_all, indexed
from domain.names import ObjectName


@pytest.fixture(params=["folder", "temporary", "memory"])
def open_index(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Files], Index]]:
    """Opens an index on each kind of table."""
    if request.param == "memory":
        monkeypatch.setattr("client.vault.index.TemporaryTable", MemoryTable)
    opened: list[Index] = []

    def open_index(files: Files) -> Index:
        opened.append(Index(files, tmp_path / "cache" if request.param == "folder" else None))
        return opened[-1]

    yield open_index
    for index in opened:
        index.close()


OpenIndex = Callable[[Files], Index]


def test_every_blob_of_every_file_is_found(open_index: OpenIndex) -> None:
    packs = [a_pack() for _ in range(6)]
    index = open_index(Files(packs[:3], packs[3:]))
    for name, entries in packs:
        for entry in entries:
            location = index.find(BlobKind.DATA, entry.id)
            assert location == (name, entry)
            assert (BlobKind.DATA, entry.id) in index
            assert index.packs_of(BlobKind.DATA, entry.id) == [name]
        assert index.entries_of_pack(name) == entries
    assert dict(index.packs()) == dict(packs)
    assert index.find(BlobKind.DATA, os.urandom(32)) is None
    assert index.entries_of_pack(a_pack()[0]) == []


def test_of_many_blobs_each_is_found_in_whatever_order_they_come(open_index: OpenIndex) -> None:
    trees = a_pack(*(an_entry(100 * number, BlobKind.TREE) for number in range(3)))
    packs = [a_pack(), a_pack(), trees]
    index = open_index(Files(packs[:1], packs[1:]))
    new = a_pack()
    index.add_pack(indexed(new))
    places = {entry.id: (name, entry) for name, entries in (*packs[:2], new) for entry in entries}
    blobs = [*places, *reversed(places), trees[1][0].id, os.urandom(32), *places]

    assert index.find_one_of_each(BlobKind.DATA, blobs) == [places.get(blob) for blob in blobs]
    assert index.find_one_of_each(BlobKind.DATA, []) == []


def test_of_many_blobs_each_is_found_where_two_packs_were_filled_by_turns(open_index: OpenIndex) -> None:
    one, other = a_pack(*map(an_entry, range(0, 900, 100))), a_pack(*map(an_entry, range(0, 900, 100)))
    unseen = a_pack(*(an_entry(100 * number, identity=entry.id) for number, entry in enumerate(one[1])))
    index = open_index(Files([one, other, unseen]))
    index.leave_out([unseen[0]])
    places = {entry.id: (name, entry) for name, entries in (one, other) for entry in entries}
    blobs = [entry.id for both in zip(one[1], other[1], strict=True) for entry in both]

    assert index.find_one_of_each(BlobKind.DATA, blobs) == [places[blob] for blob in blobs]
    assert index.has_all(BlobKind.DATA, [*blobs, *blobs])
    assert not index.has_all(BlobKind.DATA, [*blobs, os.urandom(32)])
    assert not index.has_all(BlobKind.TREE, blobs[:1])
    index.leave_out([other[0]])
    assert index.has_all(BlobKind.DATA, blobs[::2])
    assert not index.has_all(BlobKind.DATA, blobs)


def test_a_tree_behind_a_blob_of_data_is_no_data(open_index: OpenIndex) -> None:
    name, (data, tree) = a_pack(an_entry(0), an_entry(100, BlobKind.TREE))
    index = open_index(Files([(name, [data, tree])]))
    blobs = [data.id, tree.id]

    assert index.find_one_of_each(BlobKind.DATA, blobs) == [(name, data), None]
    assert index.has_all(BlobKind.DATA, blobs[:1])
    assert not index.has_all(BlobKind.DATA, blobs)
    assert not index.has_all(BlobKind.DATA, blobs[1:])


def test_of_many_blobs_each_is_found_where_only_some_that_lie_behind_are_remembered(
    open_index: OpenIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.vault.index_view._MOST_BEHIND", 2)
    name, entries = a_pack(*map(an_entry, range(0, 900, 100)))
    index = open_index(Files([(name, entries)]))
    others = [*reversed(entries), *entries[::2], *entries]

    assert index.find_one_of_each(BlobKind.DATA, [entry.id for entry in others]) == [(name, entry) for entry in others]
    assert index.has_all(BlobKind.DATA, [entry.id for entry in others])


def test_of_many_blobs_none_is_found_in_a_pack_that_does_not_count(open_index: OpenIndex) -> None:
    pack = a_pack()
    index = open_index(Files([pack]))
    blobs = [entry.id for entry in pack[1]]
    assert None not in index.find_one_of_each(BlobKind.DATA, blobs)

    index.leave_out([pack[0]])

    assert index.find_one_of_each(BlobKind.DATA, blobs) == [None] * len(blobs)


def test_kinds_are_kept_apart_even_for_one_id(open_index: OpenIndex) -> None:
    identity = os.urandom(32)
    data, tree = a_pack(an_entry(identity=identity)), a_pack(an_entry(identity=identity, kind=BlobKind.TREE))
    index = open_index(Files([data, tree]))
    assert index.packs_of(BlobKind.DATA, identity) == [data[0]]
    assert index.packs_of(BlobKind.TREE, identity) == [tree[0]]


def test_all_packs_that_hold_a_blob_are_found(open_index: OpenIndex) -> None:
    entry = an_entry()
    packs = [a_pack(entry), a_pack(an_entry(), entry._replace(offset=100)), a_pack(entry)]
    index = open_index(Files(packs[:2], packs[2:]))
    assert set(index.packs_of(BlobKind.DATA, entry.id)) == {name for name, _ in packs}


def test_a_pack_that_two_files_list_alike_is_there_once(open_index: OpenIndex) -> None:
    pack = a_pack()
    index = open_index(Files([pack], [pack]))
    assert dict(index.packs()) == {pack[0]: pack[1]}
    assert len(index.find_all(BlobKind.DATA, pack[1][0].id)) == 1


def test_a_pack_that_two_files_list_in_part_is_merged(open_index: OpenIndex) -> None:
    name, entries = a_pack()
    index = open_index(Files([(name, entries[1:])], [(name, entries[:2])]))
    assert index.entries_of_pack(name) == entries
    assert list(index.packs()) == [(name, entries)]


def test_files_that_the_session_does_not_see_do_not_count(open_index: OpenIndex) -> None:
    kept, gone = a_pack(), a_pack()
    files = Files([gone], [kept])
    open_index(files).close()
    del files.files[files.list_index_files()[0]]
    index = open_index(files)
    assert index.find(BlobKind.DATA, gone[1][0].id) is None
    assert index.entries_of_pack(gone[0]) == []
    assert dict(index.packs()) == {kept[0]: kept[1]}


def test_a_moved_blob_is_found_where_the_files_that_count_say(open_index: OpenIndex) -> None:
    entry = an_entry()
    old, new = a_pack(entry), a_pack(an_entry(), entry._replace(offset=100))
    files = Files([old])
    open_index(files).close()
    files.files.clear()
    files.add([new])
    location = open_index(files).find(BlobKind.DATA, entry.id)
    assert location == (new[0], entry._replace(offset=100))


def test_what_this_session_stored_is_found_before_and_after_its_index_file(open_index: OpenIndex) -> None:
    old, new = a_pack(), a_pack()
    files = Files([old])
    index = open_index(files)
    writer = IndexWriter(index, files)
    writer.add_pack(indexed(new))
    assert writer.pending == 1
    assert index.find(BlobKind.DATA, new[1][0].id) == (new[0], new[1][0])
    assert index.entries_of_pack(new[0]) == new[1]
    assert dict(index.packs()) == dict([old, new])
    (stored,) = writer.flush()
    assert writer.pending == 0
    assert index.files == (*[name for name in files.files if name != stored], stored)
    assert index.find(BlobKind.DATA, new[1][0].id) == (new[0], new[1][0])
    assert dict(index.packs()) == dict([old, new])
    assert writer.flush() == []
    assert files.declared == [[new[0]]]


def test_a_reserved_pack_is_listed_in_full_and_once(open_index: OpenIndex) -> None:
    old = a_pack()
    files = Files([old])
    index = open_index(files)
    writer = IndexWriter(index, files)
    writer.add_reserved(old[0])
    writer.add_reserved(old[0])
    (name,) = writer.flush()
    writer.add_reserved(old[0])
    assert writer.flush() == []
    assert files.files[name].packs == [IndexedPack.of(bytes.fromhex(old[0].id), old[1])]
    with pytest.raises(KeyError):
        writer.add_reserved(a_pack()[0])


def test_what_could_not_be_stored_stays_pending(open_index: OpenIndex) -> None:
    files = Files()
    writer = IndexWriter(open_index(files), files)
    pack = a_pack()
    writer.add_pack(indexed(pack))
    files.failure = StoreFull(place="here", detail="no space")
    with pytest.raises(StoreFull):
        writer.flush()
    files.failure = None
    assert writer.pending == 1
    assert len(writer.flush()) == 1


def test_threads_look_up_while_packs_are_added(open_index: OpenIndex) -> None:
    old = [a_pack() for _ in range(20)]
    files = Files(old)
    index = open_index(files)
    writer = IndexWriter(index, files)
    missed: list[object] = []

    def look() -> None:
        for _ in range(10):
            missed.extend(name for name, entries in old if index.find(BlobKind.DATA, entries[1].id) is None)

    def add() -> None:
        for number in range(30):
            pack = a_pack()
            writer.add_pack(indexed(pack))
            if number % 5 == 4:
                writer.flush()
            if index.find(BlobKind.DATA, pack[1][2].id) is None:
                missed.append(pack)

    threads = [threading.Thread(target=work) for work in (look, look, add, add)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert missed == []


def test_progress_is_told_file_by_file() -> None:
    told: list[tuple[int, int]] = []
    Index(Files([a_pack()], [a_pack()]), progress=lambda done, total: told.append((done, total))).close()
    assert told == [(0, 2), (1, 2), (2, 2)]


def test_an_index_file_that_cannot_be_read_is_named_and_the_others_count(open_index: OpenIndex) -> None:
    class Damaged(Files):
        lost: ObjectName | None = None

        def read_index_file(self, name: ObjectName) -> IndexFile:
            if name == self.lost:
                raise DamagedVault(name=name, detail="altered")
            return super().read_index_file(name)

    good, bad = a_pack(), a_pack()
    files = Damaged([good])
    files.lost = files.add([bad])
    for _ in range(2):  # nothing of it is kept in a cache
        index = open_index(files)
        assert list(index.damaged) == [files.lost]
        assert found_all(index, good)
        assert index.find(BlobKind.DATA, bad[1][0].id) is None
        index.close()
    files.lost = None
    assert found_all(open_index(files), good, bad)


def test_what_another_session_lists_counts_from_its_first_question_on(open_index: OpenIndex) -> None:
    kept, gone, new = a_pack(), a_pack(), a_pack()
    files = Files([kept], [gone])
    index = open_index(files)
    del files.files[files.list_index_files()[1]]
    files.add([new])
    assert found_all(index, kept, gone)
    files.session_number += 1
    assert found_all(index, kept, new)
    assert index.find(BlobKind.DATA, gone[1][0].id) is None
    assert files.reads <= 3


def test_a_session_that_ends_while_its_index_is_read_names_nothing_as_damaged() -> None:
    first, second = a_pack(), a_pack()

    class Renewed(Files):
        def read_index_file(self, name: ObjectName) -> IndexFile:
            if not self.session_number:
                self.session_number = 1
                self.files.clear()
                self.add([second])
                raise ObjectMissing(name=name, place="the store")
            return super().read_index_file(name)

    index = Index(Renewed([first]))
    assert index.damaged == {}
    assert found_all(index, second)
