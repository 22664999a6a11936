"""A vault on an object store, WebDAV or SFTP, laid out as restic's S3 backend lays its repositories out.

Kept true: an object is written by one call that has all of its bytes, and what the store then says of its size is
looked at; where a store may show a half of a body that breaks off, it is written beside and renamed. Sessions are not
kept apart here: restic's lock files are.
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from client.errors import ObjectMissing, OortError, ParentGone, StoreError, StoreFull, TruncatedObject
from client.stores.cloud.location import Location
from client.stores.cloud.remembered import Remembered
from client.stores.cloud.sftp.location import SftpLocation
from clouds.calls import Calls, Clock, Patience
from clouds.failures import Failure, Trouble
from clouds.operations import deleting, listing
from domain.names import SEAL, ObjectKind, ObjectName
from domain.sessions import Purpose

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from concurrent.futures import Future

    from client.stores.cloud.session import CloudSession
    from clouds.operator import Operator

T = TypeVar("T")

TEMPORARY = "tmp/"
_ABANDONED_SECONDS = 24 * 3600
_SHOWS_HALVES = frozenset(("webdav", "sftp"))  # what breaks off may leave what has come
FOLDERS = tuple(f"{kind.value}/" for kind in ObjectKind if not kind.is_root_file)
# What has no meaning without `config`; a restic repository that has lost it has other folders with something in them.
_LEFT_BY_FIRST_USE = frozenset((f"{ObjectKind.KEY.value}/", SEAL.path, TEMPORARY))
_HAS_FOLDERS = frozenset(("webdav", "sftp"))
# Where `if_not_exists` is known to be heeded; elsewhere an object is looked for, then written.
_CREATES_ONCE = frozenset(("s3", "gcs", "azblob", "sftp"))


class CloudStore:
    """A vault at a location, which need not hold anything before its first use."""

    needs_locks = True

    def __init__(
        self,
        location: Location,
        patience: Patience | None = None,
        clock: Clock | None = None,
        *,
        remembered: Remembered | None = None,
        noted: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`noted` is told in a line that the store is waited for, and that it answers again, in any thread."""
        self.location = location
        self.remembered = remembered or Remembered()
        self._pace = patience or Patience(), clock or Clock()
        self._noted = noted
        self.calls = Calls(self._pace[0], clock=self._pace[1], waiting=self._tell_waiting)
        self.first_use = threading.Lock()  # for stores that cannot create what must not be there yet
        self.renaming = threading.Lock()
        self._lacks_conditions = self._lacks_checksums = False
        self._operator: Operator | None = None
        self._last: Callable[[], Awaitable[None]] | None = None  # what the operator needs at its end
        self._making = threading.Lock()

    @property
    def place(self) -> str:
        return self.location.place

    @property
    def tested_with(self) -> str:
        """What Oort is tested with, where that is no real server of the kind; else empty."""
        return self.location.tested_with

    @property
    def creates_once(self) -> bool:
        """Whether the store itself sees to it that of two who create the same object one does."""
        return self.location.scheme in _CREATES_ONCE and not self._lacks_conditions

    @property
    def has_folders(self) -> bool:
        """Whether there are folders with nothing in them, so that a missing one can be told from an empty one."""
        return self.location.scheme in _HAS_FOLDERS

    @property
    def shows_halves(self) -> bool:
        return self.location.scheme in _SHOWS_HALVES

    def allows(self, purpose: Purpose) -> bool:  # noqa: ARG002 - whoever has the key may do what it may
        return True

    def open(self, purpose: Purpose, parent: ObjectName | None = None) -> "CloudSession":
        """Open a session. Raises ParentGone when the parent snapshot is no more."""
        from client.stores.cloud.session import CloudSession

        session = CloudSession(self, purpose)
        if purpose is not Purpose.READ and self.shows_halves:
            self._sweep(session)
        if parent is not None and not session.exists(parent):
            raise ParentGone(parent=parent, place=self.place)
        return session

    def beside(self, folder: str) -> "CloudStore":
        """The same store, for a vault in a folder of this one, over connections of its own."""
        return CloudStore(self.location.below(folder), *self._pace)

    def remove_beside(self, folder: str) -> None:
        """Remove all of such a folder. Raises StoreError."""
        with self.open(Purpose.READ) as session:
            session.run(lambda operator: operator.remove_all(f"{folder}/"))

    def is_empty(self) -> bool:
        """Whether nothing lies there but what a first use leaves that was broken off. Raises StoreError."""
        with self.open(Purpose.READ) as session:
            for entry in session.run(listing("/")):
                path = entry.path.lstrip("/")
                if not path or path in _LEFT_BY_FIRST_USE:
                    continue
                if path not in FOLDERS or any(inside.path != path for inside in session.run(listing(path))):
                    return False
        return True

    def do_without_checksums(self) -> bool:
        """Send none with a body from now on, for the store does not know them. False if none were sent."""
        with self._making:
            sent = self.location.scheme == "s3" and not self._lacks_checksums
            if sent:
                self._lacks_checksums, self._operator = True, None
            return sent

    def do_without_conditions(self) -> None:
        """Look, then write, from now on: the store does not know, or heed, a write that must not replace anything."""
        self._lacks_conditions = True

    def close(self) -> None:
        self.calls.close(self._last)

    def begin(self, call: "Callable[[Operator], Awaitable[T]]", size: int = 0) -> "Future[T]":
        """Begin a call of opendal's operator that carries `size` bytes; the future raises Failure."""
        operator = self._made()
        return self.calls.begin(lambda: call(operator), size)

    def told(self, failure: Failure, name: ObjectName | None = None) -> OortError:
        """The client's error for a call about `name`."""
        if failure.trouble is Trouble.MISSING and name is not None:
            return ObjectMissing(name=name, place=self.place)
        if failure.trouble is Trouble.SHORT and name is not None:
            return TruncatedObject(name=name, detail=failure.said)
        if failure.trouble is Trouble.FULL:
            return StoreFull(place=self.place, detail=failure.said)
        return StoreError(place=self.place, detail=f"{failure.said}{f' ({name})' if name else ''}")

    def _tell_waiting(self, failure: Failure | None) -> None:
        if failure is None:
            self._noted(f"{self.place} answers again")
        else:
            self._noted(f"{self.place}: {failure.said}; it is asked again for {self._pace[0].total:g} seconds")

    def _made(self) -> "Operator":
        with self._making:
            if self._operator is None:
                if isinstance(self.location, SftpLocation):
                    self._operator = self._of_sftp(self.location)
                else:
                    self._operator = self._of_opendal()
            return self._operator

    def _of_sftp(self, location: SftpLocation) -> "Operator":
        from client.stores.cloud.sftp.operator import SftpOperator

        operator = SftpOperator(location)
        self._last = operator.close
        return operator

    def _of_opendal(self) -> "Operator":
        try:
            import opendal
        except ImportError:
            detail = "the package opendal, which speaks to stores, is not there for this machine: use a folder"
            raise StoreError(place=self.place, detail=detail) from None
        settings = self.location.settings
        if self._lacks_checksums:
            settings.pop("checksum_algorithm", None)
        try:
            return opendal.AsyncOperator(self.location.scheme, **settings)
        except opendal.exceptions.ConfigInvalid as error:
            said = str(error).partition("\n")[0].partition(" => ")[2]
            raise StoreError(place=self.place, detail=f"its address is not right: {said}") from None

    def _sweep(self, session: "CloudSession") -> None:
        """Remove what was written beside by somebody who never came to rename it, a day later."""
        oldest = datetime.fromtimestamp(time.time() - _ABANDONED_SECONDS, UTC)
        for entry in session.run(listing(TEMPORARY)):
            written = entry.metadata.last_modified
            if entry.metadata.is_file and written is not None and written < oldest:
                session.run(deleting(entry.path))
