"""A prune that is ended at any call to the store, and histories in which that happens again and again."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.errors import StoreError
from client.reachability.tests.a_history import EXACTLY, Files, History, copied
from client.retention.prune import PruneLimits
from client.stores.abc import StoreSession
from client.stores.tests.memory import MemoryStore
from client.testing.faults import CallFault, FailingCall
from domain.names import ObjectKind

CUT = StoreError(place="the store", detail="the connection was cut")


def a_history() -> History:
    """Nearly every pack has something needed and something not; some blobs lie twice, some packs in no index file."""
    history = History()
    files = {f"{folder}/{name}": range(folder * 20, folder * 20 + 18) for folder in range(6) for name in "ab"}
    first = history.backup(files, pack_blobs=2)
    history.backup({"all": range(0, 120, 3), "0/a": range(9)}, pack_blobs=3)
    history.backup({"all": range(0, 80, 9)}, knows=False, steps=2)
    history.backup({"none": range(200, 205)}, steps=1)
    assert first is not None
    history.forget(first)
    return history


class Calls:
    """Puts a failing call around each session, and remembers how many calls there were."""

    def __init__(self, nth: int, fault: CallFault) -> None:
        self.nth, self.fault = nth, fault
        self.session: FailingCall | None = None

    def __call__(self, session: StoreSession) -> FailingCall:
        self.session = FailingCall(session, self.nth, self.fault, CUT)
        return self.session

    @property
    def made(self) -> int:
        return self.session.calls if self.session else 0

    @property
    def condemned(self) -> list[int]:
        """Which of them condemn: what needs nothing new, and at the end index files, then packs."""
        return self.session.condemned if self.session else []


def crash(history: History, nth: int, fault: CallFault, limits: PruneLimits = EXACTLY) -> bool:
    """Prune until call number `nth`; whether there was one."""
    calls = Calls(nth, fault)
    try:
        history.prune(limits, calls)
    except StoreError as error:
        if error is not CUT:
            raise
        return True
    return False


@pytest.mark.parametrize("fault", CallFault)
def test_whatever_call_ends_a_prune_nothing_is_lost_and_the_next_goes_on(fault: CallFault) -> None:
    whole = a_history()
    counting = Calls(0, fault)
    copied(whole).prune(around=counting)
    assert counting.made >= 40
    assert len(counting.condemned) >= 3
    for nth in counting.condemned if fault is CallFault.HALF else range(1, counting.made + 1):
        history = copied(whole)
        assert crash(history, nth, fault)
        assert history.problems(errors=True) == [], nth
        assert history.names(ObjectKind.SNAPSHOT) == set(history.snapshots)
        if nth % 4 == 0:
            crash(history, 1 + nth // 2, fault)
        history.prune()
        assert history.problems() == [], nth
        assert history.blobs() == history.needed()


Step = tuple[str, int, int]
NUMBERS = st.integers(0, 40)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["backup", "backup", "blind backup", "ended backup", "forget"]), NUMBERS, NUMBERS),
        st.tuples(st.sampled_from(["prune", "crash", "lost reply", "half"]), NUMBERS, NUMBERS),
    ),
    min_size=3,
    max_size=12,
)


def some_files(start: int, count: int) -> Files:
    return {f"{start % 3}/file": range(start, start + count), "top": range(start // 2, start // 2 + 3)}


@settings(max_examples=12, deadline=None)
@given(STEPS)
def test_whatever_happens_every_snapshot_is_whole_and_at_last_nothing_else_is_left(steps: Sequence[Step]) -> None:
    history = History()
    history.backup({"first": [1]})
    for what, one, other in steps:
        take(history, what, one, other)
        assert history.problems(errors=True) == []
        assert history.names(ObjectKind.SNAPSHOT) == set(history.snapshots)
    assert history.is_whole()
    history.prune()
    assert history.problems() == []
    assert history.is_whole()
    assert history.blobs() == history.needed()


def take(history: History, what: str, one: int, other: int) -> None:
    limits = PruneLimits(unused_share=other / 50, repack_bytes=one * 200 if one % 3 else None)
    match what:
        case "backup" | "blind backup":
            history.backup(some_files(one, other), pack_blobs=1 + one % 7, knows=what == "backup")
        case "ended backup":
            history.backup(some_files(one, other), knows=one % 2 > 0, steps=1 + other % 2)
        case "forget":
            if len(history.snapshots) > 1:  # as a pass does, which leaves one; nothing is pruned without any
                history.forget(sorted(history.snapshots)[one % len(history.snapshots)])
        case "prune":
            history.prune(limits)
        case _:
            faults = {"crash": CallFault.LOST, "lost reply": CallFault.REPLY_LOST, "half": CallFault.HALF}
            crash(history, 1 + one, faults[what], limits)


def test_packs_that_a_crashed_prune_has_written_are_taken_over_if_an_index_file_lists_them() -> None:
    """New packs and index files are there, the old ones too: the new ones are kept, and nothing is moved twice."""
    history = a_history()
    assert isinstance(history.store, MemoryStore)
    counting = Calls(0, CallFault.LOST)
    copied(history).prune(around=counting)
    nth = counting.condemned[-2]  # of the index files that list something needed
    assert crash(history, nth, CallFault.LOST)
    both = history.names(ObjectKind.PACK)

    report = history.prune()

    assert report.duplicate.blobs > 0
    assert report.new_packs == 0
    assert history.names(ObjectKind.PACK) < both
    assert history.problems() == []
    assert history.is_whole()
