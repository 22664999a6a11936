"""What a client did before its transaction: a number drawn, or a look at the catalogue; only planted faults do that."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Ahead:
    """`draws` or `looks`: what clients may do ahead; `told`: answers, `early`: the number, of the client that moves."""

    draws: bool = False
    looks: bool = False
    numbers: int = 0
    early: int | None = None
    recording: list[Any] | None = None
    told: list[Any] = field(default_factory=list)

    def number(self) -> int:
        """The next of a SEQUENCE, or that which the client drew before."""
        if self.early is not None:
            return self.early
        self.numbers += 1
        return self.numbers

    def answered(self, function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """`function`, whose answers are kept while a client looks, and given again when it then acts."""

        async def answer(*args: Any, **named: Any) -> Any:
            if self.told:
                return self.told.pop(0)
            found = await function(*args, **named)
            if self.recording is not None:
                self.recording.append(found)
            return found

        return answer
