import asyncio
import secrets
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from services.common.provision import DatabaseUrls, provision
from services.conftest import PASSWORDS, RunningPostgres


@pytest.fixture
def a_name(postgres: RunningPostgres) -> Iterator[str]:
    name = f"oort_test_{secrets.token_hex(5)}"
    yield name
    with psycopg.connect(postgres.superuser_dsn, autocommit=True) as server:
        server.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


def test_provisioning_twice_and_at_once_gives_the_same_database(postgres: RunningPostgres, a_name: str) -> None:
    async def race() -> list[DatabaseUrls]:
        return await asyncio.gather(*(provision(postgres.superuser_dsn, a_name, PASSWORDS) for _ in range(3)))

    first, *others = asyncio.run(race())
    assert all(other == first for other in others)
    assert asyncio.run(provision(postgres.superuser_dsn, a_name, PASSWORDS)) == first


def test_passwords_never_show(an_empty_database: Callable[[], DatabaseUrls]) -> None:
    assert "of tests" not in repr(PASSWORDS)
    assert "of tests" not in repr(an_empty_database())


def test_the_app_uses_tables_made_by_the_owner_and_makes_none(an_empty_database: Callable[[], DatabaseUrls]) -> None:
    urls = an_empty_database()
    with psycopg.connect(urls.owner) as owner:
        owner.execute("create table t (id int generated always as identity, a text)")
    for url in (urls.app, urls.worker):
        with psycopg.connect(url) as user:
            user.execute("insert into t (a) values ('x')")
            user.execute("update t set a = 'y'")
            user.execute("delete from t")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                user.execute("create table u (a int)")


def test_a_role_of_one_database_cannot_pass_for_another(an_empty_database: Callable[[], DatabaseUrls]) -> None:
    parts = conninfo_to_dict(an_empty_database().app)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(**{**parts, "user": "oort_worker"})  # type: ignore[arg-type] # the values of a conninfo
