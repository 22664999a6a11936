"""restic's lock files, for stores that do not keep sessions apart themselves.

Kept true: while a lock is held nobody who follows restic's rules removes what we rely on, since removal needs an
exclusive lock and an exclusive lock is refused while ours is fresh. A lock older than 30 minutes is stale and
counts for nothing (restic, doc/design.rst, "Locks"), so ours is written anew every 5 minutes: the new one first,
then the old one is removed. A younger one counts for nothing only if its process is known to have ended, which is known
where it ran alone: restic takes a pid that is not there, of its own host name, for that, but the process may run in
another container, or on another machine, of the same host name.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from client.errors import DamagedVault, NoRoomForLock, ObjectMissing, SessionOver, StoreError, StoreFull
from client.interrupts import unmoved_by_hang_ups
from client.platforms.pids import is_gone, pid_space
from client.stores.abc import StoreSession
from client.stores.limited import ask_before_bodies
from client.vault.documents import U32, Document
from client.vault.gojson import json_string
from client.vault.repository import Vault
from client.vault.times import format_time, parse_time
from domain.names import ObjectKind, ObjectName

STALE_SECONDS = 30 * 60
REFRESH_SECONDS = 5 * 60
_LAST_SECONDS = 10.0  # for removing a lock behind a call that hung


class VaultLocked(StoreError):
    """{place} is locked by {holder}: {detail}. Wait for it; `restic unlock`, or 30 minutes, end a lock left behind."""


class LockLost(StoreError):
    """The lock on {place} grew stale: another program may have removed what this one relied on. Run it again."""


@dataclass(frozen=True, slots=True)
class Lock:
    """One lock file; `time_ns` nanoseconds since 1970.

    `pid_space` tells where `pid` means what it means (client/platforms/pids.py): ours, and empty in restic's own locks.
    """

    time_ns: int
    exclusive: bool
    hostname: str = ""
    username: str = ""
    pid: int = 0
    uid: int = 0
    gid: int = 0
    pid_space: str = ""


def encode_lock(lock: Lock) -> bytes:
    """The JSON document of a lock, as restic writes it; a field that it does not know, and passes over, comes last."""
    numbers = "".join(f',"{field}":{value}' for field, value in (("uid", lock.uid), ("gid", lock.gid)) if value)
    space = f',"oort_pid_space":{json_string(lock.pid_space)}' if lock.pid_space else ""
    return (
        f'{{"time":"{format_time(lock.time_ns)}","exclusive":{"true" if lock.exclusive else "false"},'
        f'"hostname":{json_string(lock.hostname)},"username":{json_string(lock.username)},"pid":{lock.pid}{numbers}{space}}}'
    ).encode()


def decode_lock(body: bytes, name: str) -> Lock:
    """Raises DamagedVault."""
    document = Document.parse(body, name)
    try:
        time_ns = parse_time(document.text("time"))
    except ValueError as error:
        raise DamagedVault(name=name, detail=f"its time cannot be read: {error}") from None
    return Lock(
        time_ns=time_ns,
        exclusive=document.fields.get("exclusive") is True,
        hostname=document.text("hostname"),
        username=document.text("username"),
        pid=document.whole("pid"),
        uid=document.whole("uid", U32),
        gid=document.whole("gid", U32),
        pid_space=document.text("oort_pid_space"),
    )


def live_locks(vault: Vault, now_ns: int) -> Iterator[tuple[ObjectName, Lock]]:
    """The locks that are not stale. One that vanishes meanwhile is over; an unreadable one raises DamagedVault."""
    return ((name, lock) for name, lock in _locks(vault) if _counts(lock, now_ns))


def _locks(vault: Vault) -> Iterator[tuple[ObjectName, Lock]]:
    for info in vault.session.list(ObjectKind.LOCK):
        try:
            yield info.name, decode_lock(vault.load_unpacked(info.name), str(info.name))
        except ObjectMissing:
            continue


def _counts(lock: Lock, now_ns: int) -> bool:
    return now_ns - lock.time_ns <= STALE_SECONDS * 1_000_000_000 and not _is_dead_here(lock)


def _running_ns() -> int:
    """Nanoseconds of a clock that nobody sets; where the system has one, it runs while the machine sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic_ns()


