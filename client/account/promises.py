"""What a vault's store promises, tried out beside the vault by the words of the contract (client/stores/abc.py).

Kept true: nothing of the vault itself is touched; what the trial makes lies in a folder of its own, and is removed at
the end, whatever came out.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from client.errors import ObjectMissing, OortError, TruncatedObject
from client.stores.abc import ObjectStore, StoreSession
from domain.names import CONFIG, SEAL, ObjectKind, ObjectName
from domain.sessions import Purpose

_PACK_BYTES = 4 << 20
_LISTED = 12
_DEVICES = 4
_TOGETHER_SECONDS = 600.0  # within which all devices have opened a session; a call ends long before


class Verdict(StrEnum):
    """How a promise came out; a vault needs those that are not `weak`."""

    KEPT = "kept"
    WEAK = "weak"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Promise:
    """One of them; `said` is a sentence for a person."""

    name: str
    verdict: Verdict
    said: str


class TriedStore(ObjectStore, Protocol):
    """A store that can be tried out: one that has a folder beside its vault."""

    @property
    def creates_once(self) -> bool:
        """Whether the store itself sees to it that of two who create the same object one does."""

    @property
    def tested_with(self) -> str:
        """What Oort is tested with, where that is no real server of the kind; else empty."""

    def beside(self, folder: str) -> "TriedStore":
        """The same store, for a vault in a folder of this one, over connections of its own."""

    def remove_beside(self, folder: str) -> None:
        """Remove all of such a folder."""


class _NotKept(Exception):
    """What was seen instead."""


def try_out(store: TriedStore, folder: str, monotonic: Callable[[], float] = time.monotonic) -> Iterator[Promise]:
    """Every promise of `store`, as it comes out. `folder` is one that is not there.

    Raises OortError at the end, if what the trial made cannot be removed.
    """
    if store.tested_with:
        said = f"Oort is tested with {store.tested_with}: back up elsewhere too until you have restored from here"
        yield Promise("experience", Verdict.WEAK, said)
    with ExitStack() as last:
        last.callback(store.remove_beside, folder)
        devices = [store.beside(folder) for _ in range(_DEVICES)]
        for device in devices:
            last.callback(device.close)
        yield _tried("first use", lambda: _first_use(devices))
        with devices[0].open(Purpose.BACKUP) as here, devices[1].open(Purpose.RETENTION) as there:
            body = os.urandom(_PACK_BYTES)
            name = ObjectName.of(ObjectKind.PACK, body)
            yield _tried("upload", lambda: _upload(here, name, body, monotonic))
            yield _tried("read after write", lambda: _download(there, name, body, monotonic))
            yield _tried("ranges", lambda: _ranges(there, name, body))
            yield _tried("stored once", lambda: _stored_once(there, name, body))
            yield _tried("replacing", lambda: _replacing(here, there))
            yield _tried("listing", lambda: _listing(here, there))
            yield _tried("removal", lambda: _removal(here, there, name))


def _tried(name: str, trial: Callable[[], "Promise | str"]) -> Promise:
    try:
        found = trial()
    except (_NotKept, OortError) as error:
        return Promise(name, Verdict.BROKEN, str(error))
    return found if isinstance(found, Promise) else Promise(name, Verdict.KEPT, found)


def _first_use(devices: list[TriedStore]) -> "Promise | str":
    """Several devices that create a vault at the same moment."""
    won: list[bool] = []
    failed: list[BaseException] = []
    ready = threading.Barrier(len(devices))

    def use(number: int) -> None:
        key = b"key %d" % number
        try:
            with devices[number].open(Purpose.BACKUP) as session:
                ready.wait(_TOGETHER_SECONDS)
                won.append(session.initialise(ObjectName.of(ObjectKind.KEY, key), key, b"config %d" % number, b"seal"))
        except threading.BrokenBarrierError:
            return  # another could not come, and has said why
        except BaseException as error:  # noqa: BLE001 - raised below
            failed.append(error)
            ready.abort()

    threads = [threading.Thread(target=use, args=(number,), daemon=True) for number in range(len(devices))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    if not any(won):
        raise _NotKept("none of the devices that came at the same moment could create a vault")
    once = all(device.creates_once for device in devices)  # known only now
    if once and sum(won) != 1:
        raise _NotKept(f"{sum(won)} devices at once created the same vault: only one may")
    if once:
        return "of several devices that create a vault at once one does"
    return Promise(
        "first use",
        Verdict.WEAK,
        "the store cannot tell who was first: have one device create a vault here, and no two at the same moment",
    )


def _upload(session: StoreSession, name: ObjectName, body: bytes, monotonic: Callable[[], float]) -> str:
    begun = monotonic()
    if not session.put(name, body):
        raise _NotKept("an object that was never stored is said to be there")
    return f"{_speed(len(body), monotonic() - begun)} up"


def _download(session: StoreSession, name: ObjectName, body: bytes, monotonic: Callable[[], float]) -> str:
    begun = monotonic()
    if session.get(name) != body:
        raise _NotKept("an object has other bytes than were stored")
    return f"what was stored is there at once for another device; {_speed(len(body), monotonic() - begun)} down"


def _ranges(session: StoreSession, name: ObjectName, body: bytes) -> str:
    middle = len(body) // 2
    if session.get(name, middle, 1000) != body[middle : middle + 1000] or session.get(name, len(body) - 9) != body[-9:]:
        raise _NotKept("a part of an object has other bytes than were stored")
    try:
        session.get(name, len(body) - 9, 100)
    except TruncatedObject:
        return "parts of objects can be read"
    raise _NotKept("more of an object is read than there is")


def _stored_once(session: StoreSession, name: ObjectName, body: bytes) -> str:
    if session.put(name, body):
        raise _NotKept("the size of an object is not known after it was stored")
    return "what is there is not sent again"


def _replacing(here: StoreSession, there: StoreSession) -> str:
    """Of the only file that is ever replaced."""
    former = there.get(SEAL)
    here.replace_seal(b"another seal", former)
    if there.get(SEAL) != b"another seal":
        raise _NotKept("another device still reads what was replaced")
    return "what is replaced is seen at once"


def _listing(here: StoreSession, there: StoreSession) -> str:
    sizes = {}
    for number in range(_LISTED):
        body = b"%d" % number * (number + 1)
        name = ObjectName.of(ObjectKind.INDEX, body)
        here.put(name, body)
        sizes[name] = len(body)
    if {info.name: info.size for info in there.list(ObjectKind.INDEX)} != sizes:
        raise _NotKept("a list lacks what was just stored, or says other sizes: prune and check rely on it")
    if len(list(there.list(ObjectKind.PACK))) != 1 or list(there.list(ObjectKind.SNAPSHOT)):
        raise _NotKept("a list has what is not there, or lacks what is")
    return "lists are complete at once"


def _removal(here: StoreSession, there: StoreSession, name: ObjectName) -> str:
    there.remove(name)
    if any(True for _ in here.list(ObjectKind.PACK)):
        raise _NotKept("what was removed is still listed")
    try:
        here.get(name)
    except ObjectMissing:
        here.get(CONFIG)
        return "what is removed is gone at once"
    raise _NotKept("what was removed can still be read")


def _speed(size: int, seconds: float) -> str:
    return f"{size / max(seconds, 1e-6) / 1e6:.1f} MB/s"
