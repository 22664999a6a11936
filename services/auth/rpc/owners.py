from oort.auth.v1 import owners_pb2, owners_pb2_grpc

from services.auth.directory import Directory
from services.auth.gate import Context, Gate
from services.auth.store import vaults
from services.common.errors import InvalidArgument
from services.common.messages import uuid_of

_AT_ONCE = 1000


class OwnersRpc(owners_pb2_grpc.OwnerServiceServicer):
    def __init__(self, gate: Gate, directory: Directory) -> None:
        self._gate = gate
        self._directory = directory

    async def GetOwners(self, request: owners_pb2.GetOwnersRequest, context: Context) -> owners_pb2.GetOwnersResponse:
        await self._gate.node(context)
        if len(request.bucket_ids) > _AT_ONCE:
            raise InvalidArgument(detail=f"bucket_ids may have {_AT_ONCE} ids, and has {len(request.bucket_ids)}.")
        asked = [uuid_of(text, "bucket_ids") for text in request.bucket_ids]
        found = await self._directory.owners(request.cluster, asked)
        return owners_pb2.GetOwnersResponse(owners=map(_owner, found))


def _owner(row: vaults.Owner) -> owners_pb2.Owner:
    return owners_pb2.Owner(
        bucket_id=str(row.bucket_id),
        tenant_id=str(row.tenant_id),
        user_id=str(row.user_id),
        copies=row.copies,
        ack_copies=row.ack_copies,
        quota_bytes=row.quota_bytes,
    )
