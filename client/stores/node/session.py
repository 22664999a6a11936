"""A session on a bucket (docs/sessions.md), kept alive by beats of its own thread.

Kept true: once the node has said that the session is over, every further call says so without asking; bodies count
in `sent_bytes` each time they are handed to the wire, so it is what the line carried and not what was stored; closing
the session wakes every thread that waits in a call of it, whatever the node does. Of one that only read, which keeps
nobody out, the node is told beside what follows, and has been told when the store is closed.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from itertools import groupby
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TypeVar
from uuid import uuid4

import grpc
from oort.storage.v1 import objects_pb2, sessions_pb2

from client.errors import NotSupported, OortError, SessionOver, StoreError, TruncatedObject
from client.rpc import Metadata, read_refusal
from client.stores.abc import Buffer, ObjectInfo, Refusal
from client.stores.node.access import AccessKeeper
from client.stores.node.download import Download
from client.stores.node.nodes import Action, BadCopy, Refused
from client.stores.node.refusals import translate
from client.stores.node.stalls import Cancellable, Stalled
from client.stores.node.wire import Connection, PutPart, frames
from domain.names import CONFIG, SEAL, BadName, ObjectKind, ObjectName
from domain.sessions import Purpose

if TYPE_CHECKING:
    from client.stores.node.stalls import Progress
    from client.stores.node.store import NodeStore

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

CALL_SECONDS = 60.0
_SLOWEST_BYTES_A_SECOND = 8 * 1024  # a body's deadline; a stream that stands still is found much earlier
_PAGE = 1000
_NAMES_AT_ONCE = 1000
_BEAT_SECONDS = (1.0, 300.0)
_END_PATIENCE = 5.0


class _Pending(Protocol[T_co]):
    """A call whose answer is waited for."""

    def cancel(self) -> object: ...

    def result(self) -> T_co: ...


class NodeSession:
    """StoreSession on the storage role. Made by NodeStore.open."""

    def __init__(
        self,
        store: "NodeStore",
        keeper: AccessKeeper,
        session_id: str,
        purpose: Purpose,
        beat_seconds: float,
        *,
        lost: Sequence[str] = (),
        has_more_lost: bool = False,
    ) -> None:
        self._store = store
        self._purpose = purpose
        self._keeper = keeper
        self.id = session_id
        self._place = store.place
        self.lost = frozenset(self._named(name, ObjectKind.PACK) for name in lost)
        self.has_more_lost = has_more_lost
        self._over: SessionOver | None = None
        self._sent_lock = threading.Lock()
        self._sent_bytes = 0
        self._ending = threading.Event()
        self._calls: set[Cancellable] = set()
        self._calls_lock = threading.Lock()
        self._beat_seconds = min(max(beat_seconds, _BEAT_SECONDS[0]), _BEAT_SECONDS[1])
        self._beats = threading.Thread(target=self._beat, name="oort-beats", daemon=True)
        self._beats.start()

    @property
    def sent_bytes(self) -> int:
        """Bytes of bodies handed to the wire so far, repeated ones included."""
        return self._sent_bytes

    def initialise(self, key: ObjectName, key_body: Buffer, config: Buffer, seal: Buffer) -> bool:
        request = objects_pb2.InitialiseRequest(
            session_id=self.id, key_name=str(key), key=bytes(key_body), config=bytes(config), seal=bytes(seal)
        )
        tries = 0

        def action(connection: Connection, metadata: Metadata) -> bool:
            nonlocal tries
            tries += 1
            self._count(len(request.key) + len(request.config) + len(request.seal))
            return self._answer(
                connection.objects.Initialise.future(request, timeout=CALL_SECONDS, metadata=metadata)
            ).created

        created = self._run(action)
        # An earlier try may have been done and its answer lost: then the config is the one just sent.
        return created or (tries > 1 and self.get(CONFIG) == request.config)

    def put(self, name: ObjectName, body: Buffer, packs: Sequence[ObjectName] = ()) -> bool:
        view = memoryview(body).cast("B")
        header = objects_pb2.PutHeader(
            session_id=self.id, name=str(name), size=len(view), packs=[str(pack) for pack in packs]
        )
        timeout = _body_seconds(len(view))

        def action(connection: Connection, metadata: Metadata) -> objects_pb2.PutResponse:
            with self._store.stalls.watch() as progress:
                call = connection.put.future(self._parts(header, view, progress), timeout=timeout, metadata=metadata)
                progress.watches(call)
                return self._answer(call)

        return not self._run(action, name, is_body=True).existed

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        download = Download(name, offset, length)

        def action(connection: Connection, metadata: Metadata) -> bytes:
            if not download.is_full:
                request = download.request(self.id)
                with self._store.stalls.watch() as progress:
                    call = connection.get(request, timeout=_body_seconds(length), metadata=metadata)
                    progress.watches(call)
                    try:
                        with self._wakeable(call):
                            download.receive(call, progress)
                    except grpc.RpcError as error:
                        refusal = read_refusal(error)
                        if refusal.reason == "DAMAGED":
                            raise BadCopy(translate(refusal, self._place, str(name))) from None
                        if refusal.reason == "INVALID_ARGUMENT":  # of a range: it ends beyond the object
                            raise BadCopy(TruncatedObject(name=name, detail=refusal.message)) from None
                        raise
            return download.whole()

        return self._run(action, name, is_body=True)

    def list(self, kind: ObjectKind) -> Iterator[ObjectInfo]:
        token = ""
        while True:
            request = objects_pb2.ListRequest(session_id=self.id, kind=kind.value, page_size=_PAGE, page_token=token)

            def action(
                connection: Connection, metadata: Metadata, request: objects_pb2.ListRequest = request
            ) -> objects_pb2.ListResponse:
                return self._answer(connection.objects.List.future(request, timeout=CALL_SECONDS, metadata=metadata))

            page = self._run(action)
            for listed in page.objects:
                yield ObjectInfo(self._named(listed.name, kind), listed.size)
            if not page.next_page_token:
                return
            if page.next_page_token == token:
                raise StoreError(place=self._place, detail="a node sends the same page of a list for ever")
            token = page.next_page_token

    def reserve(self, packs: Sequence[ObjectName]) -> frozenset[ObjectName]:
        gone: set[ObjectName] = set()
        for start in range(0, len(packs), _NAMES_AT_ONCE):
            request = sessions_pb2.ReserveRequest(
                session_id=self.id, names=[str(pack) for pack in packs[start : start + _NAMES_AT_ONCE]]
            )

            def action(
                connection: Connection, metadata: Metadata, request: sessions_pb2.ReserveRequest = request
            ) -> sessions_pb2.ReserveResponse:
                return self._answer(
                    connection.sessions.Reserve.future(request, timeout=CALL_SECONDS, metadata=metadata)
                )

            gone.update(self._named(name, ObjectKind.PACK) for name in self._run(action).gone)
        return frozenset(gone)

    def commit(self, snapshot: ObjectName, body: Buffer) -> None:
        request = sessions_pb2.CommitRequest(session_id=self.id, name=str(snapshot), body=bytes(body))

        def action(connection: Connection, metadata: Metadata) -> None:
            self._count(len(request.body))
            self._answer(connection.sessions.Commit.future(request, timeout=CALL_SECONDS, metadata=metadata))

        self._run(action, snapshot)

    def remove(self, name: ObjectName) -> None:
        if name.kind is not ObjectKind.SNAPSHOT:
            raise NotSupported(place=self._place, detail=f"{name} can be removed by retention alone")
        request = sessions_pb2.RemoveRequest(session_id=self.id, name=str(name))

        def action(connection: Connection, metadata: Metadata) -> None:
            self._answer(connection.sessions.Remove.future(request, timeout=CALL_SECONDS, metadata=metadata))

        self._run(action, name)

    def mark(self) -> str:
        # One id for all tries of this one mark: a lost answer is asked for again, and a second mark is not this one.
        request = sessions_pb2.MarkRequest(session_id=self.id, mark_id=str(uuid4()))

        def action(connection: Connection, metadata: Metadata) -> sessions_pb2.MarkResponse:
            return self._answer(connection.sessions.Mark.future(request, timeout=CALL_SECONDS, metadata=metadata))

        return self._run(action).held

    def condemn(self, names: Sequence[ObjectName]) -> Mapping[ObjectName, Refusal]:
        stays: dict[ObjectName, Refusal] = {}
        for kind, alike in groupby(names, lambda name: name.kind):
            texts = [str(name) for name in alike]
            for start in range(0, len(texts), _NAMES_AT_ONCE):
                request = sessions_pb2.CondemnRequest(session_id=self.id, names=texts[start : start + _NAMES_AT_ONCE])

                def action(
                    connection: Connection, metadata: Metadata, request: sessions_pb2.CondemnRequest = request
                ) -> sessions_pb2.CondemnResponse:
                    return self._answer(
                        connection.sessions.Condemn.future(request, timeout=CALL_SECONDS, metadata=metadata)
                    )

                for refused in self._run(action).refused:
                    stays[self._named(refused.name, kind)] = Refusal(refused.reason, refused.in_use)
        return stays

    def replace_seal(self, body: Buffer, replaced: Buffer | None) -> None:
        former = b"" if replaced is None else sha256(replaced).digest()
        request = objects_pb2.ReplaceSealRequest(session_id=self.id, seal=bytes(body), replaces_sha256=former)

        def action(connection: Connection, metadata: Metadata) -> None:
            self._count(len(request.seal))
            self._answer(connection.objects.ReplaceSeal.future(request, timeout=CALL_SECONDS, metadata=metadata))

        self._run(action, SEAL)

    def close(self) -> None:
        if self._ending.is_set():
            return
        self._ending.set()
        with self._calls_lock:
            calls = list(self._calls)
        for call in calls:
            call.cancel()
        self._beats.join()
        if self._over is not None:
            return
        self._over = SessionOver(place=self._place)
        if self._purpose is Purpose.READ:
            self._store.beside(self._end)
        else:
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _end(self) -> None:
        """Tell the node. What was put and committed is safe already, and it ends a session by itself without beats."""
        request = sessions_pb2.EndRequest(session_id=self.id)

        def action(connection: Connection, metadata: Metadata) -> None:
            connection.sessions.End(request, timeout=_END_PATIENCE, metadata=metadata)

        with suppress(OortError, Refused):
            self._store.nodes.run(self._keeper, action, patience=_END_PATIENCE)

    def _named(self, text: str, kind: ObjectKind) -> ObjectName:
        """An object of `kind` that a node names. Raises StoreError: a node may say anything."""
        with suppress(BadName):
            name = ObjectName.parse(text)
            if name.kind is kind:
                return name
        raise StoreError(place=self._place, detail=f"a node names {text[:80]!r} among {kind.value}")

    def _run(self, action: Action[T], name: ObjectName | None = None, *, is_body: bool = False) -> T:
        if self._over is not None:
            raise SessionOver(place=self._place)
        try:
            return self._store.nodes.run(self._keeper, self._ended_by_close(action), is_body=is_body)
        except Refused as refused:
            error = translate(refused.refusal, self._place, str(name) if name else "")
            if isinstance(error, SessionOver):
                self._over = error
            raise error from None

    def _ended_by_close(self, action: Action[T]) -> Action[T]:
        """An action that is not repeated elsewhere when closing the session was what ended it."""

        def guarded(connection: Connection, metadata: Metadata) -> T:
            if self._ending.is_set():
                raise SessionOver(place=self._place)
            try:
                return action(connection, metadata)
            except (grpc.RpcError, grpc.FutureCancelledError, Stalled):
                if self._ending.is_set():
                    raise SessionOver(place=self._place) from None
                raise

        return guarded

    @contextmanager
    def _wakeable(self, call: Cancellable) -> Iterator[None]:
        """Let `close` cancel the call."""
        with self._calls_lock:
            self._calls.add(call)
        try:
            if self._ending.is_set():  # before `close` could have seen the call
                call.cancel()
            yield
        finally:
            with self._calls_lock:
                self._calls.discard(call)

    def _answer(self, call: "_Pending[T]") -> T:
        with self._wakeable(call):
            return call.result()

    def _count(self, sent: int) -> None:
        with self._sent_lock:
            self._sent_bytes += sent

    def _parts(self, header: objects_pb2.PutHeader, body: memoryview, progress: "Progress") -> Iterator[PutPart]:
        yield header

        def took(sent: int) -> None:
            self._count(sent)
            progress.moved()

        yield from frames(body, took)
        progress.moved()

    def _beat(self) -> None:
        request = sessions_pb2.BeatRequest(session_id=self.id)
        timeout = max(self._beat_seconds, 5.0)

        def action(connection: Connection, metadata: Metadata) -> None:
            self._answer(connection.sessions.Beat.future(request, timeout=timeout, metadata=metadata))

        while not self._ending.wait(self._beat_seconds):
            try:
                self._store.nodes.run(self._keeper, self._ended_by_close(action), patience=0)
            except Refused as refused:
                error = translate(refused.refusal, self._place)
                if isinstance(error, SessionOver):
                    self._over = error
                    return
            except OortError:
                # A missed beat is no loss: the next may get through, and the calls that matter report for themselves.
                continue


def _body_seconds(size: int | None) -> float:
    """The deadline of a stream; a size that is not known is taken for a full pack."""
    return CALL_SECONDS + (16 << 20 if size is None else size) / _SLOWEST_BYTES_A_SECOND
