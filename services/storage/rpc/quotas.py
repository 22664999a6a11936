"""QuotaService: quotas of buckets, and those that several share. Internal listener."""

from typing import Any

import grpc
from oort.storage.v1 import quotas_pb2, quotas_pb2_grpc

from services.common.database import Database
from services.common.identity import OPERATOR, require_peer
from services.common.listeners import Served
from services.common.messages import uuid_of
from services.common.paging import page_of
from services.storage.access import quotas

Context = grpc.aio.ServicerContext[Any, Any]
_NAME = quotas_pb2.DESCRIPTOR.services_by_name["QuotaService"].full_name


class QuotasRpc(quotas_pb2_grpc.QuotaServiceServicer):
    def __init__(self, db: Database) -> None:
        self._db = db

    def served(self) -> Served:
        """The service with its handlers."""
        return Served(quotas_pb2_grpc.add_QuotaServiceServicer_to_server, self, _NAME)

    async def SetQuota(self, request: quotas_pb2.SetQuotaRequest, context: Context) -> quotas_pb2.SetQuotaResponse:
        require_peer(context, OPERATOR)
        asked = request.quota
        await quotas.set_quota(self._db, uuid_of(asked.tenant_id, "quota.tenant_id"), asked.name, asked.bytes)
        return quotas_pb2.SetQuotaResponse()

    async def ListQuotas(
        self, request: quotas_pb2.ListQuotasRequest, context: Context
    ) -> quotas_pb2.ListQuotasResponse:
        require_peer(context, OPERATOR)
        page = page_of(request, parts=2)
        after = (uuid_of(page.after[0], "page_token"), page.after[1]) if page.after else None
        found = await quotas.page(self._db, after, page.limit)
        shown, token = page.cut(found, lambda row: (str(row.tenant_id), row.name))
        rows = [
            quotas_pb2.Quota(tenant_id=str(row.tenant_id), name=row.name, bytes=row.bytes, used_bytes=row.used)
            for row in shown
        ]
        return quotas_pb2.ListQuotasResponse(quotas=rows, next_page_token=token)

    async def SetGroup(self, request: quotas_pb2.SetGroupRequest, context: Context) -> quotas_pb2.SetGroupResponse:
        require_peer(context, OPERATOR)
        await quotas.set_group(self._db, uuid_of(request.bucket_id, "bucket_id"), request.name)
        return quotas_pb2.SetGroupResponse()

    async def SetBucketQuota(
        self, request: quotas_pb2.SetBucketQuotaRequest, context: Context
    ) -> quotas_pb2.SetBucketQuotaResponse:
        require_peer(context, OPERATOR)
        before, used = await quotas.set_bucket(self._db, uuid_of(request.bucket_id, "bucket_id"), request.bytes)
        return quotas_pb2.SetBucketQuotaResponse(bytes_before=before, used_bytes=used)
