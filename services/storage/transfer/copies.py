"""One body becoming a durable copy on one home: on this node's disk, or on another node through CopyService.

Both forms take the same steps: `begin` (there is room), `write` each frame, `stage` (verified and durable among the
incoming files), and, when the catalogue has decided, `place` or `discard`. Whoever loses the thread in between calls
`abandon`: the copy's own node then settles it by the catalogue.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from oort.storage.v1 import copies_pb2

from services.common.errors import Unavailable
from services.storage.errors import DiskFull, NameMismatch, Stalled, Unentered
from services.storage.peers import Peers
from services.storage.transfer.frames import Frame
from services.storage.volumes.disks import Disks
from services.storage.volumes.staging import StagedName
from services.storage.volumes.threads import DiskThreads
from services.storage.volumes.volume import StagedBody

_DETAILS_KEY = "grpc-status-details-bin"


class Copy(Protocol):
    """One copy on its way to one home. A step that fails raises, and the copy is then only to be abandoned."""

    @property
    def node(self) -> str: ...
    async def begin(self) -> None: ...
    async def write(self, frame: Frame) -> None: ...
    async def stage(self) -> None: ...
    async def place(self) -> None: ...
    async def discard(self) -> None: ...
    async def abandon(self, *, entered: bool) -> None:
        """Let go of it; `entered` when its catalogue entry may have been made."""


class LocalCopy:
    """On a disk of this node."""

    def __init__(
        self,
        node: str,
        disks: Disks,
        threads: DiskThreads,
        staged: StagedName,
        size: int,
        *,
        frees: bool = False,
        first: bool = False,
    ) -> None:
        """`frees` and `first` as of Volume.stage."""
        self.node = node
        self._disks = disks
        self._threads = threads
        self._staged = staged
        self._size = size
        self._frees = frees
        self._first = first
        self._file: StagedBody | None = None
        self._step: asyncio.Future[None] | None = None

    async def begin(self) -> None:
        # Kept even if the caller is cancelled while the thread works, so that the file is found and thrown away.
        await self._run(self._open)

    def _open(self) -> None:
        self._file = self._disks.stage(self._staged, self._size, frees=self._frees, first=self._first)

    async def write(self, frame: Frame) -> None:
        await self._run(lambda: self._opened.write(frame.body))

    async def stage(self) -> None:
        await self._run(self._opened.finish, sends=True)

    async def place(self) -> None:
        await self._run(lambda: self._disks.place(self._opened), sends=True)

    async def discard(self) -> None:
        await self._run(lambda: self._file.discard() if self._file else None)

    async def abandon(self, *, entered: bool) -> None:
        """An entry that may have been made leaves the file where `Incoming` finds and settles it."""
        if not entered:
            await self.discard()

    @property
    def _opened(self) -> StagedBody:
        if self._file is None:
            raise RuntimeError("the copy was not begun")
        return self._file

    async def _run(self, step: Callable[[], None], *, sends: bool = False) -> None:
        """One step at a time on the file, also after a cancelled caller left a thread at work on it."""
        if self._step is not None and not self._step.done():
            await asyncio.wait([self._step])
        self._step = asyncio.ensure_future(self._threads.of(self._staged.bucket, sends=sends).run(step))
        # Of a step whose caller was cancelled nobody asks how it ended.
        self._step.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(self._step)


class RemoteCopy:
    """On another node. Every step has `seconds`; `frees` and `first` as of Volume.stage."""

    def __init__(
        self,
        node: str,
        endpoint: str,
        peers: Peers,
        staged: StagedName,
        size: int,
        *,
        seconds: float,
        frees: bool = False,
        first: bool = False,
    ) -> None:
        self.node = node
        self._endpoint = endpoint
        self._peers = peers
        self._header = copies_pb2.CopyHeader(
            bucket_id=str(staged.bucket),
            name=str(staged.name),
            size=size,
            sha256=staged.sha256,
            session_id=str(staged.session),
            frees=frees,
            first=first,
        )
        self._seconds = seconds
        self._call: grpc.aio.StreamStreamCall[bytes, bytes] | None = None

    async def begin(self) -> None:
        self._call = self._peers.put_copy(self._endpoint)
        await self._send(copies_pb2.PutCopyRequest(header=self._header).SerializeToString())
        # Before the first frame: a write to a call that the other node is just refusing fails without its reason.
        await self._answer()

    async def write(self, frame: Frame) -> None:
        await self._send(frame.message)

    async def stage(self) -> None:
        await self._send(copies_pb2.PutCopyRequest(complete=True).SerializeToString())
        await self._answer()

    async def place(self) -> None:
        await self._settle(place=True)

    async def discard(self) -> None:
        await self._settle(place=False)

    async def abandon(self, *, entered: bool) -> None:  # noqa: ARG002 - the other node asks the catalogue
        if self._call is not None:
            self._call.cancel()

    async def _settle(self, *, place: bool) -> None:
        await self._send(copies_pb2.PutCopyRequest(place=place).SerializeToString())
        await self._answer()
        await self._opened.done_writing()

    async def _send(self, message: bytes) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await self._opened.write(message)
        except asyncio.InvalidStateError:
            # The call ended under us: its status says why.
            await self._answer()
        except TimeoutError:
            raise Stalled(seconds=self._seconds) from None
        except grpc.aio.AioRpcError as error:
            raise why(error, self.node) from error

    async def _answer(self) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                answer = await self._opened.read()
        except TimeoutError:
            raise Stalled(seconds=self._seconds) from None
        except grpc.aio.AioRpcError as error:
            raise why(error, self.node) from error
        if not isinstance(answer, bytes):
            raise Unavailable(what=f"Node {self.node}")

    @property
    def _opened(self) -> "grpc.aio.StreamStreamCall[bytes, bytes]":
        if self._call is None:
            raise RuntimeError("the copy was not begun")
        return self._call


def why(error: grpc.aio.AioRpcError, node: str) -> Exception:
    """What another node's refusal means here."""
    reason = reason_of(error)
    if reason == DiskFull.reason:
        return DiskFull(node=node)
    if reason == Unentered.reason:
        return Unentered(node=node)
    if reason == NameMismatch.reason:
        return NameMismatch(name="The object", detail=str(error.details()))
    return Unavailable(what=f"Node {node}")


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """The reason in a refusal (reasons.proto); empty when no server gave one."""
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                status = Status.FromString(value)
            except DecodeError:
                return ""
            info = ErrorInfo()
            return next((info.reason for detail in status.details if detail.Unpack(info)), "")
    return ""
