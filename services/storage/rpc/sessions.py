"""SessionService: unpack, pass the gate, call, pack."""

from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from oort.storage.v1 import sessions_pb2, sessions_pb2_grpc

from domain.names import ObjectKind
from domain.sessions import MAX_SNAPSHOT_BYTES, NEEDED_SCOPE, Purpose, Scope, opening_statement
from services.common.database import Database
from services.common.errors import InvalidArgument
from services.common.messages import uuid_of
from services.storage.access.gate import Gate
from services.storage.removal import holding, retention
from services.storage.removal.holding import Brake
from services.storage.sessions import lifecycle
from services.storage.store import scrubs
from services.storage.transfer.names import name_of, pack_names
from services.storage.transfer.puts import Put, Puts

Context = grpc.aio.ServicerContext[Any, Any]


class SessionsRpc(sessions_pb2_grpc.SessionServiceServicer):
    def __init__(
        self, gate: Gate, db: Database, puts: Puts, *, beat_seconds: float, silent_seconds: float, brake: Brake
    ) -> None:
        self._gate = gate
        self._db = db
        self._puts = puts
        self._beat_seconds = beat_seconds
        self._silent_seconds = silent_seconds
        self._brake = brake

    async def Open(self, request: sessions_pb2.OpenRequest, context: Context) -> sessions_pb2.OpenResponse:
        try:
            purpose = Purpose(request.purpose)
            needed = NEEDED_SCOPE[purpose]
        except (ValueError, KeyError):
            raise InvalidArgument(detail=f"purpose is one of {', '.join(NEEDED_SCOPE)}.") from None
        session = uuid_of(request.session_id, "session_id")
        parent = name_of(f"{ObjectKind.SNAPSHOT}/{request.parent}") if request.parent else None
        claims = self._gate.require(context, needed)
        statement = opening_statement(str(session), str(claims.bucket), purpose, request.parent)
        self._gate.require_signature(claims, statement, request.device_signature)
        opened = await lifecycle.open_session(self._db, claims, session, purpose, parent)
        interval = Duration()
        interval.FromNanoseconds(int(self._beat_seconds * 1_000_000_000))
        homes = await lifecycle.live_homes(self._db, claims, self._silent_seconds)
        lost = await lifecycle.lost_packs(self._db, claims) if purpose is Purpose.BACKUP else []
        return sessions_pb2.OpenResponse(
            opened_seq=opened,
            beat_interval=interval,
            homes=homes,
            lost=[f"{ObjectKind.PACK}/{one}" for one in lost],
            more_lost=len(lost) >= scrubs.LOST_AT_ONCE,
        )

    async def Beat(self, request: sessions_pb2.BeatRequest, context: Context) -> sessions_pb2.BeatResponse:
        claims = self._gate.require(context, Scope.READ)
        await lifecycle.beat(self._db, claims, uuid_of(request.session_id, "session_id"))
        return sessions_pb2.BeatResponse()

    async def End(self, request: sessions_pb2.EndRequest, context: Context) -> sessions_pb2.EndResponse:
        claims = self._gate.require(context, Scope.READ)
        await lifecycle.end(self._db, claims, uuid_of(request.session_id, "session_id"))
        return sessions_pb2.EndResponse()

    async def Reserve(self, request: sessions_pb2.ReserveRequest, context: Context) -> sessions_pb2.ReserveResponse:
        claims = self._gate.require(context, Scope.APPEND)
        packs = pack_names(request.names, "names", 1000)
        gone = await lifecycle.reserve(self._db, claims, uuid_of(request.session_id, "session_id"), packs)
        return sessions_pb2.ReserveResponse(gone=map(str, gone))

    async def Commit(self, request: sessions_pb2.CommitRequest, context: Context) -> sessions_pb2.CommitResponse:
        claims = self._gate.require(context, Scope.APPEND)
        name = name_of(request.name)
        if name.kind is not ObjectKind.SNAPSHOT:
            raise InvalidArgument(detail="Only a snapshot is committed: snapshots/SHA-256.")
        if len(request.body) > MAX_SNAPSHOT_BYTES:
            raise InvalidArgument(detail=f"A snapshot has at most {MAX_SNAPSHOT_BYTES} bytes.")
        session = uuid_of(request.session_id, "session_id")
        put = Put(claims, session, name, bytes.fromhex(name.id), len(request.body))
        await self._puts.put_body(put, request.body)
        return sessions_pb2.CommitResponse()

    async def Remove(self, request: sessions_pb2.RemoveRequest, context: Context) -> sessions_pb2.RemoveResponse:
        claims = self._gate.require(context, Scope.DELETE)
        name = name_of(request.name)
        if name.kind is not ObjectKind.SNAPSHOT:
            raise InvalidArgument(detail="Only a snapshot is removed: snapshots/SHA-256.")
        await retention.remove(self._db, claims, uuid_of(request.session_id, "session_id"), name, self._brake)
        return sessions_pb2.RemoveResponse()

    async def Mark(self, request: sessions_pb2.MarkRequest, context: Context) -> sessions_pb2.MarkResponse:
        claims = self._gate.require(context, Scope.DELETE)
        session, mark_id = uuid_of(request.session_id, "session_id"), uuid_of(request.mark_id, "mark_id")
        seq = await retention.mark(self._db, claims, session, mark_id)
        return sessions_pb2.MarkResponse(mark_seq=seq, held=await holding.why_held(self._db, claims))

    async def Condemn(self, request: sessions_pb2.CondemnRequest, context: Context) -> sessions_pb2.CondemnResponse:
        claims = self._gate.require(context, Scope.DELETE)
        names = [name_of(text) for text in request.names]
        session = uuid_of(request.session_id, "session_id")
        refused = await retention.condemn(self._db, claims, session, names, self._brake)
        return sessions_pb2.CondemnResponse(
            refused=[
                sessions_pb2.RefusedObject(name=str(one.name), reason=one.reason, in_use=one.in_use) for one in refused
            ]
        )
