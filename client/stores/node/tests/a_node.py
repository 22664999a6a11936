"""A storage node in memory, which does wrong what a test asks it to."""

import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import grpc
from google.protobuf.duration_pb2 import Duration
from oort.storage.v1 import objects_pb2, objects_pb2_grpc, sessions_pb2, sessions_pb2_grpc

from client.tests.servers import refuse

FRAME = 100_000


@dataclass
class Bucket:
    """What all nodes of the cluster share."""

    objects: dict[str, bytes] = field(default_factory=dict)
    over: set[str] = field(default_factory=set)
    tokens: set[str] = field(default_factory=lambda: {"good"})


@dataclass
class Node(objects_pb2_grpc.ObjectServiceServicer, sessions_pb2_grpc.SessionServiceServicer):
    """`faults` are reasons, taken one a call, and told with `retry`; `cut_after` ends puts and gets once, after so many
    bytes.
    """

    bucket: Bucket
    beat_seconds: float = 300.0
    faults: list[tuple[grpc.StatusCode, str]] = field(default_factory=list)
    retry: timedelta | None = None
    cut_after: int | None = None
    spoil: bool = False
    hang: bool = False
    homes: tuple[str, ...] = ()
    calls: list[str] = field(default_factory=list)
    headers: list[objects_pb2.PutHeader] = field(default_factory=list)
    opened: list[sessions_pb2.OpenRequest] = field(default_factory=list)
    reserved: list[int] = field(default_factory=list)
    marks: dict[str, str] = field(default_factory=dict)
    condemned: list[list[str]] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    refuses_always: str = ""
    held: str = ""
    hanging: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    beaten: threading.Event = field(default_factory=threading.Event)

    def add_to(self, server: grpc.Server) -> None:
        objects_pb2_grpc.add_ObjectServiceServicer_to_server(self, server)
        sessions_pb2_grpc.add_SessionServiceServicer_to_server(self, server)

    def _enter(self, call: str, context: grpc.ServicerContext, session: str = "") -> None:
        self.calls.append(call)
        metadata = {str(key): value for key, value in context.invocation_metadata()}
        if str(metadata.get("authorization", "")).removeprefix("Bearer ") not in self.bucket.tokens:
            refuse(context, grpc.StatusCode.UNAUTHENTICATED, "BAD_TOKEN")
        if self.faults and call != "Beat":
            refuse(context, *self.faults.pop(0), "too often" if self.retry else "no", retry=self.retry)
        if session in self.bucket.over:
            refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "SESSION_OVER")

    def Open(self, request: sessions_pb2.OpenRequest, context: grpc.ServicerContext) -> sessions_pb2.OpenResponse:
        self._enter("Open", context)
        self.opened.append(request)
        return sessions_pb2.OpenResponse(
            opened_seq=1,
            beat_interval=Duration(nanos=int(self.beat_seconds % 1 * 1e9), seconds=int(self.beat_seconds)),
            homes=self.homes,
        )

    def Beat(self, request: sessions_pb2.BeatRequest, context: grpc.ServicerContext) -> sessions_pb2.BeatResponse:
        self._enter("Beat", context)
        self.beaten.set()
        if request.session_id in self.bucket.over:
            refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "SESSION_OVER")
        return sessions_pb2.BeatResponse()

    def End(self, request: sessions_pb2.EndRequest, context: grpc.ServicerContext) -> sessions_pb2.EndResponse:
        self._enter("End", context)
        self.bucket.over.add(request.session_id)
        return sessions_pb2.EndResponse()

    def Reserve(
        self, request: sessions_pb2.ReserveRequest, context: grpc.ServicerContext
    ) -> sessions_pb2.ReserveResponse:
        self._enter("Reserve", context, request.session_id)
        self.reserved.append(len(request.names))
        return sessions_pb2.ReserveResponse(gone=[name for name in request.names if name not in self.bucket.objects])

    def Commit(self, request: sessions_pb2.CommitRequest, context: grpc.ServicerContext) -> sessions_pb2.CommitResponse:
        self._enter("Commit", context, request.session_id)
        self.bucket.objects[request.name] = request.body
        return sessions_pb2.CommitResponse()

    def Remove(self, request: sessions_pb2.RemoveRequest, context: grpc.ServicerContext) -> sessions_pb2.RemoveResponse:
        self._enter("Remove", context, request.session_id)
        if request.name not in self.bucket.objects:
            refuse(context, grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
        del self.bucket.objects[request.name]
        return sessions_pb2.RemoveResponse()

    def Mark(self, request: sessions_pb2.MarkRequest, context: grpc.ServicerContext) -> sessions_pb2.MarkResponse:
        """Done before a fault, as if the answer were lost."""
        if self.marks.setdefault(request.session_id, request.mark_id) != request.mark_id:
            refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "MARKED_ALREADY")
        self._enter("Mark", context, request.session_id)
        return sessions_pb2.MarkResponse(mark_seq=2, held=self.held)

    def Condemn(
        self, request: sessions_pb2.CondemnRequest, context: grpc.ServicerContext
    ) -> sessions_pb2.CondemnResponse:
        self._enter("Condemn", context, request.session_id)
        self.condemned.append(list(request.names))
        stays = [self.refuses_always] if self.refuses_always else [name for name in request.names if name in self.used]
        refused = [sessions_pb2.RefusedObject(name=name, reason="in use", in_use=True) for name in stays]
        return sessions_pb2.CondemnResponse(refused=refused)

    def Initialise(
        self, request: objects_pb2.InitialiseRequest, context: grpc.ServicerContext
    ) -> objects_pb2.InitialiseResponse:
        self.calls.append("Initialise")
        created = "config" not in self.bucket.objects
        if created:
            self.bucket.objects["config"] = request.config
        if self.faults:
            refuse(context, *self.faults.pop(0))  # done, and the answer lost
        return objects_pb2.InitialiseResponse(created=created)

    def ReplaceSeal(
        self, request: objects_pb2.ReplaceSealRequest, context: grpc.ServicerContext
    ) -> objects_pb2.ReplaceSealResponse:
        """Done before a fault, as if the answer were lost."""
        self.bucket.objects["oort-vault"] = request.seal
        self._enter("ReplaceSeal", context, request.session_id)
        return objects_pb2.ReplaceSealResponse()

    def Put(
        self, request_iterator: Iterator[objects_pb2.PutRequest], context: grpc.ServicerContext
    ) -> objects_pb2.PutResponse:
        header = next(request_iterator).header
        self._enter("Put", context, header.session_id)
        self.headers.append(header)
        body = bytearray()
        for part in request_iterator:
            if self.hang:
                self.hanging.set()
                self.released.wait(30)
                context.abort(grpc.StatusCode.UNKNOWN, "too late")
            body += part.frame
            if self.cut_after is not None and len(body) >= self.cut_after:
                self.cut_after = None
                context.abort(grpc.StatusCode.UNAVAILABLE, "going down")
        existed = header.name in self.bucket.objects
        self.bucket.objects[header.name] = bytes(body)
        return objects_pb2.PutResponse(existed=existed, copies=1)

    def Get(self, request: objects_pb2.GetRequest, context: grpc.ServicerContext) -> Iterator[objects_pb2.GetResponse]:
        self._enter(f"Get {request.offset}", context, request.session_id)
        if request.name not in self.bucket.objects:
            refuse(context, grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
        body = self.bucket.objects[request.name][request.offset :]
        body = body[: request.length] if request.length else body
        if self.spoil:
            body = b"x" + body[1:]
        for sent in itertools.count(0, FRAME):
            if sent >= len(body):
                return
            yield objects_pb2.GetResponse(frame=body[sent : sent + FRAME])
            if self.cut_after is not None and sent + FRAME >= self.cut_after:
                self.cut_after = None
                context.abort(grpc.StatusCode.UNAVAILABLE, "going down")

    def List(self, request: objects_pb2.ListRequest, context: grpc.ServicerContext) -> objects_pb2.ListResponse:
        self._enter("List", context, request.session_id)
        names = sorted(name for name in self.bucket.objects if name.startswith(request.kind + "/"))
        start = int(request.page_token or 0)
        page = [
            objects_pb2.ObjectInfo(name=name, size=len(self.bucket.objects[name])) for name in names[start : start + 3]
        ]
        more = start + 3 < len(names)
        return objects_pb2.ListResponse(objects=page, next_page_token=str(start + 3) if more else "")
