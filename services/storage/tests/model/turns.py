"""Calls at once, each on a real connection of its own, that go on by a statement when they are told to.

Kept true: one call is at work at a time, until it would make its next statement (or commit, or touch a disk), is done,
or waits for a lock that another one holds. So an order of turns is an order of statements, and the same order of turns
does the same again. What asks outside of a call, as set-up and invariants do, has no turns.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any
from uuid import UUID

import psycopg

from services.common.database import Database, Unit

_CALL: ContextVar["Call | None"] = ContextVar("call", default=None)
# Seconds that a statement may take before Postgres is asked whether it waits for a lock.
_PATIENCE = 0.001
_BLOCKED = "select count(*) from unnest(%s::int[]) as pid where cardinality(pg_blocking_pids(pid)) > 0"


class Call:
    """A call on its way: `turn` is what it waits for before its next step, `backend` who makes its statement."""

    def __init__(self, work: Coroutine[Any, Any, Any], changed: asyncio.Event) -> None:
        self.turn: asyncio.Future[None] | None = None
        self.backend: int | None = None
        self._changed = changed
        self.task = asyncio.ensure_future(self._run(work))
        self.task.add_done_callback(lambda _: changed.set())

    @property
    def can_go_on(self) -> bool:
        return self.turn is not None and not self.turn.done()

    @property
    def is_at_work(self) -> bool:
        return not self.can_go_on and not self.task.done()

    async def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        _CALL.set(self)
        return await work

    async def wait_for_turn(self) -> None:
        assert not self.can_go_on, "two parts of a call are at work at once"
        self.turn = asyncio.get_running_loop().create_future()
        self._changed.set()
        await self.turn


async def take_turn(backend: int | None = None) -> None:
    """Wait for the turn of the call that this is part of; `backend` is the process of Postgres that then works."""
    call = _CALL.get()
    if call is not None:
        await call.wait_for_turn()
        call.backend = backend


class Turns:
    """Gives turns. `watch` is a connection that asks who waits for whom."""

    def __init__(self, watch: psycopg.AsyncConnection[Any]) -> None:
        self._watch = watch
        self._calls: list[Call] = []
        self._changed = asyncio.Event()

    async def begin(self, work: Coroutine[Any, Any, Any]) -> Call:
        """Start a call, which goes as far as its first statement."""
        call = Call(work, self._changed)
        self._calls = [*(other for other in self._calls if not other.task.done()), call]
        await self._settle()
        return call

    async def go_on(self, call: Call) -> None:
        """Let it take its turn."""
        assert call.turn is not None
        call.turn.set_result(None)
        await self._settle()

    async def go_as_far_as_it_can(self, call: Call) -> None:
        while call.can_go_on:
            await self.go_on(call)

    async def finish(self, *calls: Call) -> None:
        """Let them go on, the first one first, until all are done."""
        while not all(call.task.done() for call in calls):
            able = next((call for call in calls if call.can_go_on), None)
            assert able is not None, "the calls wait for each other"
            await self.go_as_far_as_it_can(able)

    async def kill(self, call: Call) -> None:
        """It goes no further, and what it has not committed never was; work on a disk that has begun is done."""
        call.task.cancel()
        await self._settle()
        await self.finish(call)
        await asyncio.gather(call.task, return_exceptions=True)

    async def _settle(self) -> None:
        """Until nobody is at work who does not wait for a lock."""
        while True:
            self._changed.clear()
            at_work = [call for call in self._calls if call.is_at_work]
            if not at_work:
                return
            try:
                async with asyncio.timeout(_PATIENCE):
                    await self._changed.wait()
            except TimeoutError:
                if await self._all_wait(at_work):
                    return

    async def _all_wait(self, calls: list[Call]) -> bool:
        backends = [call.backend for call in calls if call.backend is not None]
        if len(backends) < len(calls):
            return False
        cursor = await self._watch.execute(_BLOCKED, (backends,))
        return await cursor.fetchone() == (len(calls),)


class _Cursor:
    def __init__(self, unit: Unit, cursor: psycopg.AsyncCursor[Any]) -> None:
        self._unit = unit
        self._cursor = cursor
        self.fetchone, self.fetchall = cursor.fetchone, cursor.fetchall

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    async def execute(self, statement: Any, parameters: Any = None, **how: Any) -> "_Cursor":
        await take_turn(self._unit.info.backend_pid)
        await self._cursor.execute(statement, parameters, **how)
        return self


class _Unit:
    """Serves where a unit of work does."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit

    async def execute(self, statement: Any, parameters: Any = None, **how: Any) -> _Cursor:
        return await _Cursor(self._unit, self._unit.cursor()).execute(statement, parameters, **how)

    @asynccontextmanager
    async def cursor(self, row_factory: Any) -> AsyncIterator[_Cursor]:
        async with self._unit.cursor(row_factory=row_factory) as cursor:
            yield _Cursor(self._unit, cursor)


class TurnDatabase:
    """Serves where Database does: its statements and commits take turns."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @asynccontextmanager
    async def unit(self, tenant: UUID | None = None, user: UUID | None = None) -> AsyncIterator[_Unit]:
        async with self._db.unit(tenant, user) as unit:
            yield _Unit(unit)
            await take_turn()

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[_Unit]:
        async with self._db.worker() as unit:
            yield _Unit(unit)
            await take_turn()
