"""An operator's session on a bucket, through whatever node of the cluster answers.

Kept true: it beats while it is open, from a thread of its own; a call that no node takes just now is made again for a
while; of a body one frame is in memory.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, Self, TypeVar

import grpc
from oort.storage.v1 import (
    adoptions_pb2,
    adoptions_pb2_grpc,
    buckets_pb2,
    objects_pb2,
    objects_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
)

from client.errors import OortError, ServerUnreachable
from client.rpc import Pacing, Refusal, read_refusal
from client.stores.abc import ObjectInfo
from client.stores.node.refusals import translate
from deploy.administrator import new_id
from deploy.local.cluster import CALL_SECONDS, Cluster
from deploy.seeding.errors import Unreadable
from domain.names import CONFIG, ObjectKind, ObjectName
from domain.sessions import OPERATOR_METADATA, Purpose

_PAGE_SIZE = 1000
_PACING = Pacing(patience=60)
# A body may take the time that a slow disk needs for it; who stands still is given up by the node before that.
_SLOWEST_BYTES_PER_SECOND = 256 << 10

Answer = TypeVar("Answer")
Told_co = TypeVar("Told_co", covariant=True)
Metadata = tuple[tuple[str, str], ...]


class Stream(Protocol[Told_co]):
    """Answers to one call."""

    def __iter__(self) -> Iterator[Told_co]: ...
    def cancel(self) -> object: ...


class BucketSession:
    """Made by `open`. Every call raises OortError for a person; kinds of StoreError as a device's session does."""

    def __init__(self, cluster: Cluster, bucket: buckets_pb2.Bucket, pacing: Pacing) -> None:
        self.id = str(new_id())
        self.bucket = bucket.id
        self.user = bucket.user_id
        self.homes = list(bucket.home_nodes)
        self._cluster = cluster
        self._channels = cluster.channels(bucket.home_nodes)
        self._pacing = pacing
        self._metadata = tuple(zip(OPERATOR_METADATA, (bucket.id, bucket.tenant_id, bucket.user_id), strict=True))
        self._over = threading.Event()

    @classmethod
    @contextmanager
    def open(cls, cluster: Cluster, bucket: str, purpose: Purpose, *, pacing: Pacing = _PACING) -> Iterator[Self]:
        """Raises NotFound and UsageError for the id of the bucket."""
        session = cls(cluster, cluster.bucket(bucket), pacing)
        request = sessions_pb2.OpenRequest(session_id=session.id, purpose=purpose)
        opened = session._ask(
            lambda channel: sessions_pb2_grpc.SessionServiceStub(channel).Open(
                request, timeout=CALL_SECONDS, metadata=session._metadata
            )
        )
        interval = opened.beat_interval.ToNanoseconds() / 1e9
        beating = threading.Thread(target=session._beat, args=(interval,), name="beats", daemon=True)
        beating.start()
        try:
            yield session
        finally:
            session._over.set()
            beating.join()
            session._end()

    def list(self, kind: ObjectKind) -> Iterator[ObjectInfo]:
        """By name."""
        token, more = "", True
        while more:
            request = objects_pb2.ListRequest(session_id=self.id, kind=kind, page_size=_PAGE_SIZE, page_token=token)
            page = self._ask(
                lambda channel, request=request: objects_pb2_grpc.ObjectServiceStub(channel).List(  # type: ignore[misc] # mypy infers no default
                    request, timeout=CALL_SECONDS, metadata=self._metadata
                )
            )
            for found in page.objects:
                yield ObjectInfo(ObjectName.parse(found.name), found.size)
            token = page.next_page_token
            more = bool(token)

    def fetch(self, info: ObjectInfo, take: Callable[[Iterator[bytes]], None]) -> None:
        """Have `take` read the frames of an object; all of them anew when a node fails.

        Raises DamagedVault when no copy is whole, and what `take` does.
        """
        self._ask(lambda channel: take(self._frames(channel, info)), info.name)

    def read(self, name: ObjectName) -> bytes:
        """A small object, whole. Raises ObjectMissing, DamagedVault."""
        taken: list[bytes] = []

        def take(frames: Iterator[bytes]) -> None:
            taken[:] = frames

        self.fetch(ObjectInfo(name, 0), take)
        return b"".join(taken)

    def initialise(self, key: ObjectName, key_body: bytes, config: bytes, seal: bytes) -> bool:
        """False, and nothing stored, where there is a `config`."""
        request = objects_pb2.InitialiseRequest(
            session_id=self.id, key_name=str(key), key=key_body, config=config, seal=seal
        )
        return self._ask(
            lambda channel: objects_pb2_grpc.ObjectServiceStub(channel).Initialise(
                request, timeout=CALL_SECONDS, metadata=self._metadata
            ),
            CONFIG,
        ).created

    def put(self, info: ObjectInfo, body: Callable[[], Iterator[bytes]]) -> bool:
        """Store an object; `body` answers its frames, from the first one each time. False if it was there.

        Raises NameMismatch, Unreadable with what `body` raised, QuotaExceeded, StoreFull.
        """
        return not self._ask(lambda channel: self._put(channel, info, body), info.name).existed

    def commit(self, name: ObjectName, body: bytes) -> None:
        """Store a snapshot."""
        request = sessions_pb2.CommitRequest(session_id=self.id, name=str(name), body=body)
        self._ask(
            lambda channel: sessions_pb2_grpc.SessionServiceStub(channel).Commit(
                request, timeout=CALL_SECONDS, metadata=self._metadata
            ),
            name,
        )

    def finish_adoption(self) -> None:
        """All files that were copied by hand are in: what nothing needs may go again."""
        request = adoptions_pb2.FinishAdoptionRequest(session_id=self.id)
        self._ask(
            lambda channel: adoptions_pb2_grpc.AdoptionServiceStub(channel).Finish(
                request, timeout=CALL_SECONDS, metadata=self._metadata
            )
        )

    def stream_of(self, node: str, call: Callable[[grpc.Channel, Metadata], Stream[Answer]]) -> Iterator[Answer]:
        """What one node answers. Raises ServerUnreachable when it is down, or a disk of it is away."""
        answers = call(self._cluster.channel(node), self._metadata)
        try:
            yield from answers
        except grpc.RpcError as error:
            refusal = read_refusal(error)
            if refusal.is_outage:
                raise ServerUnreachable(server=f"Node {node}", reason=refusal.message) from None
            raise translate(refusal, f"Bucket {self.bucket}") from None
        finally:
            answers.cancel()

    def _frames(self, channel: grpc.Channel, info: ObjectInfo) -> Iterator[bytes]:
        request = objects_pb2.GetRequest(session_id=self.id, name=str(info.name))
        call = objects_pb2_grpc.ObjectServiceStub(channel).Get(request, timeout=_seconds(info), metadata=self._metadata)
        try:
            for answer in call:
                yield answer.frame
        finally:
            call.cancel()

    def _put(
        self, channel: grpc.Channel, info: ObjectInfo, body: Callable[[], Iterator[bytes]]
    ) -> objects_pb2.PutResponse:
        failures: list[OortError] = []

        def requests() -> Iterator[objects_pb2.PutRequest]:
            header = objects_pb2.PutHeader(session_id=self.id, name=str(info.name), size=info.size)
            yield objects_pb2.PutRequest(header=header)
            try:
                for frame in body():
                    yield objects_pb2.PutRequest(frame=frame)
            except OortError as error:
                failures.append(error)  # the body ends early, so the node refuses it

        try:
            return objects_pb2_grpc.ObjectServiceStub(channel).Put(
                requests(), timeout=_seconds(info), metadata=self._metadata
            )
        except grpc.RpcError:
            if failures:
                raise Unreadable(detail=str(failures[0])) from None
            raise

    def _beat(self, interval: float) -> None:
        request = sessions_pb2.BeatRequest(session_id=self.id)
        # Nodes that do not answer take no longer than an interval together, so the one that does hears it in time.
        timeout = interval / max(1, len(self._channels))
        while not self._over.wait(interval):
            for channel in self._channels:
                # Whether the session is over is told by the next call that needs it.
                with contextlib.suppress(grpc.RpcError):
                    sessions_pb2_grpc.SessionServiceStub(channel).Beat(
                        request, timeout=timeout, metadata=self._metadata
                    )
                    break

    def _end(self) -> None:
        """One that cannot be ended ends by its silence."""
        request = sessions_pb2.EndRequest(session_id=self.id)
        for channel in self._channels:
            with contextlib.suppress(grpc.RpcError):
                sessions_pb2_grpc.SessionServiceStub(channel).End(
                    request, timeout=CALL_SECONDS, metadata=self._metadata
                )
                return

    def _ask(self, call: Callable[[grpc.Channel], Answer], name: ObjectName | None = None) -> Answer:
        deadline, attempt = 0.0, 0
        refusal = Refusal(grpc.StatusCode.UNAVAILABLE, "", "it has no nodes")
        while True:
            for channel in self._channels:
                try:
                    return call(channel)
                except grpc.RpcError as error:
                    refusal = read_refusal(error)
                    if not refusal.is_outage:
                        raise translate(refusal, f"Bucket {self.bucket}", str(name or "")) from None
            attempt += 1
            if attempt == 1:
                # From here on: a large body may have taken longer than that before its node failed.
                deadline = self._pacing.monotonic() + self._pacing.patience
            if self._pacing.monotonic() >= deadline:
                raise ServerUnreachable(server="The storage cluster", reason=refusal.message)
            self._pacing.pause(attempt)


def _seconds(info: ObjectInfo) -> float:
    return CALL_SECONDS + info.size / _SLOWEST_BYTES_PER_SECOND
