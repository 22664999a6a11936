"""What tests of the services share besides the root's Postgres, Redis and certificates: databases of roles."""

import inspect
import secrets
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from services.common.migrations import migrate
from services.common.provision import APP, OWNER, WORKER, DatabasePasswords, DatabaseUrls, provision
from services.common.testing import loops

# The roles belong to the whole server, which the workers of a run share.
PASSWORDS = DatabasePasswords(owner="owner of tests", app="app of tests", worker="worker of tests")
_SERVICES = Path(__file__).parent

Result = TypeVar("Result")
MakeDatabase = Callable[[str], DatabaseUrls]


class RunningPostgres(Protocol):
    """The fixture `postgres`."""

    superuser_dsn: str


def _finished(work: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end in a thread: whoever asks may be a test inside a loop of its own."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(loops.run, work).result()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine in a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    loops.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in wanted}))
    return True


class Databases:
    """Databases on the run's server; `drop` removes those made here."""

    def __init__(self, superuser_dsn: str) -> None:
        self._superuser_dsn = superuser_dsn
        self._made: list[str] = []

    def empty(self, label: str = "test") -> DatabaseUrls:
        """Provisioned, without tables."""
        name = self._name(label)
        return _finished(provision(self._superuser_dsn, name, PASSWORDS))

    def copy(self, original: DatabaseUrls, label: str) -> DatabaseUrls:
        """Another with the same tables, a quarter of the work of making them. Nobody may be using the original."""
        name = self._name(label)
        here, users = sql.Identifier(name), sql.SQL(", ").join(map(sql.Identifier, (APP, WORKER)))
        names = here, sql.Identifier(OWNER), sql.Identifier(str(conninfo_to_dict(original.owner)["dbname"]))
        with psycopg.connect(self._superuser_dsn, autocommit=True) as server:
            server.execute(sql.SQL("create database {} owner {} template {}").format(*names))
            # Of all rights those on the database itself are not copied.
            server.execute(sql.SQL("revoke all on database {} from public").format(here))
            server.execute(sql.SQL("grant connect on database {} to {}").format(here, users))
        return DatabaseUrls(*(make_conninfo(url, dbname=name) for url in astuple(original)))

    def drop(self) -> None:
        with psycopg.connect(self._superuser_dsn, autocommit=True) as server:
            for name in self._made:
                server.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))

    def _name(self, label: str) -> str:
        self._made.append(f"oort_{label}_{secrets.token_hex(5)}")
        return self._made[-1]


@pytest.fixture(scope="session")
def a_migrated_database(postgres: RunningPostgres) -> Iterator[MakeDatabase]:
    """The one database of a role with all its tables, which nobody uses but to copy it."""
    databases = Databases(postgres.superuser_dsn)

    @cache
    def migrated(role: str) -> DatabaseUrls:
        urls = databases.empty(role)
        _finished(migrate(urls.owner, _SERVICES / role / "migrations"))
        return urls

    yield migrated
    databases.drop()


@pytest.fixture(scope="module")
def databases(postgres: RunningPostgres) -> Iterator[Databases]:
    made = Databases(postgres.superuser_dsn)
    yield made
    made.drop()


@pytest.fixture(scope="module")
def an_empty_database(databases: Databases) -> Callable[[], DatabaseUrls]:
    """Makes provisioned databases without tables, dropped after the module."""
    return databases.empty


@pytest.fixture(scope="module")
def a_database(databases: Databases, a_migrated_database: MakeDatabase) -> MakeDatabase:
    """Makes databases of a role: `a_database("auth")` is provisioned and migrated, and dropped after the module."""
    return lambda role: databases.copy(a_migrated_database(role), role)
