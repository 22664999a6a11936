"""Databases for many small steps: the real statements on real connections, without an event loop's detour to each.

Kept true: one unit of work is at work at a time, so nothing waits. In `Forks` every unit is a savepoint of one
transaction that is never committed, so a step can be taken back: what a unit sees and writes is what it would in a
transaction of its own. The clock (`now()`) stands still there, and row-level security is the worker's.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Self
from uuid import UUID

import psycopg

from services.common.provision import DatabaseUrls


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

    async def execute(self, statement: str, parameters: Any = None) -> _Cursor:
        return _Cursor(self.blocking.execute(statement, parameters))

    def cursor(self, row_factory: Any) -> _Cursor:
        return _Cursor(self.blocking.cursor(row_factory=row_factory))


class Forks:
    """Serves where Database does, and can go back."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = Connection(connection)

    @classmethod
    @contextmanager
    def open(cls, urls: DatabaseUrls) -> Iterator["Forks"]:
        with psycopg.connect(urls.worker) as connection:
            yield cls(connection)
            connection.rollback()

    @asynccontextmanager
    async def unit(self, _tenant: UUID | None = None, _user: UUID | None = None) -> AsyncIterator[Connection]:
        # Not released at its end: the fork around it goes back before it.
        self._connection.blocking.execute("savepoint unit")
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
        yield
        self._connection.blocking.execute("rollback to savepoint fork; release savepoint fork")
