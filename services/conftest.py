"""What tests of the services share besides the root's Postgres, Redis and certificates: databases of roles."""

import asyncio
import inspect
import secrets
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

import psycopg
import pytest
from psycopg import sql

from services.common.migrations import migrate
from services.common.provision import DatabasePasswords, DatabaseUrls, provision

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
        return thread.submit(asyncio.run, work).result()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine in a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in wanted}))
    return True


@pytest.fixture(scope="module")
def an_empty_database(postgres: RunningPostgres) -> Iterator[Callable[[], DatabaseUrls]]:
    """Makes provisioned databases without tables, dropped after the module."""
    made: list[str] = []

    def make(label: str = "test") -> DatabaseUrls:
        made.append(f"oort_{label}_{secrets.token_hex(5)}")
        return _finished(provision(postgres.superuser_dsn, made[-1], PASSWORDS))

    yield make
    with psycopg.connect(postgres.superuser_dsn, autocommit=True) as server:
        for name in made:
            server.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def a_database(an_empty_database: Callable[[str], DatabaseUrls]) -> MakeDatabase:
    """Makes databases of a role: `a_database("auth")` is provisioned and migrated, and dropped after the module."""

    def make(role: str) -> DatabaseUrls:
        urls = an_empty_database(role)
        _finished(migrate(urls.owner, _SERVICES / role / "migrations"))
        return urls

    return make
