"""What protects the vaults of a tenant, asked of the storage clusters: waste basket, object lock, brake.

Kept true: an administrator reaches the buckets of its own tenant alone, one of the installation those of all; what
takes protection away is for the latter, so that nobody who administers a tenant can undo it there.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import grpc
from oort.storage.v1 import protection_pb2, protection_pb2_grpc

from services.auth.errors import BucketRefused, StorageUnavailable
from services.auth.gate import Caller
from services.auth.storage import Storage
from services.auth.store import clusters, devices, vaults
from services.auth.users import Users
from services.common.database import Database
from services.common.errors import InvalidArgument, NotAllowed, NotFound
from services.common.messages import uuid_of
from services.common.rpc import call

# A step of a restore reads 64 MiB, maybe from another node; whoever asks auth waits for 30 seconds.
STEP_SECONDS = 25.0


@dataclass(frozen=True, slots=True)
class BasketPage:
    """Some of what a basket holds, with the names that auth knows."""

    told: protection_pb2.ListBasketResponse
    vault: str
    devices: dict[str, str]


@dataclass(frozen=True, slots=True)
class Buckets:
    db: Database
    storage: Storage
    users: Users

    async def basket(self, caller: Caller, request: protection_pb2.ListBasketRequest) -> BasketPage:
        """A page of what lies in the waste basket. Raises as `ask` does."""
        told: protection_pb2.ListBasketResponse = await self.ask(caller, request, "ListBasket")
        async with self.db.unit(UUID(told.protection.tenant_id)) as unit:
            vault = await vaults.get(unit, UUID(request.bucket_id))
            found = [await devices.get(unit, UUID(one)) for one in {entry.device_id for entry in told.entries} if one]
        names = {str(device.id): device.name for device in found if device is not None}
        return BasketPage(told, vault.name if vault else "", names)

    async def lower(self, caller: Caller, request: Any, method: str) -> Any:
        """As `ask`, of what takes protection away. Raises NotAllowed but for administrators of the installation."""
        await self.users.require_first(caller)
        return await self.ask(caller, request, method)

    async def ask(self, caller: Caller, request: Any, method: str) -> Any:
        """The answer of the cluster that has the bucket, to a request of ProtectionService about one.

        Raises NotFound, StorageUnavailable if a silent cluster may have it, and InvalidArgument, BucketRefused with
        what the cluster said.
        """
        uuid_of(request.bucket_id, "bucket_id")
        everywhere = await self._is_first(caller)
        request.tenant_id = "" if everywhere else str(caller.tenant)
        async with self.db.unit(caller.tenant) as unit:
            names = await clusters.names(unit) if everywhere else await vaults.clusters(unit)
            known = [await clusters.get(unit, name) for name in await self._that_may_have(names, request.bucket_id)]

        async def one(channel: grpc.aio.Channel) -> Any:
            stub = protection_pb2_grpc.ProtectionServiceStub(channel)
            return await call(getattr(stub, method), request, seconds=STEP_SECONDS)

        silent: StorageUnavailable | None = None
        for cluster in known:
            if cluster is None:
                continue
            try:
                return await self.storage.ask(cluster, one)
            except StorageUnavailable as error:
                silent = silent or error
            except grpc.aio.AioRpcError as error:
                _raise_unless_unknown(error)
        raise silent or NotFound(what=f"bucket {request.bucket_id}")

    async def _that_may_have(self, names: list[str], bucket: str) -> list[str]:
        """The cluster alone that has the bucket to write to, where that is known.

        One that follows it has a basket, a lock and a brake of its own, which are not the vault's while that is silent.
        """
        if len(names) == 1:
            return names
        return [name for name in names if await self.users.directory.owners(name, [UUID(bucket)])] or names

    async def _is_first(self, caller: Caller) -> bool:
        try:
            await self.users.require_first(caller)
        except NotAllowed:
            return False
        return True


def _raise_unless_unknown(error: grpc.aio.AioRpcError) -> None:
    """A cluster that has no such bucket is followed by the next one; what another refuses is said."""
    said = error.details() or ""
    if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
        raise InvalidArgument(detail=said) from error
    if error.code() is not grpc.StatusCode.NOT_FOUND:
        raise BucketRefused(detail=said) from error
