import asyncio
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from services.common.errors import StartError
from services.common.migrations import migrate
from services.common.provision import DatabaseUrls

MakeDatabase = Callable[[], DatabaseUrls]


def a_folder(tmp_path: Path, **files: str) -> Path:
    for name, body in files.items():
        (tmp_path / f"{name.removeprefix('m')}.sql").write_text(body)
    return tmp_path


def columns(urls: DatabaseUrls, table: str) -> list[str]:
    with psycopg.connect(urls.owner) as connection:
        found = connection.execute(
            "select column_name from information_schema.columns where table_name = %s order by 1", (table,)
        )
        return [name for (name,) in found]


def test_files_are_applied_once_in_order(an_empty_database: MakeDatabase, tmp_path: Path) -> None:
    urls = an_empty_database()
    folder = a_folder(tmp_path, m0001_a="create table t (a int)", m0002_b="alter table t add b int")
    assert asyncio.run(migrate(urls.owner, folder)) == ["0001_a.sql", "0002_b.sql"]
    assert asyncio.run(migrate(urls.owner, folder)) == []
    a_folder(tmp_path, m0003_c="alter table t add c int; alter table t drop a")
    assert asyncio.run(migrate(urls.owner, folder)) == ["0003_c.sql"]
    assert columns(urls, "t") == ["b", "c"]


def test_a_file_that_fails_leaves_nothing_of_itself(an_empty_database: MakeDatabase, tmp_path: Path) -> None:
    urls = an_empty_database()
    folder = a_folder(tmp_path, m0001_a="create table t (a int)", m0002_b="alter table t add b int; select 1/0")
    with pytest.raises(psycopg.errors.DivisionByZero):
        asyncio.run(migrate(urls.owner, folder))
    assert columns(urls, "t") == ["a"]
    a_folder(tmp_path, m0002_b="alter table t add b int")
    assert asyncio.run(migrate(urls.owner, folder)) == ["0002_b.sql"]


def test_a_file_that_ran_into_a_deadlock_is_applied_again(an_empty_database: MakeDatabase, tmp_path: Path) -> None:
    urls = an_empty_database()
    # What a sequence gave is not taken back with the transaction.
    deadlock = "do $$ begin if nextval('tries') < 4 then raise exception using errcode = '40P01'; end if; end $$"
    folder = a_folder(tmp_path, m0001_a="create sequence tries", m0002_b=f"create table t (a int); {deadlock}")
    assert asyncio.run(migrate(urls.owner, folder)) == ["0001_a.sql", "0002_b.sql"]
    assert columns(urls, "t") == ["a"]


def test_processes_that_start_at_once_migrate_once(an_empty_database: MakeDatabase, tmp_path: Path) -> None:
    urls = an_empty_database()
    folder = a_folder(tmp_path, m0001_a="create table t (a int)")

    async def race() -> list[list[str]]:
        return await asyncio.gather(*(migrate(urls.owner, folder) for _ in range(4)))

    assert sorted(asyncio.run(race())) == [[], [], [], ["0001_a.sql"]]


def test_a_changed_file_a_gap_and_a_newer_database_are_refused(an_empty_database: MakeDatabase, tmp_path: Path) -> None:
    urls = an_empty_database()
    folder = a_folder(tmp_path, m0001_a="create table t (a int)", m0002_b="alter table t add b int")
    asyncio.run(migrate(urls.owner, folder))
    a_folder(tmp_path, m0001_a="create table t (a bigint)")
    with pytest.raises(StartError, match=r"0001_a\.sql has changed"):
        asyncio.run(migrate(urls.owner, folder))
    a_folder(tmp_path, m0001_a="create table t (a int)")
    (folder / "0002_b.sql").unlink()
    with pytest.raises(StartError, match="does not know: update Oort"):
        asyncio.run(migrate(urls.owner, folder))
    a_folder(tmp_path, m0003_c="select 1")
    with pytest.raises(StartError, match="without a gap"):
        asyncio.run(migrate(urls.owner, folder))