class VaultLock:
    """A lock that is kept fresh by a thread until it is released.

    `lost` is set when it could not be refreshed before it grew stale, because the store did not take it or this
    machine slept: stop, another may be removing things. `ensure_held` says so.
    """

    def __init__(
        self,
        vault: Vault,
        *,
        exclusive: bool = False,
        place: str = "the vault",
        refresh_seconds: float = REFRESH_SECONDS,
        reopen: Callable[[], StoreSession] | None = None,
        now_ns: Callable[[], int] = time.time_ns,
        running_ns: Callable[[], int] = _running_ns,
    ) -> None:
        self._vault = vault
        self._exclusive = exclusive
        self._place = place
        self._refresh_seconds = refresh_seconds
        self._reopen = reopen
        self._now_ns = now_ns
        self._running_ns = running_ns
        self._ended = threading.Event()
        self._name: ObjectName | None = None
        self._written: list[ObjectName] = []  # with those of which the answer was lost
        self._left_behind: list[ObjectName] = []  # locks of processes that are no more
        self._written_ns = self._written_running_ns = 0
        self._thread = threading.Thread(target=self._keep_fresh, name="vault-lock", daemon=True)
        self.lost = threading.Event()

    def acquire(self) -> None:
        """Take the lock. Raises VaultLocked when another's forbids it, StoreError when it cannot be written.

        Looked at before and after writing ours, so that of two who come at once at least one sees the other; a list
        without ours would lack another's too, so it is refused. Those that ended processes of this machine left behind
        are removed: nobody else may ever come to do it.
        """
        self._refuse_conflicts()
        self._remove_left_behind()
        try:
            self._write()
            self._refuse_conflicts()
        except BaseException:
            with contextlib.suppress(StoreError):  # why there is no lock counts
                self._remove()
            raise
        self._thread.start()

    def release(self) -> None:
        """Stop refreshing and remove the lock."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._remove()

    def anew(self) -> "VaultLock":
        """Another one of the same vault, not taken yet: for whoever has lost this one."""
        return VaultLock(
            self._vault,
            exclusive=self._exclusive,
            place=self._place,
            refresh_seconds=self._refresh_seconds,
            reopen=self._reopen,
            now_ns=self._now_ns,
            running_ns=self._running_ns,
        )

    def ensure_held(self) -> None:
        """Raise LockLost if the lock grew stale at any time since it was taken."""
        if self._is_stale():
            self.lost.set()
        if self.lost.is_set():
            raise LockLost(place=self._place)

    def refresh(self) -> None:
        """Write the lock anew, then remove the old one, and what was written in vain before. Raises StoreError."""
        self._write()
        for old in [name for name in self._written if name != self._name]:
            with contextlib.suppress(ObjectMissing):
                self._vault.session.remove(old)
            self._written.remove(old)

    def _keep_fresh(self) -> None:
        while not self._ended.wait(self._refresh_seconds):
            if self._is_stale():
                self.lost.set()
                return
            try:
                self.refresh()
            except (StoreError, DamagedVault):
                continue  # it counts for some time yet, and is tried again

    def _is_stale(self) -> bool:
        """By the wall clock, as others judge it; and by one that nobody can set back."""
        elapsed = max(self._now_ns() - self._written_ns, self._running_ns() - self._written_running_ns)
        return elapsed > STALE_SECONDS * 1_000_000_000

    def _write(self) -> None:
        now, running = self._now_ns(), self._running_ns()
        lock = Lock(now, self._exclusive, socket.gethostname(), _username(), os.getpid(), *_owner(), pid_space())
        name, body = self._vault.seal_unpacked(ObjectKind.LOCK, encode_lock(lock))
        self._written.append(name)
        try:
            self._vault.session.put(name, body)
        except StoreFull as full:
            if self._exclusive:
                raise NoRoomForLock(**full.fields, size=len(body)) from None
            raise
        self._name = name
        self._written_ns, self._written_running_ns = now, running

    def _remove(self) -> None:
        names, self._written, self._name = self._written[::-1], [], None
        for at, name in enumerate(names):
            try:
                with contextlib.suppress(ObjectMissing):
                    self._vault.session.remove(name)
            except SessionOver:
                self._remove_anew(names[at:])
                return

    def _remove_anew(self, names: Sequence[ObjectName]) -> None:
        """Remove them by another session, where ours was closed to end a call that hung.

        If the store still answers nothing, they are left for the next program on this machine.
        """
        if self._reopen is None:
            return
        with contextlib.suppress(StoreError), self._reopen() as session:
            hurry = threading.Timer(_LAST_SECONDS, session.close)
            hurry.start()
            try:
                for name in names:
                    with contextlib.suppress(ObjectMissing):
                        session.remove(name)
            finally:
                hurry.cancel()

    def _remove_left_behind(self) -> None:
        for name in self._left_behind:
            with contextlib.suppress(StoreError):  # it counts for nothing, also where this process may not remove it
                self._vault.session.remove(name)

    def _refuse_conflicts(self) -> None:
        self._left_behind = []
        now = self._now_ns()
        sees_ours = False
        try:
            for name, lock in _locks(self._vault):
                if name == self._name:
                    sees_ours = True
                elif _is_dead_here(lock):
                    self._left_behind.append(name)
                elif _counts(lock, now) and (self._exclusive or lock.exclusive):
                    holder = f"{lock.username or 'someone'}@{lock.hostname or 'another machine'} (process {lock.pid})"
                    raise VaultLocked(
                        place=self._place,
                        holder=holder,
                        detail=f"{'exclusive ' if lock.exclusive else ''}since {format_time(lock.time_ns)}",
                    )
        except DamagedVault as error:
            raise VaultLocked(place=self._place, holder="someone", detail=f"a lock cannot be read ({error})") from None
        if self._name is not None and not sees_ours:
            detail = "its list of locks lacks the one just made there, so it may lack others: run the command again"
            raise StoreError(place=self._place, detail=detail)


@contextlib.contextmanager
def vault_lock(
    vault: Vault,
    *,
    needed: bool,
    exclusive: bool = False,
    place: str = "the vault",
    now_ns: Callable[[], int] = time.time_ns,
    reopen: Callable[[], StoreSession] | None = None,
) -> Iterator[VaultLock | None]:
    """Hold a lock around something, where `needed` (a store's `needs_locks`) says so. Raises VaultLocked.

    `reopen` opens another session of the store, for whoever may close the vault's within.
    """
    if not needed:
        yield None
        return
    lock = VaultLock(vault, exclusive=exclusive, place=place, now_ns=now_ns, reopen=reopen)
    with unmoved_by_hang_ups():
        lock.acquire()
        ask_before_bodies(vault.session, lock.ensure_held)
        try:
            yield lock
        finally:
            ask_before_bodies(vault.session, None)
            lock.release()


def _is_dead_here(lock: Lock) -> bool:
    """Whether a lock was made by a process that could be seen from here, and is no more."""
    if not lock.pid or not lock.pid_space:
        return False
    return (lock.hostname, lock.pid_space) == (socket.gethostname(), pid_space()) and is_gone(lock.pid)


def _username() -> str:
    return os.environ.get("USER") or os.environ.get("USERNAME") or ""


def _owner() -> tuple[int, int]:
    return (os.getuid(), os.getgid()) if hasattr(os, "getuid") else (0, 0)
