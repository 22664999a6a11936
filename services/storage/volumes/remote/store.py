"""One prefix of an object store, called from disk threads.

Kept true: each call ends (clouds/calls.py), and one that fails says so as a disk would: a store that takes no more is
DiskFull, one that does not answer or refuses is Unavailable, which says nothing of what lies there. What was written is
asked for again by its size, and for a while, where the store does not show it yet. A call holds one part of a body in
memory, however large that is.
"""

import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import structlog

from clouds.calls import Calls, Patience, more_came
from clouds.failures import NO_CONTAINER, Failure, Trouble, read_failure
from clouds.operations import deleting, listing, reading, sizing
from services.common.errors import StartError, Unavailable
from services.storage.errors import DiskFull
from services.storage.volumes.remote.address import StoreAddress
from services.storage.volumes.remote.keys import StoreKey

if TYPE_CHECKING:
    from concurrent.futures import Future

    from opendal import AsyncOperator

T = TypeVar("T")

PART_BYTES = 8 << 20  # of a body that is sent in parts; a smaller one goes in one request
_PIECE = 1 << 20
_TRIED = b"This may be removed."
_LEFT_AFTER = timedelta(hours=1)  # what was written to try a store, by a node that did not end that
_CHECKSUMS = "checksum_algorithm"  # a setting of S3 alone
_AT_ONCE = 16
_FULL_SECONDS = 300
_TOGETHER = 64  # small calls that one step begins, before whose end it begins no more
# A thread waits meanwhile, and whoever has asked can ask again, or another node. Once a call was given up, those that
# fail meanwhile are so after `new` seconds, until the store answers again.
PATIENCE = Patience(answer=20, total=30, new=8, first=0.2, longest=5, slowest=128 << 10)


@dataclass(frozen=True, slots=True)
class Entry:
    """What a list says of an object, or of a folder: its path ends with `/`, and it has no time."""

    path: str
    size: int
    modified: datetime | None

    @property
    def name(self) -> str:
        return self.path.rstrip("/").rpartition("/")[2]

    @property
    def is_folder(self) -> bool:
        return self.path.endswith("/")


class StoreAway(Unavailable):
    """{what} cannot be reached at the moment: try again."""

    def __init__(self, why: str, *, passes: bool = False, **fields: object) -> None:
        """`why`, where it lies and what is wrong, is for the node's operator, and not for whoever called the node.

        `passes`: it may answer a little later, by itself.
        """
        super().__init__(**fields)
        self.why = why
        self.passes = passes


