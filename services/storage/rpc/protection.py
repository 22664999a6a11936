"""ProtectionService: waste basket, object lock and brake for other roles and the operator. Internal listener."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

import grpc
import structlog
from oort.storage.v1 import protection_pb2, protection_pb2_grpc

from domain.names import ObjectName
from services.common.database import Database
from services.common.errors import InvalidArgument
from services.common.identity import OPERATOR, require_peer
from services.common.listeners import Served
from services.common.messages import datetime_of, optional_timestamp_of, optional_uuid_of, timestamp_of, uuid_of
from services.common.paging import Page, page_of
from services.storage.removal import basket, holding
from services.storage.removal.basket import MAX_NAMES, Baskets, Wish
from services.storage.store.protection import Candidate, Condemned, Protected, Sum
from services.storage.transfer.names import name_of

Context = grpc.aio.ServicerContext[Any, Any]
_CALLERS = ("auth", OPERATOR)
_NAME = protection_pb2.DESCRIPTOR.services_by_name["ProtectionService"].full_name
_MAX_SEQ = (1 << 63) - 1


class ProtectionRpc(protection_pb2_grpc.ProtectionServiceServicer):
    def __init__(self, db: Database, baskets: Baskets, kept: timedelta) -> None:
        self._db = db
        self._baskets = baskets
        self._kept = kept
        self._log = structlog.get_logger("storage")

    def served(self) -> Served:
        return Served(protection_pb2_grpc.add_ProtectionServiceServicer_to_server, self, _NAME)

    async def ListBasket(
        self, request: protection_pb2.ListBasketRequest, context: Context
    ) -> protection_pb2.ListBasketResponse:
        require_peer(context, *_CALLERS)
        bucket, tenant = _which(request.bucket_id, request.tenant_id)
        page = page_of(request, parts=3)
        found, rows = await basket.page(self._db, bucket, tenant, self._kept, after=_after(page), limit=page.limit)
        shown, token = page.cut(rows, lambda row: (str(row.rank), str(row.condemned_seq), str(row.id)))
        return protection_pb2.ListBasketResponse(
            entries=map(_entry, shown), next_page_token=token, protection=_protection(found)
        )

    async def PlanRestore(
        self, request: protection_pb2.PlanRestoreRequest, context: Context
    ) -> protection_pb2.PlanRestoreResponse:
        require_peer(context, *_CALLERS)
        bucket, tenant = _which(request.bucket_id, request.tenant_id)
        since = datetime_of(request.since, "since") if request.HasField("since") else None
        found = await basket.plan(self._db, bucket, tenant, since, _names(request.names))
        return protection_pb2.PlanRestoreResponse(
            from_seq=found.wish.from_seq,
            comes_back=_sums(found.sums, "comes back"),
            stays=_sums(found.sums, "stays"),
            leaving=_sums(found.sums, "leaving"),
            protection=_protection(found.bucket),
        )

    async def Restore(self, request: protection_pb2.RestoreRequest, context: Context) -> protection_pb2.RestoreResponse:
        caller = require_peer(context, *_CALLERS)
        bucket, tenant = _which(request.bucket_id, request.tenant_id)
        session = uuid_of(request.session_id, "session_id")
        if request.from_seq > _MAX_SEQ:
            raise InvalidArgument(detail=f"from_seq is at most {_MAX_SEQ}.")
        wish = Wish(request.from_seq, tuple(_names(request.names)))
        step = await self._baskets.restore(bucket, tenant, session, wish)
        if step.done:
            self._log.info("a restore from the waste basket is done", bucket=str(bucket), by=str(caller))
        return protection_pb2.RestoreResponse(
            restored=map(_restored, step.restored),
            damaged=map(str, step.damaged),
            done=step.done,
            held=map(str, step.held),
            gone=map(str, step.gone),
        )

    async def SetLock(self, request: protection_pb2.SetLockRequest, context: Context) -> protection_pb2.SetLockResponse:
        caller = require_peer(context, *_CALLERS)
        bucket, tenant = _which(request.bucket_id, request.tenant_id)
        before = await holding.set_lock(self._db, bucket, tenant, request.days, shorten=request.shorten)
        self._log.info("object lock set", bucket=str(bucket), days=request.days, before=before, by=str(caller))
        return protection_pb2.SetLockResponse(days_before=before)

    async def Release(self, request: protection_pb2.ReleaseRequest, context: Context) -> protection_pb2.ReleaseResponse:
        caller = require_peer(context, *_CALLERS)
        bucket, tenant = _which(request.bucket_id, request.tenant_id)
        was_braked = await holding.release(self._db, bucket, tenant)
        self._log.info("brake on mass removal released", bucket=str(bucket), held=was_braked, by=str(caller))
        return protection_pb2.ReleaseResponse(was_braked=was_braked)


def _which(bucket: str, tenant: str) -> tuple[UUID, UUID | None]:
    return uuid_of(bucket, "bucket_id"), optional_uuid_of(tenant, "tenant_id")


def _names(texts: Iterable[str]) -> list[ObjectName]:
    names = [name_of(text) for text in texts]
    if len(names) > MAX_NAMES:
        raise InvalidArgument(detail=f"names may have {MAX_NAMES}, and has {len(names)}.")
    return names


def _after(page: Page) -> tuple[int, int, int]:
    if not page.after:
        return 0, 0, 0
    rank, seq, key = page.after
    if not (rank.isdecimal() and seq.isdecimal() and key.isdecimal()):
        raise InvalidArgument(detail="page_token is not one that this list gave.")
    return int(rank), int(seq), int(key)


def _entry(row: Condemned) -> protection_pb2.BasketEntry:
    return protection_pb2.BasketEntry(
        name=str(row.name),
        size=row.size,
        removed=timestamp_of(row.removed),
        session_id=str(row.session_id or ""),
        device_id=str(row.device_id or ""),
        purpose=row.purpose or "",
        kept_until=timestamp_of(row.kept_until),
    )


def _restored(row: Candidate) -> protection_pb2.BasketEntry:
    return protection_pb2.BasketEntry(name=str(row.name), size=row.size)


def _sums(sums: Iterable[Sum], fate: str) -> list[protection_pb2.BasketSum]:
    return [
        protection_pb2.BasketSum(kind=one.kind, objects=one.objects, bytes=one.bytes)
        for one in sums
        if one.fate == fate
    ]


def _protection(row: Protected) -> protection_pb2.Protection:
    return protection_pb2.Protection(
        tenant_id=str(row.tenant_id),
        user_id=str(row.user_id),
        lock_days=row.lock_days,
        braked=optional_timestamp_of(row.braked),
        reaped=optional_timestamp_of(row.reaped),
    )
