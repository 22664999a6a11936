import errno
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import lmdb
import pytest

from client.errors import DamagedVault, ObjectMissing, StoreFull
from client.vault import index_cache
from client.vault.blobs import BlobId, BlobKind, PackEntry
from client.vault.index import Index, IndexWriter
from client.vault.index_cache import LmdbTable, TemporaryTable
from client.vault.index_files import IndexedPack, IndexFile, decode_index_file
from client.vault.index_tables import BrokenTable, IndexTable, MemoryTable, encode_record, record_entries
from domain.names import ObjectKind, ObjectName

Pack = tuple[ObjectName, list[PackEntry]]


def an_entry(offset: int = 0, kind: BlobKind = BlobKind.DATA, identity: BlobId | None = None) -> PackEntry:
    return PackEntry(identity or os.urandom(32), kind, offset, 100, 500)


def a_pack(*entries: PackEntry) -> Pack:
    name = ObjectName(ObjectKind.PACK, os.urandom(32).hex())
    return name, list(entries) or [an_entry(100 * number) for number in range(3)]


def indexed(pack: Pack) -> IndexedPack:
    return IndexedPack.of(bytes.fromhex(pack[0].id), pack[1])


class Files:
    """Index files of a made-up vault; counts how often one is read."""

    def __init__(self, *files: list[Pack]) -> None:
        self.files: dict[ObjectName, IndexFile] = {}
        self.reads = 0
        self.session_number = 0
        self.declared: list[list[ObjectName]] = []
        self.failure: Exception | None = None
        for packs in files:
            self.add(packs)

    def add(self, packs: list[Pack]) -> ObjectName:
        name = ObjectName(ObjectKind.INDEX, os.urandom(32).hex())
        self.files[name] = IndexFile([indexed(pack) for pack in packs])
        return name

    def list_index_files(self) -> list[ObjectName]:
        return list(self.files)

    def read_index_file(self, name: ObjectName) -> IndexFile:
        self.reads += 1
        return self.files[name]

    def save_unpacked(self, kind: ObjectKind, plaintext: bytes, packs: object = ()) -> ObjectName:
        if self.failure:
            raise self.failure
        assert kind is ObjectKind.INDEX
        self.declared.append(list(packs))  # type: ignore[call-overload]
        name = ObjectName.of(kind, plaintext)
        self.files[name] = decode_index_file(plaintext, str(name))
        return name


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


# The cache


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "caches" / "vault"


def found_all(index: Index, *packs: Pack) -> bool:
    return all(index.find(BlobKind.DATA, entry.id) == (name, entry) for name, entries in packs for entry in entries)


def test_contents_are_read_once_and_listed_every_time(cache: Path) -> None:
    first, second = a_pack(), a_pack()
    files = Files([first])
    Index(files, cache).close()
    files.add([second])
    with Index(files, cache) as index:
        assert found_all(index, first, second)
    assert files.reads == 2


def test_a_cache_can_be_deleted_at_any_time(cache: Path) -> None:
    pack = a_pack()
    files = Files([pack])
    Index(files, cache).close()
    for file in cache.iterdir():
        file.unlink()
    with Index(files, cache) as index:
        assert found_all(index, pack)


@pytest.mark.parametrize("rubbish", [b"", b"rubbish" * 5000, bytes(1 << 16)])
def test_rubbish_in_the_cache_is_thrown_away(cache: Path, rubbish: bytes) -> None:
    cache.mkdir(parents=True)
    (cache / "data.mdb").write_bytes(rubbish)
    pack = a_pack()
    files = Files([pack])
    with Index(files, cache) as index:
        assert found_all(index, pack)
    with Index(files, cache) as index:
        assert found_all(index, pack)
    assert files.reads == 1


