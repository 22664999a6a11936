"""Two clusters of one installation, and what an operator orders of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from uuid import UUID

from oort.storage.v1 import regions_pb2, regions_pb2_grpc

from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose, Scope
from domain.tokens import VaultClaims
from services.storage.tests.cluster import Client, Cluster

PATIENCE_SECONDS = 300
KINDS = (ObjectKind.KEY, ObjectKind.PACK, ObjectKind.INDEX, ObjectKind.SNAPSHOT)


@dataclass
class Regions:
    """The cluster `here` has node a, and `there`, which follows it, node x."""

    here: Cluster
    there: Cluster

    @asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        """Both of them."""
        async with self.here.up("a"), self.there.up("x"):
            yield

    async def follow(
        self, claims: VaultClaims, *, removals: bool = True, existing: bool = False, by: Cluster | None = None
    ) -> regions_pb2.Following:
        """By `there`, unless the other way round."""
        follower = by or self.there
        source = self.here if follower is self.there else self.there
        request = regions_pb2.FollowRequest(
            bucket_id=str(claims.bucket),
            endpoints=[settings.internal_endpoint for settings in source.settings.values()],
            removals=removals,
            existing=existing,
        )
        async with follower.internal(next(iter(follower.settings))) as channel:
            return (await regions_pb2_grpc.RegionServiceStub(channel).Follow(request)).following

    async def promote(
        self, bucket: UUID, *, give_up: bool = False, devices_stay: bool = False
    ) -> regions_pb2.Following:
        async with self.there.internal("x") as channel:
            request = regions_pb2.PromoteRequest(bucket_id=str(bucket), give_up=give_up, devices_stay=devices_stay)
            return (await regions_pb2_grpc.RegionServiceStub(channel).Promote(request)).following

    async def hand_over(self, bucket: UUID, to: str = "there", *, give_up: bool = False) -> int:
        """With no name: take it back."""
        async with self.here.internal("a") as channel:
            request = regions_pb2.HandOverRequest(bucket_id=str(bucket), cluster=to, give_up=give_up)
            return int((await regions_pb2_grpc.RegionServiceStub(channel).HandOver(request)).seq)

    async def status(self, bucket: UUID, of: Cluster | None = None) -> regions_pb2.ListFollowingResponse:
        cluster = of or self.there
        async with cluster.internal(next(iter(cluster.settings))) as channel:
            request = regions_pb2.ListFollowingRequest(bucket_id=str(bucket))
            return await regions_pb2_grpc.RegionServiceStub(channel).ListFollowing(request)

    async def following(self, bucket: UUID) -> regions_pb2.Following:
        return (await self.status(bucket)).following[0]

    async def wait(self, bucket: UUID, is_so: Callable[[regions_pb2.Following], bool]) -> regions_pb2.Following:
        """Until that holds of the following."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not is_so(found := await self.following(bucket)):  # noqa: ASYNC110 - it is a node that finds out
                await asyncio.sleep(0.05)
        return found

    async def caught_up(self, claims: VaultClaims) -> None:
        """Until the follower has what the bucket has that it follows, and no more."""

        async def is_same() -> bool:
            return contents(self.here, claims.bucket) == contents(self.there, claims.bucket)

        await until(is_same)

    async def complete(self, claims: VaultClaims) -> None:
        """Have a bucket followed, until the follower has all of it."""
        await self.follow(claims)
        await self.caught_up(claims)
        await self.wait(claims.bucket, lambda one: one.complete)

    async def look_now(self, bucket: UUID) -> None:
        """Have all of it compared at the next look, and that at once."""
        await self.there.change("update follows set inventory_due = now(), due = now() where bucket_id = %s", bucket)


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await is_so():  # noqa: ASYNC110 - it is a node that finds out
            await asyncio.sleep(0.05)


def contents(cluster: Cluster, bucket: UUID) -> set[tuple[str, bytes]]:
    """What is live in a bucket, by kind and SHA-256."""
    return {
        (kind, bytes(digest))
        for kind, digest in cluster.sql(
            "select kind, sha256 from objects where bucket_id = %s and state = 'live'", bucket
        )
    }


def full(claims: VaultClaims, cluster: str = "here") -> VaultClaims:
    """The same device, which may delete, with a token for a cluster."""
    return replace(claims, cluster=cluster, scopes=frozenset((Scope.READ, Scope.APPEND, Scope.DELETE)))


async def back_up(client: Client, *packs: bytes, snapshot: bytes) -> tuple[list[ObjectName], ObjectName, ObjectName]:
    """A backup as a whole: its packs, its index file, its snapshot."""
    session = await client.open()
    await client.initialise(session)
    names = [await client.put_pack(session, body) for body in packs]
    index = await client.put_index(session, names)
    committed = await client.commit(session, snapshot)
    await client.end(session)
    return names, index, committed


async def forget(client: Client, snapshot: ObjectName, index: ObjectName, packs: list[ObjectName]) -> None:
    """Retention of a snapshot that shares nothing with others."""
    session = await client.open(Purpose.RETENTION)
    await client.remove(session, snapshot)
    await client.mark(session)
    assert await client.condemn(session, index) == {}
    assert await client.condemn(session, *packs) == {}
    await client.end(session)
