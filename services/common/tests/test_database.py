"""Row-level security, as every migration is to write it, holds by itself."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest

from services.common.database import Database
from services.common.errors import Busy, Unavailable
from services.common.migrations import migrate
from services.common.provision import DatabaseUrls

_MIGRATION = """
create table notes (
    id int generated always as identity, tenant_id uuid not null, user_id uuid not null, body text not null
);
alter table notes enable row level security;
alter table notes force row level security;
create policy tenant_rows on notes
    using (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid))
    with check (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid));
create policy user_rows on notes as restrictive
    using ((select nullif(current_setting('oort.user', true), '')) is null
        or user_id = (select nullif(current_setting('oort.user', true), '')::uuid))
    with check ((select nullif(current_setting('oort.user', true), '')) is null
        or user_id = (select nullif(current_setting('oort.user', true), '')::uuid));
"""


@pytest.fixture(scope="module")
def notes(an_empty_database: Callable[[], DatabaseUrls], tmp_path_factory: pytest.TempPathFactory) -> DatabaseUrls:
    import asyncio

    folder = tmp_path_factory.mktemp("migrations")
    (folder / "0001_notes.sql").write_text(_MIGRATION)
    urls = an_empty_database()
    assert asyncio.run(migrate(urls.owner, folder)) == ["0001_notes.sql"]
    return urls


async def opened(urls: DatabaseUrls, connections: int = 2) -> Database:
    return await Database.open(urls.app, urls.worker, connections=connections, wait_seconds=60)


async def write(db: Database, tenant: UUID, user: UUID, body: str = "") -> None:
    async with db.unit(tenant, user) as unit:
        await unit.execute(
            "insert into notes (tenant_id, user_id, body) values (%s, %s, %s)",
            (tenant, user, body),
        )


async def count(db: Database, tenant: UUID | None = None, user: UUID | None = None) -> int:
    async with db.unit(tenant, user) as unit:
        rows = await (await unit.execute("select count(*) from notes")).fetchall()
        return int(rows[0][0])


async def test_a_unit_sees_its_tenants_rows_and_a_users_unit_its_own(notes: DatabaseUrls) -> None:
    db = await opened(notes)
    tenant, other, user, colleague = uuid4(), uuid4(), uuid4(), uuid4()
    await write(db, tenant, user)
    await write(db, tenant, colleague)
    await write(db, other, user)
    assert await count(db, tenant) == 2
    assert await count(db, tenant, user) == 1
    assert await count(db, other) == 1
    assert await count(db) == 0
    assert await count(db, None, user) == 0
    await db.close()


async def test_no_unit_writes_rows_of_another_tenant_or_user(notes: DatabaseUrls) -> None:
    db = await opened(notes)
    tenant, user = uuid4(), uuid4()
    for row_tenant, row_user in ((uuid4(), user), (tenant, uuid4())):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            async with db.unit(tenant, user) as unit:
                await unit.execute(
                    "insert into notes (tenant_id, user_id, body) values (%s, %s, '')", (row_tenant, row_user)
                )
    await write(db, tenant, user)
    async with db.unit(tenant, uuid4()) as unit:
        assert (await unit.execute("update notes set body = 'x'")).rowcount == 0
        assert (await unit.execute("delete from notes")).rowcount == 0
    await db.close()


async def test_the_scope_of_a_unit_is_gone_on_a_reused_connection(notes: DatabaseUrls) -> None:
    db = await opened(notes, connections=1)
    tenant, user = uuid4(), uuid4()
    await write(db, tenant, user)
    assert await count(db, tenant, user) == 1
    assert await count(db) == 0
    await db.close()


async def test_the_worker_crosses_tenants_and_the_owner_does_not(notes: DatabaseUrls) -> None:
    db = await opened(notes)
    tenants = [uuid4(), uuid4()]
    for tenant in tenants:
        await write(db, tenant, uuid4(), body="crossing")
    async with db.worker() as unit:
        cursor = await unit.execute("select count(*) from notes where tenant_id = any(%s)", (tenants,))
        assert await cursor.fetchone() == (2,)
    async with await psycopg.AsyncConnection.connect(notes.owner) as owner:
        assert await (await owner.execute("select count(*) from notes")).fetchone() == (0,)
    await db.close()


async def test_the_app_can_neither_change_the_schema_nor_read_what_was_migrated_nor_switch_off_security(
    notes: DatabaseUrls,
) -> None:
    db = await opened(notes)
    for statement in (
        "create table mine (id int)",
        "alter table notes disable row level security",
        "truncate notes",
        "select * from oort_migrations",
        "set role oort_worker",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            async with db.unit(uuid4()) as unit:
                await unit.execute(statement.encode())
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        async with db.unit(uuid4()) as unit:
            await unit.execute("set local row_security = off; select * from notes")
    await db.close()


async def test_an_exception_rolls_a_unit_back(notes: DatabaseUrls) -> None:
    db = await opened(notes)
    tenant, user = uuid4(), uuid4()

    async def fail() -> None:
        async with db.unit(tenant, user) as unit:
            await unit.execute("insert into notes (tenant_id, user_id, body) values (%s, %s, '')", (tenant, user))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await count(db, tenant) == 0
    await db.close()


@pytest.fixture
def backend_killer(postgres: object) -> Iterator[Callable[[str], None]]:
    with psycopg.connect(postgres.superuser_dsn, autocommit=True) as server:  # type: ignore[attr-defined]

        def kill(database: str) -> None:
            server.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (database,))

        yield kill


async def test_a_lost_connection_is_unavailable_once_and_the_next_unit_works(
    notes: DatabaseUrls, backend_killer: Callable[[str], None]
) -> None:
    db = await opened(notes, connections=2)
    name = psycopg.conninfo.conninfo_to_dict(notes.app)["dbname"]

    async def lose_it() -> None:
        async with db.unit(uuid4()) as unit:
            backend_killer(str(name))
            await unit.execute("select 1")

    with pytest.raises(Unavailable):
        await lose_it()
    assert await count(db, uuid4()) == 0
    await db.close()


async def test_a_unit_that_gets_no_connection_in_time_is_told_that_nothing_was_begun(notes: DatabaseUrls) -> None:
    db = await Database.open(notes.app, notes.worker, connections=1, wait_seconds=60)
    pool = db._app
    pool.timeout = 0.05
    async with db.unit(uuid4()):
        with pytest.raises(Busy):
            await count(db, uuid4())
    pool.timeout = 60
    assert await count(db, uuid4()) == 0
    await db.close()


async def test_a_database_that_does_not_answer_is_unavailable() -> None:
    nowhere = "host=127.0.0.1 port=1 dbname=x user=x"
    with pytest.raises(Unavailable):
        await Database.open(nowhere, nowhere, wait_seconds=0.2)
    with pytest.raises(Unavailable):
        await migrate(nowhere, Path())
