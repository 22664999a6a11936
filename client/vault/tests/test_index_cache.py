"""What a device keeps of an index: read once, thrown away when it is broken, and done without when there is no room."""

import errno
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import lmdb
import pytest

from client.vault import index_cache
from client.vault.blobs import BlobId, BlobKind
from client.vault.index import Index, IndexWriter
from client.vault.index_cache import LmdbTable, TemporaryTable
from client.vault.index_files import IndexedPack
from client.vault.index_tables import BrokenTable, IndexTable, MemoryTable, encode_record, record_entries
from client.vault.tests.a_made_up_index import Files, Pack, a_pack, an_entry, found_all, indexed


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "caches" / "vault"


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
