"""Whose buckets are, as the auth role says."""

from collections.abc import Sequence
from uuid import UUID

import grpc
from oort.auth.v1 import owners_pb2, owners_pb2_grpc

from services.common.errors import Unavailable
from services.common.rpc import call
from services.storage.store.buckets import NewBucket

_SECONDS = 30.0


class Owners:
    """Asks auth by a channel to its internal listener; None where the node was told of no auth."""

    def __init__(self, auth: grpc.aio.Channel | None, cluster: str) -> None:
        self._stub = owners_pb2_grpc.OwnerServiceStub(auth) if auth is not None else None
        self._cluster = cluster

    async def of(self, buckets: Sequence[UUID]) -> list[NewBucket]:
        """Those of up to 1,000 buckets that auth knows, with what they are made with. Raises Unavailable."""
        if self._stub is None:
            raise Unavailable(what="The auth server, which OORT_AUTH_SERVER does not name,")
        request = owners_pb2.GetOwnersRequest(cluster=self._cluster, bucket_ids=map(str, buckets))
        try:
            answer = await call(self._stub.GetOwners, request, seconds=_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise Unavailable(what="The auth server") from error
        return [
            NewBucket(
                UUID(owner.bucket_id),
                UUID(owner.tenant_id),
                UUID(owner.user_id),
                owner.copies,
                owner.ack_copies,
                owner.quota_bytes,
            )
            for owner in answer.owners
        ]
