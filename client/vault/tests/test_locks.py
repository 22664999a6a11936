import os
import re
import signal
import socket
import threading
import time
from typing import Any

import pytest

from client.errors import NoRoomForLock, SessionOver, StoreError, StoreFull
from client.platforms.pids import pid_space
from client.stores.tests.memory import MemoryStore
from client.vault.locks import Lock, LockLost, VaultLock, VaultLocked, encode_lock, live_locks, vault_lock
from client.vault.repository import Vault
from client.vault.tests.builders import a_writer
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose

NOW = 1_800_000_000 * 10**9
MINUTE = 60 * 10**9
DEAD_PID = 2**22 + 1  # above what Linux gives


@pytest.fixture
def vault() -> Vault:
    return a_writer(needs_locks=True).vault


def locks_in(vault: Vault) -> list[ObjectName]:
    return [info.name for info in vault.session.list(ObjectKind.LOCK)]


def a_lock_in(vault: Vault, age_minutes: float = 1, *, exclusive: bool = False, **fields: object) -> ObjectName:
    lock = Lock(NOW - int(age_minutes * MINUTE), exclusive, **({"hostname": "elsewhere", "pid": 1} | fields))  # type: ignore[arg-type]
    return vault.save_unpacked(ObjectKind.LOCK, encode_lock(lock))


def test_a_lock_lies_in_the_vault_while_it_is_held(vault: Vault) -> None:
    with vault_lock(vault, needed=True) as lock:
        assert lock is not None
        (name,) = locks_in(vault)
        ((listed, kept),) = live_locks(vault, time.time_ns())
        assert listed == name
        assert (kept.exclusive, kept.pid, kept.hostname) == (False, os.getpid(), socket.gethostname())
    assert locks_in(vault) == []


def test_a_process_that_holds_a_lock_outlives_the_signal_by_which_restic_asks_for_it(vault: Vault) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with vault_lock(vault, needed=True):
            assert signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("exclusive", [False, True])
def test_no_lock_is_held_that_the_list_of_locks_lacks(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, *, exclusive: bool
) -> None:
    monkeypatch.setattr(vault.session, "list", lambda _: iter(()))
    with (
        pytest.raises(StoreError, match="lacks the one just made"),
        vault_lock(vault, needed=True, exclusive=exclusive),
    ):
        pytest.fail("the lock was held")
    monkeypatch.undo()
    assert locks_in(vault) == []


def test_the_lock_of_whoever_closed_the_session_to_end_a_call_is_removed_by_another(vault: Vault) -> None:
    store = vault.session.store  # type: ignore[attr-defined]
    with vault_lock(vault, needed=True, reopen=lambda: store.open(Purpose.READ)):
        assert [name.kind for name in store.objects].count(ObjectKind.LOCK) == 1
        vault.session.close()
    assert ObjectKind.LOCK not in {name.kind for name in store.objects}


def losing_the_answer(vault: Vault, monkeypatch: pytest.MonkeyPatch, error: StoreError) -> None:
    """The next object is stored, and the store does not say so."""
    put = vault.session.put

    def lost(name: ObjectName, body: Any) -> bool:
        monkeypatch.setattr(vault.session, "put", put)
        put(name, body)
        raise error

    monkeypatch.setattr(vault.session, "put", lost)