@pytest.mark.parametrize("left", ["nothing", "100 bytes", "one page", "two pages", "half", "all but one page"])
def test_a_cache_that_was_cut_short_is_thrown_away(cache: Path, left: str) -> None:
    packs = [a_pack(*(an_entry(100 * number) for number in range(200))) for _ in range(10)]
    files = Files(packs)
    Index(files, cache).close()
    size = (cache / "data.mdb").stat().st_size
    page = os.sysconf("SC_PAGE_SIZE")
    lengths = {"nothing": 0, "100 bytes": 100, "one page": page, "two pages": 2 * page, "half": size // 2}
    os.truncate(cache / "data.mdb", lengths.get(left, size - page))

    # Reading what is not there ends a process without an exception, so another one must try.
    child = multiprocessing.get_context("spawn").Process(target=look_in_another_process, args=(files, cache, packs))
    child.start()
    child.join()

    assert child.exitcode == 0
    with Index(files, cache) as index:
        assert found_all(index, *packs)
    assert files.reads == 1  # the other process has made the cache anew


def test_a_cache_that_is_cut_short_while_it_is_open_is_left_alone(cache: Path) -> None:
    packs = [a_pack(*(an_entry(100 * number) for number in range(200))) for _ in range(10)]
    files = Files(packs)
    with Index(files, cache):
        os.truncate(cache / "data.mdb", (cache / "data.mdb").stat().st_size // 2)
        with Index(files, cache) as index:
            assert found_all(index, *packs)


def test_a_cache_of_another_layout_is_thrown_away(cache: Path) -> None:
    files = Files([a_pack()])
    Index(files, cache).close()
    environment = lmdb.open(str(cache), max_dbs=5)
    with environment.begin(write=True) as change:
        change.put(b"layout", b"0", db=environment.open_db(b"meta", change))
    environment.close()
    with Index(files, cache):
        assert files.reads == 2


def test_a_cache_folder_that_cannot_be_made_is_gone_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    pack = a_pack()
    with Index(Files([pack]), tmp_path / "file" / "cache") as index:
        assert found_all(index, pack)


def test_a_full_budget_is_gone_without(cache: Path) -> None:
    packs = [a_pack(*(an_entry(100 * number) for number in range(200))) for _ in range(40)]
    files = Files(*([pack] for pack in packs))
    with Index(files, cache, budget=256 << 10) as index:
        assert found_all(index, *packs)
    with Index(files, cache, budget=256 << 10) as index:
        assert found_all(index, *packs)
    assert sum(file.stat().st_size for file in cache.glob("*")) <= 512 << 10


def test_what_is_gone_from_the_vault_makes_room_in_a_full_cache(cache: Path) -> None:
    old = [a_pack(*(an_entry(100 * number) for number in range(200))) for _ in range(6)]
    new = [a_pack(*(an_entry(100 * number) for number in range(200))) for _ in range(6)]
    Index(Files(old), cache, budget=512 << 10).close()
    files = Files(new)
    with Index(files, cache, budget=512 << 10) as index:
        assert found_all(index, *new)
    with Index(files, cache, budget=512 << 10) as index:
        assert found_all(index, *new)


class Failing(MemoryTable):
    """A table that breaks after some calls."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls = calls

    def _count(self) -> None:
        self.calls -= 1
        if self.calls < 0:
            raise BrokenTable(os.strerror(errno.ENOSPC))

    def add_files(self, files: Iterable[tuple[bytes, Sequence[IndexedPack]]]) -> None:
        for file in files:
            self._count()
            super().add_files([file])

    def first_place(self, blob: BlobId) -> tuple[int, int] | None:
        self._count()
        return super().first_place(blob)


@pytest.mark.parametrize("calls", range(12))
def test_a_disk_that_fills_at_any_moment_stops_nothing(calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tables: list[Callable[[], IndexTable]] = [lambda: Failing(calls), lambda: Failing(3), MemoryTable]
    monkeypatch.setattr("client.vault.index._tables", lambda *_: iter(tables))
    packs = [a_pack(), a_pack(), a_pack()]
    files = Files(packs[:1], packs[1:2])
    with Index(files) as index:
        writer = IndexWriter(index, files)
        writer.add_pack(indexed(packs[2]))
        assert found_all(index, *packs)
        writer.flush()
        assert found_all(index, *packs)
        assert dict(index.packs()) == dict(packs)


def test_a_full_disk_under_lmdb_breaks_the_table_and_nothing_else(cache: Path) -> None:
    table = LmdbTable(cache, budget=64 << 10)
    pack = a_pack(*(an_entry(100 * number) for number in range(5000)))
    with pytest.raises(BrokenTable):
        table.add_files([(os.urandom(32), [indexed(pack)])])
    assert table.first_place(pack[1][0].id) is None
    table.close()
    with pytest.raises(BrokenTable):
        table.first_place(pack[1][0].id)


def test_vaults_of_one_process_share_a_cache(cache: Path) -> None:
    first, second = a_pack(), a_pack()
    files = Files([first])
    with Index(files, cache) as one, Index(files, cache) as two:
        writer = IndexWriter(one, files)
        writer.add_pack(indexed(second))
        writer.flush()
        assert found_all(one, first, second)
        assert found_all(two, first)
        assert two.find(BlobKind.DATA, second[1][0].id) is None  # its session began before
        with Index(files, cache) as three:
            assert found_all(three, first, second)
    assert files.reads == 1


def test_dropping_a_cache_takes_it_from_nobody(cache: Path) -> None:
    pack = a_pack()
    files = Files([pack])
    with Index(files, cache) as index:
        index_cache.drop(cache)
        assert found_all(index, pack)
        with Index(files, cache) as other:
            assert found_all(other, pack)


def look_in_another_process(files: Files, cache: Path, packs: list[Pack]) -> None:
    with Index(files, cache) as index:
        sys.exit(0 if found_all(index, *packs) else 2)


def test_several_processes_share_a_cache(cache: Path) -> None:
    packs = [a_pack() for _ in range(8)]
    files = Files(*([pack] for pack in packs))
    spawn = multiprocessing.get_context("spawn")
    children = [spawn.Process(target=look_in_another_process, args=(files, cache, packs)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    with Index(files, cache) as index:
        assert found_all(index, *packs)
    assert files.reads == 0


def test_a_temporary_table_leaves_nothing(tmp_path: Path) -> None:
    table = TemporaryTable(tmp_path)
    pack = a_pack()
    table.add_files([(os.urandom(32), [indexed(pack)])])
    assert table.first_place(pack[1][1].id) == (0, 1)
    table.close()
    assert list(tmp_path.iterdir()) == []


def test_a_record_with_a_changed_byte_is_not_believed() -> None:
    record = bytearray(encode_record(indexed(a_pack())))
    assert len(record_entries(record)) == 3
    record[-1] ^= 1
    with pytest.raises(BrokenTable):
        record_entries(record)


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
