"""A client that is stopped at any of its calls to the store, and the same client's next run.

On a folder and on a real storage node, for a backup, for a retention with a prune that repacks, for index files that
are written anew from others, and for rebuild-index. Today's engine writes index files from others in four places: a
prune folds many small ones, such as backups leave at their checkpoints, into few (an operation of its own here); one
that repacks replaces those that list what goes (in retention); rebuild-index replaces all; and a backup lists packs
that it has reserved in index files of its own.

An operation makes forty calls or more, and each is lost, or done and its reply is lost. What that leaves is in part
the same: who is stopped does nothing more, so the loss of a reply leaves what the loss of the next call does, and one
that only reads leaves what was there before it. On the folder a client is stopped at each call that it makes, with
the call lost, and at each that changes something with its reply lost. On the node, where a run costs ten times as
much, it is every second one of those that change something, both ways: each state that any of the stops leaves, once.

After each the strict check reads all data and every snapshot is read whole and compared; restic looks at one in eight.
Then, unless it was a call that only reads, the operation is run again: a backup while the session of the one that was
stopped is still open, what must be alone in the vault when time has ended that.
"""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

import pytest

from client.errors import StoreError
from client.testing.stops import Stop, StoppingStore
from client.vault.checker import check
from client.vault.repository import Vault
from deploy.tests.end_to_end.restic import Restic
from deploy.tests.stops.operations import OPERATIONS, Operation, Prepared, contents, few_at_once
from deploy.tests.stops.places import KeptFolder, KeptVault, StoppingPlace
from domain.names import ObjectKind
from domain.sessions import Purpose

CALLS = 40  # of each operation, at least
NEVER = 1 << 30
HOUR_NS = 3600 * 10**9

each_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
each_loss = pytest.mark.parametrize("is_reply_lost", [False, True], ids=["call lost", "reply lost"])


@pytest.fixture(scope="module", autouse=True)
def _few_at_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        few_at_once(patched)
        yield


Rehearse = Callable[[Operation], tuple[Prepared, Stop]]


@pytest.fixture(scope="module")
def rehearsed(place: StoppingPlace, tmp_path_factory: pytest.TempPathFactory) -> Rehearse:
    """The vault of an operation, and the calls that a whole run makes."""

    @functools.cache
    def rehearse(operation: Operation) -> tuple[Prepared, Stop]:
        prepared = operation.prepare(tmp_path_factory.mktemp("prepared"))
        before = KeptFolder(prepared.folder).at_rest().objects
        stop = Stop(NEVER, is_reply_lost=False)
        with stopped(place, prepared, operation, stop) as kept:
            ensure_done(prepared, kept, operation)
            assert {name.kind for name in set(kept.at_rest().objects) - set(before)} == operation.writes
        assert stop.calls >= CALLS
        return prepared, stop

    return rehearse


@each_loss
@each_operation
def test_wherever_a_client_is_stopped_nothing_is_lost_and_the_next_run_succeeds(
    place: StoppingPlace, rehearsed: Rehearse, operation: Operation, is_reply_lost: bool
) -> None:
    prepared, whole = rehearsed(operation)
    for at in calls_to_lose(place, whole, is_reply_lost=is_reply_lost):
        stop = Stop(at, is_reply_lost=is_reply_lost)
        with stopped(place, prepared, operation, stop) as kept:
            ensure_nothing_is_lost(prepared, kept)
            if at in whole.changes:
                if operation.is_alone:
                    kept.grow_old()
                operation.run(prepared, kept.store, time.time_ns)
                ensure_done(prepared, kept, operation)


@pytest.mark.needs("restic")
@each_loss
@each_operation
def test_restic_finds_nothing_wrong_where_it_looks(
    place: StoppingPlace, rehearsed: Rehearse, operation: Operation, is_reply_lost: bool
) -> None:
    """In the folder on the disk, where a node has what was condemned besides; the locks there are of the stopped."""
    prepared, whole = rehearsed(operation)
    for at in calls_to_lose(place, whole, is_reply_lost=is_reply_lost)[1::8]:
        with stopped(place, prepared, operation, Stop(at, is_reply_lost=is_reply_lost)) as kept:
            Restic(kept.folder, prepared.password, "--no-lock").check()


def calls_to_lose(place: StoppingPlace, whole: Stop, *, is_reply_lost: bool) -> Sequence[int]:
    """All that leave something else than others do, and on a quick place many of the rest."""
    if not place.is_quick:
        return whole.changes[::2]
    return whole.changes if is_reply_lost else range(whole.calls)


@contextmanager
def stopped(place: StoppingPlace, prepared: Prepared, operation: Operation, stop: Stop) -> Iterator[KeptVault]:
    """A copy of the vault in which the operation was begun an hour ago; its client has not come to close anything."""
    with place.copied(prepared.folder) as kept, closing(StoppingStore(kept.store, stop)) as store:
        try:
            operation.run(prepared, store, lambda: time.time_ns() - HOUR_NS)
        except StoreError:
            if not stop.has_come:
                raise
        yield kept


def ensure_nothing_is_lost(prepared: Prepared, kept: KeptVault) -> None:
    """No error is found, all that must be there is, and what is there can be read and is as it was."""
    with looked_at(prepared, kept) as vault:
        assert [str(problem) for problem in check(vault, read_data=True) if problem.is_error] == []
        snapshots = contents(vault)
    assert prepared.stay <= set(snapshots)
    for name, files in snapshots.items():
        assert files == prepared.snapshots.get(name, prepared.added)


def ensure_done(prepared: Prepared, kept: KeptVault, operation: Operation) -> None:
    """No error is found, nothing else either if the operation leaves nothing, and just those snapshots are there."""
    with looked_at(prepared, kept) as vault:
        found = [problem for problem in check(vault, read_data=True) if not problem.name.startswith(ObjectKind.LOCK)]
        assert [str(problem) for problem in found if problem.is_error or operation.is_alone] == []
        snapshots = {info.name for info in vault.session.list(ObjectKind.SNAPSHOT)}
    assert snapshots & set(prepared.snapshots) == prepared.stay
    assert bool(snapshots - set(prepared.snapshots)) == bool(prepared.added)


@contextmanager
def looked_at(prepared: Prepared, kept: KeptVault) -> Iterator[Vault]:
    with kept.at_rest().open(Purpose.READ) as session, prepared.vault.in_session(session) as vault:
        yield vault
