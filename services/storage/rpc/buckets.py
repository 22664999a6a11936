"""BucketService: buckets as other roles and the operator handle them. Internal listener."""

from dataclasses import asdict
from typing import Any

import grpc
from oort.storage.v1 import buckets_pb2, buckets_pb2_grpc

from services.common.database import Database
from services.common.errors import InvalidArgument
from services.common.identity import OPERATOR, require_peer
from services.common.messages import timestamp_of, uuid_of
from services.common.paging import page_of
from services.storage import buckets
from services.storage.store.buckets import Bucket, NewBucket
from services.storage.store.nodes import Node

Context = grpc.aio.ServicerContext[Any, Any]
_MAKERS = ("auth", OPERATOR)
_READERS = ("auth", OPERATOR, "cluster", "storage")
# Quotas and sizes are 63-bit numbers in the catalogue.
_MAX_BYTES = (1 << 63) - 1


class BucketsRpc(buckets_pb2_grpc.BucketServiceServicer):
    def __init__(self, db: Database, cluster: str, silent_seconds: float) -> None:
        self._db = db
        self._cluster = cluster
        self._silent_seconds = silent_seconds

    async def CreateBucket(
        self, request: buckets_pb2.CreateBucketRequest, context: Context
    ) -> buckets_pb2.CreateBucketResponse:
        require_peer(context, *_MAKERS)
        asked = request.bucket
        if asked.quota_bytes > _MAX_BYTES:
            raise InvalidArgument(detail=f"quota_bytes is at most {_MAX_BYTES}.")
        wanted = NewBucket(
            uuid_of(asked.id, "bucket.id"),
            uuid_of(asked.tenant_id, "bucket.tenant_id"),
            uuid_of(asked.user_id, "bucket.user_id"),
            asked.copies,
            asked.ack_copies,
            asked.quota_bytes,
        )
        made = await buckets.create(self._db, wanted, self._silent_seconds)
        return buckets_pb2.CreateBucketResponse(bucket=_bucket(made))

    async def GetBucket(self, request: buckets_pb2.GetBucketRequest, context: Context) -> buckets_pb2.GetBucketResponse:
        require_peer(context, *_READERS)
        found = await buckets.get(self._db, uuid_of(request.id, "id"))
        return buckets_pb2.GetBucketResponse(bucket=_bucket(found))

    async def ListBuckets(
        self, request: buckets_pb2.ListBucketsRequest, context: Context
    ) -> buckets_pb2.ListBucketsResponse:
        require_peer(context, *_READERS)
        page = page_of(request)
        after = uuid_of(page.after[0], "page_token") if page.after else None
        shown, token = page.cut(await buckets.page(self._db, after, page.limit), lambda row: (str(row.id),))
        return buckets_pb2.ListBucketsResponse(buckets=map(_bucket, shown), next_page_token=token)

    async def DescribeCluster(
        self,
        request: buckets_pb2.DescribeClusterRequest,
        context: Context,
    ) -> buckets_pb2.DescribeClusterResponse:
        require_peer(context, *_READERS)
        found = await buckets.describe(self._db, self._silent_seconds, backlog=request.backlog)
        return buckets_pb2.DescribeClusterResponse(
            name=self._cluster,
            nodes=[node_message(node, *found.backlog.get(node.id, (0, 0))) for node in found.nodes],
            missing_copies=found.missing_copies,
            copies_complete=found.copies_complete,
            short_buckets=found.short_buckets,
        )


def _bucket(row: Bucket) -> buckets_pb2.Bucket:
    return buckets_pb2.Bucket(
        id=str(row.id),
        tenant_id=str(row.tenant_id),
        user_id=str(row.user_id),
        copies=row.copies,
        ack_copies=row.ack_copies,
        quota_bytes=row.quota_bytes,
        home_nodes=row.home_nodes,
        objects=row.objects,
        bytes=row.bytes,
        missing_copies=row.missing_copies,
        lost_objects=row.lost_objects,
        created=timestamp_of(row.created),
        quota_group=row.quota_group or "",
    )


def node_message(row: Node, missing_copies: int = 0, missing_bytes: int = 0) -> buckets_pb2.Node:
    """A node as other roles and the operator see it, with what it is to fetch."""
    return buckets_pb2.Node(
        id=row.id,
        public_endpoint=row.public_endpoint,
        internal_endpoint=row.internal_endpoint,
        last_seen=timestamp_of(row.last_seen) if row.last_seen else None,
        live=row.live,
        free_bytes=row.free_bytes,
        reconciled=row.reconciled,
        buckets=row.buckets,
        rest_endpoint=row.rest_endpoint,
        state=row.state,
        former_buckets=row.former_buckets,
        missing_copies=missing_copies,
        missing_bytes=missing_bytes,
        waits=row.waits,
        bytes=row.bytes,
        disks=[buckets_pb2.Disk(**asdict(disk)) for disk in row.disks],
    )