class Store:
    """Paths are relative to the prefix. Every call raises Unavailable and DiskFull."""

    def __init__(
        self,
        address: StoreAddress,
        key: StoreKey,
        node: str,
        patience: Patience = PATIENCE,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.place = address.place
        self._condition = address.condition
        self.kind = address.scheme
        self._node = node
        self._calls = Calls(patience, _AT_ONCE, small_at_once=_AT_ONCE)
        self._monotonic = monotonic
        self._full_until: float | None = None
        self._settings = address.settings | dict(key.settings)
        self._making = threading.Lock()
        self._operator: AsyncOperator | None = None

    def close(self) -> None:
        self._calls.close()

    @property
    def is_full(self) -> bool:
        """Whether it has said so within the last minutes, and taken nothing since."""
        until = self._full_until
        return until is not None and self._monotonic() < until

    def size(self, path: str) -> int | None:
        """In bytes; None if there is no such object."""
        return self._run(sizing(path))

    def sizes(self, paths: Sequence[str]) -> list[int | None]:
        return [self._result(one) for _, one in self._ended(sizing, paths)]

    def list(self, folder: str) -> list[Entry]:
        """What lies in a folder, whose path ends with `/`, without what lies in folders below it."""
        return [
            Entry(found.path, found.metadata.content_length, found.metadata.last_modified)
            for found in self._run(listing(folder))
            if found.path != folder
        ]

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes | None:
        """All of it, or `length` bytes; None if it is not there, or has fewer."""
        if length == 0:
            return b""
        try:
            if length is None:
                return self._begin(lambda operator: operator.read(path)).result()
            return self._begin(reading(path, offset, length), length).result()
        except Failure as failure:
            if failure.trouble in (Trouble.MISSING, Trouble.SHORT):
                return None
            raise self._told(failure) from None

    def create(self, path: str, body: bytes) -> bool:
        """Write an object if there is none; False if there is one. Raises StartError where the store cannot do that."""
        try:
            self._begin(lambda operator: operator.write(path, body, if_not_exists=True)).result()
        except Failure as failure:
            if failure.trouble is Trouble.EXISTS:
                return False
            if failure.trouble is Trouble.UNKNOWN_TO_IT:
                raise StartError(
                    f"OORT_DATA_STORES: {self.place} does not know a write that replaces nothing"
                    f" ({self._condition}), and two nodes might take it for theirs: {failure.said}. Take another store"
                ) from None
            raise self._told(failure) from None
        return True

    def upload(self, file: Path, path: str, size: int) -> None:
        """Store all of a file of `size` bytes, durably."""
        self._result(self._begin(lambda operator: _upload(operator, file, path), min(size, PART_BYTES)))
        self.require(path, size)
        self._full_until = None

    def require_condition(self, path: str, body: bytes) -> None:
        """Write once more what lies there (`body`), which must be refused. Raises StartError where it is taken."""
        if self.create(path, body):
            raise StartError(
                f"OORT_DATA_STORES: {self.place} replaces an object by a write that is to replace none"
                f" ({self._condition}), so that two nodes might take it for theirs: take another store"
            )

    def try_out(self, above: str, *, is_in_use: bool = False) -> None:
        """Write an object into a new folder of `above`, copy it, look at both and remove them, as is done with bodies.

        So what lacks is said at the start. Bodies are sent to S3 with a checksum unless the store answers this that it
        does not know them. What a list of a store that `is_in_use` lacks or keeps is logged, and does not end a start
        that needs what lies there.
        """
        self._remove_left(above)
        folder = f"{above}{secrets.token_hex(8)}/"  # another node may try it at this moment, or this one elsewhere
        path, copied = f"{folder}first", f"{folder}second"
        try:
            self._begin(lambda operator: operator.write(path, _TRIED)).result()
        except Failure as failure:
            if failure.trouble is not Trouble.UNKNOWN_TO_IT or _CHECKSUMS not in self._settings:
                raise self._told(failure) from None
            structlog.get_logger("storage").warning(
                "the store knows no checksums: bodies are sent without", store=self.place, cause=failure.said
            )
            self._do_without_checksums()
            self.try_out(above, is_in_use=is_in_use)
            return
        if not self.copy(path, copied, len(_TRIED)) or self.read(copied) != _TRIED:
            raise self.away("it did not keep what was written")
        self._look_at(_listed(folder, {path, copied}), is_in_use=is_in_use)
        for one in (copied, path):
            self.delete(one)
        self._look_at(_gone(above, folder), is_in_use=is_in_use)

    def _look_at(self, look: "Callable[[AsyncOperator], Awaitable[None]]", *, is_in_use: bool) -> None:
        try:
            self._begin(look).result()
        except Failure as failure:
            if not is_in_use or failure.trouble is not Trouble.BEHIND:
                raise self._told(failure) from None
            structlog.get_logger("storage").error(
                "a store in use does not list as it should", store=self.place, cause=failure.said
            )

    def _remove_left(self, above: str) -> None:
        """A node that tries the store at this moment has its own removed by itself."""
        over = datetime.now(UTC) - _LEFT_AFTER
        for folder in [entry.path for entry in self.list(above) if entry.is_folder]:
            for entry in self.list(folder):
                if entry.modified is not None and entry.modified < over:
                    self.delete(entry.path)

    def copy(self, source: str, target: str, size: int) -> bool:
        """Copy within the store, in place of what has its name; False if there is no `source`."""
        try:
            self._begin(lambda operator: operator.copy(source, target), PART_BYTES).result()
        except Failure as failure:
            if failure.trouble is Trouble.MISSING:
                return False
            raise self._told(failure) from None
        self.require(target, size)
        return True

    def require(self, path: str, size: int) -> None:
        """What was stored just now is there in its size, or is so soon: Azure may copy when it has answered."""
        try:
            self._begin(_stored(path, size)).result()
        except Failure as failure:
            raise self._told(failure) from None

    def delete(self, path: str) -> None:
        """Nothing if it is not there."""
        self._run(deleting(path))

    def delete_all(self, paths: Sequence[str]) -> dict[str, str]:
        """Answers those that the store refuses to delete, and why.

        Every call has ended when this does, also when it raises: a later one might remove what was stored anew since.
        """
        refused = {}
        for path, one in self._ended(deleting, paths):
            try:
                one.result()
            except Failure as failure:
                if failure.trouble is Trouble.REFUSED:
                    refused[path] = failure.said
                elif failure.trouble is not Trouble.MISSING:
                    raise self._told(failure) from None
        return refused

    def _do_without_checksums(self) -> None:
        with self._making:
            del self._settings[_CHECKSUMS]
            self._operator = None

    def _begin(self, call: "Callable[[AsyncOperator], Awaitable[T]]", size: int = 0) -> "Future[T]":
        """Begin a call that carries `size` bytes at once."""
        operator = self._made()
        return self._calls.begin(lambda: call(operator), size)

    def _ended(
        self, call: "Callable[[str], Callable[[AsyncOperator], Awaitable[T]]]", paths: Sequence[str]
    ) -> "Iterator[tuple[str, Future[T]]]":
        """Some calls after the other, each of which has ended when any of them is told of."""
        for start in range(0, len(paths), _TOGETHER):
            some = paths[start : start + _TOGETHER]
            begun = [self._begin(call(path)) for path in some]
            wait(begun)
            yield from zip(some, begun, strict=True)

    def _run(self, call: "Callable[[AsyncOperator], Awaitable[T]]") -> T:
        return self._result(self._begin(call))

    def _result(self, begun: "Future[T]") -> T:
        try:
            return begun.result()
        except Failure as failure:
            raise self._told(failure) from None

    def _told(self, failure: Failure) -> Exception:
        if failure.trouble is Trouble.FULL:
            self._full_until = self._monotonic() + _FULL_SECONDS
            return DiskFull(node=self._node)
        if failure.trouble is Trouble.MISSING:  # where that is an answer, it was taken for one
            return self.away(f"perhaps {NO_CONTAINER} ({failure.said})")
        return self.away(failure.said, passes=failure.passes and failure.trouble is not Trouble.BEHIND)

    def away(self, cause: str, *, passes: bool = False) -> "StoreAway":
        structlog.get_logger("storage").warning("a store fails", store=self.place, cause=cause)
        return StoreAway(f"{self.place}: {cause}", passes=passes, what=f"The store of node {self._node}")

    def _made(self) -> "AsyncOperator":
        with self._making:
            if self._operator is None:
                import opendal  # which a node with nothing but disks does not wait for

                try:
                    self._operator = opendal.AsyncOperator(self.kind, **self._settings)
                except opendal.exceptions.ConfigInvalid as error:
                    said = str(error).partition("\n")[0].partition(" => ")[2]
                    raise StartError(f"OORT_DATA_STORES: the address {self.place} is not right: {said}") from None
            return self._operator


async def _upload(operator: "AsyncOperator", file: Path, path: str) -> None:
    """Closed when all has been written: opendal makes an object of whatever came before a close."""
    body = await operator.open(path, "wb", chunk=PART_BYTES)
    with file.open("rb") as source:
        while piece := source.read(_PIECE):
            await _sent(body.write(piece))
            more_came()
    await _sent(body.close())


async def _sent(sending: Awaitable[object]) -> None:
    """Of a part that a store does not take opendal tells by an OSError, and not by an error of its own."""
    try:
        await sending
    except OSError as error:
        raise read_failure(error) from None


def _stored(path: str, size: int) -> "Callable[[AsyncOperator], Awaitable[None]]":
    async def stored(operator: "AsyncOperator") -> None:
        found = await sizing(path)(operator)
        if found != size:
            told = "nothing" if found is None else f"{found}"
            raise Failure(Trouble.BEHIND, f"it was given {size} bytes for {path} and has {told} of them")

    return stored


def _listed(folder: str, paths: set[str]) -> "Callable[[AsyncOperator], Awaitable[None]]":
    async def listed(operator: "AsyncOperator") -> None:
        if paths - {found.path for found in await listing(folder)(operator)}:
            raise Failure(Trouble.BEHIND, "it does not list what was just written")

    return listed


def _gone(above: str, folder: str) -> "Callable[[AsyncOperator], Awaitable[None]]":
    async def gone(operator: "AsyncOperator") -> None:
        if folder in {found.path for found in await listing(above)(operator)}:
            raise Failure(
                Trouble.BEHIND,
                "it keeps a folder of which nothing is left, as SeaweedFS and Azure's accounts with a hierarchical"
                " namespace do: take another store",
            )

    return gone
