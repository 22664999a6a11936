"""A vault on an object store or WebDAV, laid out as restic's S3 backend lays its repositories out.

Kept true: an object is written by one call that has all of its bytes, and what the store then says of its size is
looked at; where a store may show a half of a body that breaks off, it is written beside and renamed. Sessions are not
kept apart here: restic's lock files are.
"""

import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from client.errors import ObjectMissing, OortError, ParentGone, StoreError, StoreFull, TruncatedObject
from client.stores.cloud.calls import Calls, Patience
from client.stores.cloud.failures import Failure, Trouble
from client.stores.cloud.location import Location
from domain.names import ObjectName
from domain.sessions import Purpose

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from concurrent.futures import Future

    from opendal import AsyncOperator

    from client.stores.cloud.session import CloudSession

T = TypeVar("T")

TEMPORARY = "tmp/"
_ABANDONED_SECONDS = 24 * 3600
_SHOWS_HALVES = frozenset(("webdav",))  # a PUT that breaks off may leave what has come
# Where opendal's `if_not_exists` is known to be heeded; elsewhere an object is looked for, then written.
_CREATES_ONCE = frozenset(("s3", "gcs", "azblob"))


class CloudStore:
    """A vault at a location, which need not hold anything before its first use."""

    needs_locks = True

    def __init__(self, location: Location, patience: Patience | None = None) -> None:
        self.location = location
        self.calls = Calls(patience or Patience())
        self.first_use = threading.Lock()  # for stores that cannot create what must not be there yet
        self.renaming = threading.Lock()
        self._operator: AsyncOperator | None = None
        self._making = threading.Lock()

    @property
    def place(self) -> str:
        return self.location.place

    @property
    def creates_once(self) -> bool:
        """Whether the store itself sees to it that of two who create the same object one does."""
        return self.location.scheme in _CREATES_ONCE

    @property
    def shows_halves(self) -> bool:
        return self.location.scheme in _SHOWS_HALVES

    def allows(self, purpose: Purpose) -> bool:  # noqa: ARG002 - whoever has the key may do what it may
        return True

    def open(self, purpose: Purpose, parent: ObjectName | None = None) -> "CloudSession":
        """Open a session. Raises ParentGone when the parent snapshot is no more."""
        from client.stores.cloud.session import CloudSession

        session = CloudSession(self)
        if purpose is not Purpose.READ and self.shows_halves:
            self._sweep(session)
        if parent is not None and not session.exists(parent):
            raise ParentGone(parent=parent, place=self.place)
        return session

    def beside(self, folder: str) -> "CloudStore":
        """The same store, for a vault in a folder of this one, over connections of its own."""
        return CloudStore(self.location.below(folder))

    def remove_beside(self, folder: str) -> None:
        """Remove all of such a folder. Raises StoreError."""
        with self.open(Purpose.READ) as session:
            session.run(lambda operator: operator.remove_all(f"{folder}/"))

    def is_empty(self) -> bool:
        """Whether nothing at all lies there. Raises StoreError."""
        with self.open(Purpose.READ) as session:
            return not any(entry.path.strip("/") for entry in session.run(listing("/")))

    def close(self) -> None:
        self.calls.close()

    def begin(self, call: "Callable[[AsyncOperator], Awaitable[T]]", size: int = 0) -> "Future[T]":
        """Begin a call of opendal's operator that carries `size` bytes; the future raises Failure."""
        operator = self._made()
        return self.calls.begin(lambda: call(operator), size)

    def told(self, failure: Failure, name: ObjectName | None = None) -> OortError:
        """The client's error for a call about `name`."""
        if failure.trouble is Trouble.MISSING and name is not None:
            return ObjectMissing(name=name, place=self.place)
        if failure.trouble is Trouble.SHORT and name is not None:
            return TruncatedObject(name=name, detail="the store has fewer bytes of it")
        if failure.trouble is Trouble.FULL:
            return StoreFull(place=self.place, detail=failure.said)
        return StoreError(place=self.place, detail=f"{failure.said}{f' ({name})' if name else ''}")

    def _made(self) -> "AsyncOperator":
        with self._making:
            if self._operator is None:
                import opendal

                try:
                    self._operator = opendal.AsyncOperator(self.location.scheme, **self.location.settings)
                except opendal.exceptions.ConfigInvalid as error:
                    said = str(error).partition("\n")[0].partition(" => ")[2]
                    raise StoreError(place=self.place, detail=f"its address is not right: {said}") from None
            return self._operator

    def _sweep(self, session: "CloudSession") -> None:
        """Remove what was written beside by somebody who never came to rename it, a day later."""
        oldest = datetime.fromtimestamp(time.time() - _ABANDONED_SECONDS, UTC)
        for entry in session.run(listing(TEMPORARY)):
            written = entry.metadata.last_modified
            if entry.metadata.is_file and written is not None and written < oldest:
                session.run(deleting(entry.path))


def listing(folder: str) -> "Callable[[AsyncOperator], Awaitable[list[Any]]]":
    """What lies in a folder, whose name ends with `/`: nothing if there is none. Pages come one after the other."""

    async def entries(operator: "AsyncOperator") -> list[Any]:
        listed: AsyncIterator[Any] = await operator.list(folder)  # type: ignore[assignment]
        return [entry async for entry in listed]

    return entries


def sizing(path: str) -> "Callable[[AsyncOperator], Awaitable[int | None]]":
    """The size of a file in bytes, or None."""

    async def size(operator: "AsyncOperator") -> int | None:
        from opendal.exceptions import NotFound

        try:
            return (await operator.stat(path)).content_length
        except NotFound:
            return None

    return size


def deleting(path: str) -> "Callable[[AsyncOperator], Awaitable[None]]":
    """Nothing more of a file; that there is none is no error."""
    return lambda operator: operator.delete(path)
