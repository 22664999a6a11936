import threading
from collections.abc import Generator

from client.account.promises import Verdict, try_out
from client.errors import StoreError
from client.stores.tests.memory import MemorySession, MemoryStore
from domain.names import ObjectName
from domain.sessions import Purpose


class FailingAtFirst(MemoryStore):
    """Its first session cannot be opened."""

    creates_once = True
    tested_with = ""

    def __init__(self) -> None:
        super().__init__()
        self.opened = 0
        self.counting = threading.Lock()

    def beside(self, _: str) -> "FailingAtFirst":
        return self

    def remove_beside(self, _: str) -> None:
        """There is nothing."""

    def open(self, purpose: Purpose, parent: ObjectName | None = None) -> MemorySession:
        with self.counting:
            self.opened += 1
            if self.opened == 1:
                raise StoreError(place="the store", detail="it is away")
        return super().open(purpose, parent)


def test_a_device_that_cannot_come_does_not_keep_the_others_waiting() -> None:
    trial = try_out(FailingAtFirst(), "beside")
    first = next(trial)
    assert (first.verdict, first.said) == (Verdict.BROKEN, "the store: it is away")
    assert isinstance(trial, Generator)
    trial.close()
