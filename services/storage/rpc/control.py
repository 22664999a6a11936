"""SessionControlService: sessions as other roles and the operator handle them. Internal listener."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import grpc
import structlog
from oort.storage.v1 import sessions_pb2, sessions_pb2_grpc

from services.common.database import Database
from services.common.errors import InvalidArgument
from services.common.identity import OPERATOR, require_peer
from services.common.messages import optional_uuid_of, timestamp_of, uuid_of
from services.common.paging import Page, page_of
from services.storage.sessions import control
from services.storage.store.control import OpenSession

Context = grpc.aio.ServicerContext[Any, Any]
_CALLERS = ("auth", OPERATOR)


class ControlRpc(sessions_pb2_grpc.SessionControlServiceServicer):
    def __init__(self, db: Database, basket: timedelta) -> None:
        self._db = db
        self._basket = basket
        self._log = structlog.get_logger("storage")

    async def ListSessions(
        self, request: sessions_pb2.ListSessionsRequest, context: Context
    ) -> sessions_pb2.ListSessionsResponse:
        require_peer(context, *_CALLERS)
        tenant = optional_uuid_of(request.tenant_id, "tenant_id")
        bucket = optional_uuid_of(request.bucket_id, "bucket_id")
        page = page_of(request, parts=2)
        found = await control.page(self._db, tenant, bucket, self._basket, after=_after(page), limit=page.limit)
        shown, token = page.cut(found, lambda row: (str(row.bucket_id), str(row.opened_seq)))
        return sessions_pb2.ListSessionsResponse(sessions=map(_session, shown), next_page_token=token)

    async def EndSession(
        self, request: sessions_pb2.EndSessionRequest, context: Context
    ) -> sessions_pb2.EndSessionResponse:
        caller = require_peer(context, *_CALLERS)
        session = uuid_of(request.session_id, "session_id")
        if await control.end(self._db, session, optional_uuid_of(request.tenant_id, "tenant_id")):
            self._log.info("session ended on request", session=str(session), by=str(caller))
        return sessions_pb2.EndSessionResponse()


def _after(page: Page) -> tuple[UUID, int] | None:
    if not page.after:
        return None
    bucket, seq = page.after
    if not seq.isdecimal():
        raise InvalidArgument(detail="page_token is not one that this list gave.")
    return uuid_of(bucket, "page_token"), int(seq)


def _session(row: OpenSession) -> sessions_pb2.OpenSession:
    return sessions_pb2.OpenSession(
        id=str(row.id),
        bucket_id=str(row.bucket_id),
        tenant_id=str(row.tenant_id),
        user_id=str(row.user_id),
        device_id=str(row.device_id),
        purpose=row.purpose,
        opened=timestamp_of(row.opened),
        last_beat=timestamp_of(row.last_beat),
        held_objects=row.held_objects,
        held_bytes=row.held_bytes,
    )
