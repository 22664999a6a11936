"""ScrubService: scrubs that an operator asks for. Internal listener."""

from typing import Any

import grpc
from oort.storage.v1 import scrubs_pb2, scrubs_pb2_grpc

from services.common.database import Database
from services.common.errors import NotFound
from services.common.identity import OPERATOR, require_peer
from services.common.messages import optional_timestamp_of, optional_uuid_of, timestamp_of, uuid_of
from services.common.paging import page_of
from services.storage.store import buckets, scrubs

Context = grpc.aio.ServicerContext[Any, Any]


class ScrubsRpc(scrubs_pb2_grpc.ScrubServiceServicer):
    def __init__(self, db: Database) -> None:
        self._db = db

    async def StartScrub(
        self, request: scrubs_pb2.StartScrubRequest, context: Context
    ) -> scrubs_pb2.StartScrubResponse:
        require_peer(context, OPERATOR)
        bucket = optional_uuid_of(request.bucket_id, "bucket_id")
        async with self._db.worker() as unit:
            if bucket is not None and await buckets.get(unit, bucket) is None:
                raise NotFound(what=f"bucket {bucket}")
            return scrubs_pb2.StartScrubResponse(homes=await scrubs.ask(unit, bucket))

    async def ListScrubs(
        self, request: scrubs_pb2.ListScrubsRequest, context: Context
    ) -> scrubs_pb2.ListScrubsResponse:
        require_peer(context, OPERATOR)
        bucket = optional_uuid_of(request.bucket_id, "bucket_id")
        page = page_of(request, parts=2)
        after = (uuid_of(page.after[0], "page_token"), page.after[1]) if page.after else None
        async with self._db.worker() as unit:
            found = await scrubs.page(unit, bucket, after, page.limit)
        shown, token = page.cut(found, lambda row: (str(row.bucket_id), row.node_id))
        return scrubs_pb2.ListScrubsResponse(scrubs=map(_scrub, shown), next_page_token=token)


def _scrub(row: scrubs.Scrub) -> scrubs_pb2.Scrub:
    return scrubs_pb2.Scrub(
        bucket_id=str(row.bucket_id),
        node_id=row.node_id,
        asked=timestamp_of(row.asked),
        done=optional_timestamp_of(row.done),
        copies=row.copies,
        bytes=row.bytes,
        damaged=row.damaged,
        left=row.left,
    )
