"""Databases for many small steps: the real statements on real connections, without an event loop's detour to each.

Kept true: one unit of work is at work at a time, so nothing waits. In `Units` each is a transaction, as in Database. In
`Forks` every unit is a savepoint of one transaction that is never committed, so a step can be taken back: what a unit
sees and writes is what it would in a transaction of its own. The clock (`now()`) stands still there. Row-level security
is the worker's in both.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Self
from uuid import UUID

import psycopg

from services.common.provision import DatabaseUrls
from services.storage.tests.model.catalogue import CLEAR


class _Cursor:
    """As psycopg's asynchronous cursor, of which the store uses these."""

    def __init__(self, cursor: psycopg.Cursor[Any]) -> None:
        self._cursor = cursor

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._cursor.close()

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    async def execute(self, statement: str, parameters: Any = None) -> "_Cursor":
        self._cursor.execute(statement, parameters)
        return self

    async def fetchone(self) -> Any:
        return self._cursor.fetchone()

    async def fetchall(self) -> Any:
        return self._cursor.fetchall()


class Connection:
    """Serves where a unit of work does."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.blocking = connection

    async def execute(self, statement: str, parameters: Any = None, **how: Any) -> _Cursor:
        return _Cursor(self.blocking.execute(statement, parameters, **how))

    def cursor(self, row_factory: Any) -> _Cursor:
        return _Cursor(self.blocking.cursor(row_factory=row_factory))


class Units:
    """Serves where Database does."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = Connection(connection)

    @classmethod
    @contextmanager
    def open(cls, urls: DatabaseUrls) -> Iterator[Self]:
        """Finds no bucket."""
        with psycopg.connect(urls.worker) as connection:
            connection.execute(CLEAR)
            connection.commit()
            yield cls(connection)
            connection.rollback()

    @asynccontextmanager
    async def unit(self, _tenant: UUID | None = None, _user: UUID | None = None) -> AsyncIterator[Connection]:
        try:
            yield self._connection
        except BaseException:
            self._connection.blocking.rollback()
            raise
        self._connection.blocking.commit()

    worker = unit


class Forks(Units):
    """As that, and can go back."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        super().__init__(connection)
        self._had_units = [False]  # of each fork

    @asynccontextmanager
    async def unit(self, _tenant: UUID | None = None, _user: UUID | None = None) -> AsyncIterator[Connection]:
        # The one before is let go of only now, which saves a round trip; many of them, each in the last, are slow.
        before = "release savepoint unit; " if self._had_units[-1] else ""
        self._connection.blocking.execute(before + "savepoint unit")
        self._had_units[-1] = True
        try:
            yield self._connection
        except BaseException:
            self._connection.blocking.execute("rollback to savepoint unit")
            raise

    worker = unit

    @asynccontextmanager
    async def fork(self) -> AsyncIterator[None]:
        """What is done inside never was."""
        self._connection.blocking.execute("savepoint fork")
        self._had_units.append(False)
        yield
        self._had_units.pop()
        self._connection.blocking.execute("rollback to savepoint fork; release savepoint fork")