def test_a_lock_of_which_the_store_did_not_say_that_it_was_written_is_not_left_behind(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    losing_the_answer(vault, monkeypatch, StoreError(place="the store", detail="it went away"))
    with pytest.raises(StoreError, match="it went away"), vault_lock(vault, needed=True):
        pytest.fail("the lock was held")
    assert locks_in(vault) == []


def test_a_refresh_of_which_the_answer_was_lost_leaves_no_lock_behind(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = VaultLock(vault)
    lock.acquire()
    for _ in range(2):
        losing_the_answer(vault, monkeypatch, StoreError(place="the store", detail="it went away"))
        with pytest.raises(StoreError, match="it went away"):
            lock.refresh()
    assert len(locks_in(vault)) == 3
    lock.refresh()
    assert len(locks_in(vault)) == 1
    losing_the_answer(vault, monkeypatch, StoreError(place="the store", detail="it went away"))
    with pytest.raises(StoreError, match="it went away"):
        lock.refresh()
    lock.release()
    assert locks_in(vault) == []


def test_no_lock_is_left_of_a_refresh_that_was_ended_with_its_session(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = vault.session.store  # type: ignore[attr-defined]
    lock = VaultLock(vault, reopen=lambda: store.open(Purpose.READ))
    lock.acquire()
    losing_the_answer(vault, monkeypatch, SessionOver(place="the store"))
    with pytest.raises(SessionOver):
        lock.refresh()
    vault.session.close()
    lock.release()
    assert ObjectKind.LOCK not in {name.kind for name in store.objects}


def test_a_lock_that_is_taken_anew_is_removed_by_another_session_too(vault: Vault) -> None:
    store = vault.session.store  # type: ignore[attr-defined]
    lost = VaultLock(vault, exclusive=True, place="there", reopen=lambda: store.open(Purpose.READ))
    lost.acquire()
    lost.release()
    lock = lost.anew()
    lock.acquire()
    [(_, found)] = live_locks(vault, time.time_ns())
    assert found.exclusive
    vault.session.close()
    lock.release()
    assert ObjectKind.LOCK not in {name.kind for name in store.objects}


def test_a_lock_that_cannot_be_removed_soon_keeps_nobody(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.vault.locks._LAST_SECONDS", 0.01)
    store = vault.session.store  # type: ignore[attr-defined]
    closed = threading.Event()
    other = store.open(Purpose.READ)

    def hangs(_: ObjectName) -> None:
        assert closed.wait(60)
        raise SessionOver(place="the store")

    monkeypatch.setattr(other, "remove", hangs)
    monkeypatch.setattr(other, "close", closed.set)
    with vault_lock(vault, needed=True, reopen=lambda: other):
        vault.session.close()
    assert closed.is_set()


def test_no_lock_is_made_where_none_is_needed(vault: Vault) -> None:
    with vault_lock(vault, needed=False) as lock:
        assert lock is None
        assert locks_in(vault) == []


def test_a_lock_is_removed_after_an_error_too(vault: Vault) -> None:
    with pytest.raises(RuntimeError), vault_lock(vault, needed=True):
        raise RuntimeError
    assert locks_in(vault) == []


def test_a_session_that_was_closed_meanwhile_hides_no_other_error(vault: Vault) -> None:
    with pytest.raises(RuntimeError, match="what failed"), vault_lock(vault, needed=True):
        fail_in_a_closed_session(vault)


def fail_in_a_closed_session(vault: Vault) -> None:
    vault.session.close()
    raise RuntimeError("what failed")


def test_shared_locks_go_together(vault: Vault) -> None:
    a_lock_in(vault)
    lock = VaultLock(vault, now_ns=lambda: NOW)
    lock.acquire()
    assert len(locks_in(vault)) == 2
    lock.release()
    assert len(locks_in(vault)) == 1


@pytest.mark.parametrize(("mine", "theirs"), [(False, True), (True, False), (True, True)])
def test_an_exclusive_lock_goes_with_no_other(vault: Vault, mine: bool, theirs: bool) -> None:
    other = a_lock_in(vault, exclusive=theirs, hostname="kasimir", username="fd0", pid=4711)
    lock = VaultLock(vault, exclusive=mine, place="/srv/vault", now_ns=lambda: NOW)
    with pytest.raises(VaultLocked, match=r"/srv/vault is locked by fd0@kasimir \(process 4711\)"):
        lock.acquire()
    assert locks_in(vault) == [other]


@pytest.mark.parametrize(("age", "counts"), [(29, True), (31, False), (-5, True)])
def test_a_lock_counts_for_thirty_minutes(vault: Vault, age: float, counts: bool) -> None:
    a_lock_in(vault, age, exclusive=True)
    assert len(list(live_locks(vault, NOW))) == counts


def test_a_lock_of_a_dead_process_of_this_machine_counts_for_nothing(vault: Vault) -> None:
    host, space = socket.gethostname(), pid_space()
    a_lock_in(vault, exclusive=True, hostname=host, pid=DEAD_PID, pid_space=space)
    assert list(live_locks(vault, NOW)) == []
    a_lock_in(vault, exclusive=True, hostname=host, pid=os.getpid(), pid_space=space)
    assert len(list(live_locks(vault, NOW))) == 1


@pytest.mark.parametrize("exclusive", [False, True])
def test_locks_that_killed_processes_of_this_machine_left_do_not_pile_up(vault: Vault, exclusive: bool) -> None:
    here: dict[str, Any] = {"hostname": socket.gethostname(), "pid_space": pid_space()}
    for age in (1, 100):
        a_lock_in(vault, age, exclusive=True, pid=DEAD_PID, **here)
    stay = {a_lock_in(vault, 100, pid=os.getpid(), **here), a_lock_in(vault, 100, exclusive=True)}

    lock = VaultLock(vault, exclusive=exclusive, now_ns=lambda: NOW)
    lock.acquire()
    lock.release()

    assert set(locks_in(vault)) == stay


def test_a_lock_left_behind_that_this_process_may_not_remove_stops_nobody(vault: Vault) -> None:
    a_lock_in(vault, hostname=socket.gethostname(), pid_space=pid_space(), pid=DEAD_PID)

    def remove(name: ObjectName) -> None:
        raise StoreError(place="here", detail=f"{name} is another's")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vault.session, "remove", remove)
        lock = VaultLock(vault, now_ns=lambda: NOW)
        lock.acquire()
    lock.release()
    assert len(locks_in(vault)) == 1


@pytest.mark.parametrize(("exclusive", "error"), [(True, NoRoomForLock), (False, StoreFull)])
def test_a_store_without_room_for_a_lock_says_how_much_it_takes_to_remove_something(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, exclusive: bool, error: type[StoreFull]
) -> None:
    def put(*_: object) -> bool:
        raise StoreFull(place="here", detail="no space left on device")

    monkeypatch.setattr(vault.session, "put", put)
    with pytest.raises(StoreFull) as caught:
        VaultLock(vault, exclusive=exclusive).acquire()
    assert type(caught.value) is error
    assert (re.search(r"free at least [0-9]{3} bytes there", str(caught.value)) is not None) == exclusive


@pytest.mark.parametrize(
    ("hostname", "space"),
    [
        (socket.gethostname(), ""),  # of restic, which tells the host name alone
        (socket.gethostname(), "5e" * 16),  # of another container, or another machine, or before this one was started
        ("elsewhere", pid_space()),
    ],
)
def test_a_lock_counts_for_its_time_where_its_process_cannot_be_seen(vault: Vault, hostname: str, space: str) -> None:
    a_lock_in(vault, 29, exclusive=True, hostname=hostname, pid=DEAD_PID, pid_space=space)
    with pytest.raises(VaultLocked):
        VaultLock(vault, now_ns=lambda: NOW).acquire()
    later = VaultLock(vault, now_ns=lambda: NOW + 2 * MINUTE)
    later.acquire()
    later.release()


def test_a_lock_that_comes_while_ours_is_written_is_seen(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = Vault.seal_unpacked

    def seal(self: Vault, *args: object) -> tuple[ObjectName, bytes]:
        monkeypatch.undo()
        a_lock_in(vault, exclusive=True)
        return genuine(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Vault, "seal_unpacked", seal)
    with pytest.raises(VaultLocked):
        VaultLock(vault, now_ns=lambda: NOW).acquire()
    assert len(locks_in(vault)) == 1


def test_a_lock_is_refreshed_by_a_new_one_before_the_old_one_goes(vault: Vault) -> None:
    times = iter(range(NOW, NOW + 100))
    seen: list[int] = []
    lock = VaultLock(vault, now_ns=lambda: next(times))
    lock.acquire()
    (before,) = locks_in(vault)
    genuine = vault.session.remove

    def remove(name: ObjectName) -> None:
        seen.append(len(locks_in(vault)))
        genuine(name)

    vault.session.remove = remove  # type: ignore[method-assign]
    lock.refresh()
    (after,) = locks_in(vault)
    assert before != after
    assert seen == [2]
    lock.release()
    assert locks_in(vault) == []


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


def test_a_lock_that_cannot_be_refreshed_is_lost_when_it_grows_stale(vault: Vault) -> None:
    clock = Clock()
    tried = threading.Event()

    def put(*_: object) -> bool:
        tried.set()
        raise StoreError(place="here", detail="gone")

    lock = VaultLock(vault, refresh_seconds=0.001, now_ns=clock)
    lock.acquire()
    vault.session.put = put  # type: ignore[method-assign, assignment]
    assert tried.wait(60)
    assert not lock.lost.is_set()
    clock.now += 31 * MINUTE
    assert lock.lost.wait(60)
    lock.release()


def test_a_lock_that_grew_stale_while_the_machine_slept_is_lost_though_it_could_be_refreshed(vault: Vault) -> None:
    clock = Clock()
    lock = VaultLock(vault, now_ns=clock)
    lock.acquire()
    lock.ensure_held()
    clock.now += 31 * MINUTE
    with pytest.raises(LockLost):
        lock.ensure_held()
    clock.now -= 31 * MINUTE
    with pytest.raises(LockLost):
        lock.ensure_held()
    lock.release()


def test_a_clock_set_back_does_not_hide_that_a_lock_grew_stale(vault: Vault) -> None:
    clock, running = Clock(), Clock()
    lock = VaultLock(vault, now_ns=clock, running_ns=running)
    lock.acquire()
    clock.now -= 24 * 60 * MINUTE
    lock.ensure_held()
    running.now += 31 * MINUTE
    with pytest.raises(LockLost):
        lock.ensure_held()
    lock.release()


def test_a_lock_is_refreshed_and_released_after_the_clock_was_set_back(vault: Vault) -> None:
    clock = Clock()
    lock = VaultLock(vault, now_ns=clock)
    lock.acquire()
    clock.now -= 24 * 60 * MINUTE
    lock.refresh()
    lock.ensure_held()
    assert len(locks_in(vault)) == 1
    with vault_lock(vault, needed=True):
        assert len(locks_in(vault)) == 2
    lock.release()
    assert locks_in(vault) == []


def test_a_thread_keeps_the_lock_fresh() -> None:
    writer = a_writer(needs_locks=True)
    clock = Clock()
    lock = VaultLock(writer.vault, refresh_seconds=0.001, now_ns=clock)
    lock.acquire()
    store = writer.store
    assert isinstance(store, MemoryStore)
    refreshed = threading.Event()
    genuine = writer.session.remove

    def remove(name: ObjectName) -> None:
        genuine(name)
        refreshed.set()

    writer.session.remove = remove  # type: ignore[method-assign]
    clock.now += 6 * MINUTE
    assert refreshed.wait(60)
    lock.release()
    assert locks_in(writer.vault) == []
