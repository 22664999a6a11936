"""LMDB environments in folders of the device, for what can be thrown away at any time.

Kept true: LMDB allows a process one environment of a folder, so all that use a folder share it, and its databases:
those are opened once, in a transaction begun for that, for else LMDB would wait for whoever writes with the
interpreter's lock held, which that writer may need. Commits are
synchronous, so that a power cut leaves what was there before; the map is never written through (`writemap` dies of
SIGBUS on a full disk). A file that was cut short is refused: to read what is not there is SIGBUS, not an error. That
asks of the users that they only add entries. What a drop has left that was killed goes when the folder is opened.
"""

import contextlib
import os
import secrets
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb

from client.stores.alone import alone


@dataclass(frozen=True, slots=True)
class Database:
    """A named database; a `doubling` one has any number of values of one length for a key."""

    name: bytes
    doubling: bool = False


@dataclass(frozen=True, slots=True)
class Opened:
    """An environment, and LMDB's handles of the databases in it."""

    environment: Any
    handles: tuple[Any, ...]


# What says of a file that it is damaged, foreign or full: it is of use again when it was made anew. Any other error has
# causes outside of it, which that would not mend.
SPOILED = (
    *(lmdb.InvalidError, lmdb.VersionMismatchError, lmdb.IncompatibleError),
    *(lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.PageFullError, lmdb.CursorFullError, lmdb.ProblemError),
    lmdb.MapFullError,
)
_DROPPED = ".dropped"
_LOCKS_BYTES = 16 << 10  # twice what LMDB takes for 126 readers


class Environments:
    """Those that this process has open. Raises lmdb.Error, OSError."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[Path, tuple[Opened, int]] = {}

    def open(self, folder: Path, budget: int, databases: Sequence[Database], *, durable: bool = True) -> Opened:
        """What is in an absolute `folder`, which holds at most `budget` bytes; all users name the same databases."""
        with self._lock:
            opened, users = self._open.get(folder, (None, 0))
            if opened is None:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                with _alone(folder):
                    _remove_dropped(folder)
                    _make_room_for_locks(folder)
                    # The map is only address space: the file grows with what is in it.
                    # Lookups fall anywhere: where memory is short, what a system reads ahead of each drives out what
                    # the next one needs (21 ms a lookup in 10 million blobs and 400 MB, without 0.15).
                    environment = lmdb.open(
                        str(folder),
                        map_size=budget,
                        max_dbs=len(databases),
                        mode=0o600,
                        sync=durable,
                        metasync=durable,
                        readahead=False,
                    )
                    try:
                        _refuse_cut_short(environment, folder)
                        with environment.begin(write=True) as change:
                            handles = [
                                environment.open_db(
                                    each.name, txn=change, dupsort=each.doubling, dupfixed=each.doubling
                                )
                                for each in databases
                            ]
                    except BaseException:
                        environment.close()
                        raise
                environment.reader_check()
                opened = Opened(environment, tuple(handles))
            else:
                _refuse_cut_short(opened.environment, folder)
            self._open[folder] = opened, users + 1
            return opened

    def close(self, folder: Path, environment: Any) -> None:
        with self._lock:
            opened, users = self._open.get(folder, (None, 0))
            if opened is None or opened.environment is not environment:
                return  # dropped meanwhile: it goes with its last reference
            if users > 1:
                self._open[folder] = opened, users - 1
            else:
                del self._open[folder]
                environment.close()

    def drop(self, folder: Path) -> None:
        """Throw a cache away. Who has it open goes on with what is mapped."""
        with self._lock, contextlib.suppress(OSError):
            away = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}{_DROPPED}")
            with _alone(folder):
                folder.rename(away)
                self._open.pop(folder, None)
            shutil.rmtree(away, ignore_errors=True)


environments = Environments()


def _remove_dropped(folder: Path) -> None:
    """Who has one of them open goes on with what is mapped."""
    for left in folder.parent.iterdir():
        if left.name.startswith(f"{folder.name}.") and left.name.endswith(_DROPPED):
            shutil.rmtree(left, ignore_errors=True)


def _make_room_for_locks(folder: Path) -> None:
    """Raise OSError on a full disk: LMDB maps its file of locks, and to write there then is SIGBUS, not an error."""
    if hasattr(os, "posix_fallocate"):
        descriptor = os.open(folder / "lock.mdb", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, _LOCKS_BYTES)
        finally:
            os.close(descriptor)


def _refuse_cut_short(environment: Any, folder: Path) -> None:
    """Raise lmdb.Error if the file ends before its last page: reading what is not there is SIGBUS, not an error.

    Only the meta pages are touched, and LMDB itself refuses a file without these. Entries are only added, so every
    page up to the last was written; the file's size is asked after, as another process may be adding pages.
    """
    pages = environment.info()["last_pgno"] + 1
    if (folder / "data.mdb").stat().st_size < pages * environment.stat()["psize"]:
        raise lmdb.CorruptedError("the cache's file was cut short")


def _alone(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Keep one process from opening a folder's files while another moves the folder away."""
    return alone(folder.with_name(f"{folder.name}.lock"), os.O_RDWR | os.O_CREAT)
