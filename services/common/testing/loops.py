"""Event loops for tests, of which a process runs many, one after the other.

Kept true: nothing that comes for a loop that has ended disturbs the one that runs. gRPC has one queue of events for all
loops of a process. Whichever loop runs takes an event out and hands it to the loop that it is for; an event that comes
after that loop's end, of a channel or server that was just closed, would raise RuntimeError in the midst of the others.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple, Unpack

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


class _Loop(asyncio.SelectorEventLoop):
    """Once closed, it takes what others call for and does not do it."""

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Arguments]], object], *args: *Arguments, context: Context | None = None
    ) -> asyncio.Handle:
        if not self.is_closed():
            return super().call_soon_threadsafe(callback, *args, context=context)
        handle = asyncio.Handle(callback, args, self, context)
        handle.cancel()
        return handle


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """As `asyncio.run`."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(work)
