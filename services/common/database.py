"""Postgres for a role: short units of work, each confined to a tenant and a user by row-level security.

Kept true: `oort.tenant` and `oort.user` hold for one transaction and are never left on a reused connection; a lost
connection, a deadlock or a failed serialization is UNAVAILABLE to the caller, who may try again; so is, as Busy, a unit
that got no connection, and in which nothing was begun.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from services.common.errors import Busy, Unavailable

# One transaction. Rows are read with a cursor whose row factory is psycopg.rows.class_row.
Unit = psycopg.AsyncConnection[Any]

# Seconds that a call waits for a free connection before it is told to try again.
_WAIT_SECONDS = 10.0
# Each unit begins by itself, with its scope in the same question, instead of with one that psycopg would ask before.
_BEGINS_ITSELF = {"autocommit": True}
_BEGIN = sql.SQL("begin; select set_config('oort.tenant', {}, true), set_config('oort.user', {}, true)")


class Database:
    """Two pools of connections: as oort_app, which sees what the unit's scope allows, and as oort_worker."""

    def __init__(self, app: AsyncConnectionPool[Unit], worker: AsyncConnectionPool[Unit]) -> None:
        self._app = app
        self._worker = worker

    @classmethod
    async def open(
        cls, app_url: str, worker_url: str, *, connections: int = 8, wait_seconds: float = _WAIT_SECONDS
    ) -> "Database":
        """Connect; `connections` bounds each pool, and `wait_seconds` the waiting for one, now and in each unit.

        Raises Unavailable when Postgres does not answer in time.
        """
        app = _pool(app_url, "app", connections, wait_seconds, _BEGINS_ITSELF)
        worker = _pool(worker_url, "worker", max(1, connections // 2), wait_seconds, {})
        database = cls(app, worker)
        try:
            await app.open(wait=True, timeout=wait_seconds)
            await worker.open(wait=True, timeout=wait_seconds)
        except psycopg.OperationalError as error:
            await database.close()
            raise Unavailable(what="The database") from error
        except BaseException:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        """Close every connection; units still open are waited for."""
        await self._app.close()
        await self._worker.close()

    @asynccontextmanager
    async def unit(self, tenant: UUID | None = None, user: UUID | None = None) -> AsyncIterator[Unit]:
        """One transaction as oort_app: committed at the end, rolled back by an exception.

        Sees the rows of `tenant` and, when `user` is given, of that user only; of tables owned by tenants it sees
        nothing when neither is given. Keep it short: nothing in it waits for the network or a disk.
        """
        async with _transaction(self._app) as unit:
            # Not prepared: as a text it is another one for each user.
            await unit.execute(_BEGIN.format(str(tenant or ""), str(user or "")), prepare=False)
            yield unit

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[Unit]:
        """One transaction as oort_worker, across tenants: for named jobs, and for login in one place."""
        async with _transaction(self._worker) as unit:
            yield unit


def _pool(
    url: str, name: str, connections: int, wait_seconds: float, options: dict[str, Any]
) -> AsyncConnectionPool[Unit]:
    return AsyncConnectionPool(
        url,
        kwargs=options,
        min_size=1,
        max_size=connections,
        timeout=wait_seconds,
        name=name,
        open=False,
        num_workers=1,
    )


@asynccontextmanager
async def _transaction(pool: AsyncConnectionPool[Unit]) -> AsyncIterator[Unit]:
    lost = False
    try:
        async with pool.connection() as unit:
            try:
                yield unit
            finally:
                lost = unit.closed
    except PoolTimeout as error:
        raise Busy(what="The database") from error
    except psycopg.OperationalError as error:
        if lost:
            # Where one connection was lost the idle ones probably were too: replace them before a call meets one.
            await pool.check()
        raise Unavailable(what="The database") from error
