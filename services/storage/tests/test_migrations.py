"""The schema moved forward under rows that are there already."""

import asyncio
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import services.storage
from services.common.migrations import migrate, migrations_in
from services.common.provision import DatabaseUrls
from services.conftest import RunningPostgres
from services.storage.store.followed import KNOWN_SINCE
from services.storage.store.nodes import HOMES_CHANGE

_ALL = Path(services.storage.__file__).parent / "migrations"
_BLOCKED = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
_BUCKET = """
insert into buckets (id, tenant_id, user_id, copies, ack_copies, quota_bytes, objects, bytes)
values (%s, %s, %s, 1, 1, 0, 4, 1111)
"""
_OBJECT = """
insert into objects (bucket_id, tenant_id, user_id, kind, sha256, size, state, created_seq, condemned_seq)
values (%s, %s, %s, %s, %s, %s, %s, 1, %s)
"""
_SESSION = """
insert into sessions (id, bucket_id, tenant_id, user_id, device_id, purpose, opened_seq, ended_seq)
values (%s, %s, %s, %s, %s, 'backup', 1, %s)
"""


def test_nodes_are_taken_for_ones_of_an_earlier_version_by_the_numbers_of_these_migrations() -> None:
    """Who renumbers one of them changes the number with it."""
    names = {migration.number: migration.name for migration in migrations_in(_ALL)}
    assert (names[KNOWN_SINCE], names[HOMES_CHANGE]) == ("0013_regions.sql", "0014_adopting.sql")


def _fill(connection: psycopg.Connection[Any], bucket: UUID) -> None:
    owner = (bucket, uuid4(), uuid4())
    connection.execute(_BUCKET, owner)
    objects = [
        ("data", 1000, "live", None),
        ("data", 100, "condemned", 2),
        ("snapshots", 10, "live", None),
        ("index", 1, "live", None),
    ]
    for kind, size, state, condemned_seq in objects:
        digest = sha256(f"{kind}{size}".encode()).digest()
        connection.execute(_OBJECT, (*owner, kind, digest, size, state, condemned_seq))
    for ended_seq in (None, 2):
        connection.execute(_SESSION, (uuid4(), *owner, uuid4(), ended_seq))


def test_rows_of_the_first_version_are_counted_and_can_leave_the_basket(
    postgres: RunningPostgres, an_empty_database: Callable[[], DatabaseUrls], tmp_path: Path
) -> None:
    urls, bucket = an_empty_database(), uuid4()
    name = str(conninfo_to_dict(urls.owner)["dbname"])
    for path in sorted(_ALL.glob("*.sql"))[:2]:
        shutil.copy(path, tmp_path)
    asyncio.run(migrate(urls.owner, tmp_path))
    with psycopg.connect(make_conninfo(postgres.superuser_dsn, dbname=name)) as connection:
        _fill(connection, bucket)
    asyncio.run(migrate(urls.owner, _ALL))
    with psycopg.connect(make_conninfo(postgres.superuser_dsn, dbname=name)) as connection:
        counted = connection.execute("select live_snapshots, live_bytes from buckets").fetchall()
        condemned = connection.execute("select state, condemned is not null from objects order by 1, 2").fetchall()
        ended = connection.execute(
            "select ended_seq is not null, ended is not null from sessions order by 1"
        ).fetchall()
        forced = connection.execute(
            "select relname from pg_class where relrowsecurity and not relforcerowsecurity"
        ).fetchall()
    assert counted == [(1, 1000)]
    assert condemned == [("condemned", True), *[("live", False)] * 3]
    assert ended == [(False, False), (True, True)]
    assert forced == []


def test_nodes_that_run_go_on_while_homes_learn_to_leave(
    postgres: RunningPostgres, an_empty_database: Callable[[], DatabaseUrls], tmp_path: Path
) -> None:
    urls = an_empty_database()
    for path in sorted(_ALL.glob("*.sql"))[:11]:
        shutil.copy(path, tmp_path)
    asyncio.run(migrate(urls.owner, tmp_path))
    dsn = make_conninfo(postgres.superuser_dsn, dbname=str(conninfo_to_dict(urls.owner)["dbname"]))
    with (
        ThreadPoolExecutor() as threads,
        psycopg.connect(dsn, autocommit=True) as looking,
        psycopg.connect(dsn) as node,
    ):
        node.execute("set deadlock_timeout = '10ms'")
        node.execute("delete from missing_copies where object_id = 1")
        migrating = threads.submit(lambda: asyncio.run(migrate(urls.owner, _ALL)))
        while not migrating.done() and not looking.execute(_BLOCKED).fetchall():
            pass
        # In the same transaction, as what says that a copy is missing does.
        assert node.execute("select 1 from homes").fetchall() == []
        node.commit()
        assert "0012_placement.sql" in migrating.result()


def test_what_was_said_of_a_copy_before_homes_could_leave_goes_with_its_home(
    postgres: RunningPostgres, an_empty_database: Callable[[], DatabaseUrls], tmp_path: Path
) -> None:
    urls, bucket = an_empty_database(), uuid4()
    name = str(conninfo_to_dict(urls.owner)["dbname"])
    for path in sorted(_ALL.glob("*.sql"))[:11]:
        shutil.copy(path, tmp_path)
    asyncio.run(migrate(urls.owner, tmp_path))
    lacking = (
        "insert into missing_copies (object_id, node_id, bucket_id, tenant_id, user_id)"
        " select id, 'a', bucket_id, tenant_id, user_id from objects"
    )
    with psycopg.connect(make_conninfo(postgres.superuser_dsn, dbname=name)) as connection:
        _fill(connection, bucket)
        connection.execute(
            "insert into nodes (id, public_endpoint, internal_endpoint, rest_endpoint, free_bytes, last_seen)"
            " values ('a', '', '', '', 0, now())"
        )
        connection.execute(
            "insert into homes (bucket_id, node_id, tenant_id, user_id) select id, 'a', tenant_id, user_id from buckets"
        )
        connection.execute(lacking)
    asyncio.run(migrate(urls.owner, _ALL))
    with psycopg.connect(make_conninfo(postgres.superuser_dsn, dbname=name)) as connection:
        connection.execute("delete from homes")
        assert connection.execute("select 1 from missing_copies").fetchall() == []
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            connection.execute(lacking)
