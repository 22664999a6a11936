"""What tests say of nodes and their orders while buckets move."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from oort.storage.v1 import buckets_pb2, nodes_pb2, nodes_pb2_grpc

from domain.names import ObjectName
from domain.tokens import VaultClaims
from services.common.database import Database
from services.storage.tests.cluster import SILENT_SECONDS, Cluster
from services.storage.upkeep.placement import Placement

QUICK = 0.05
NEVER = 3600


async def a_bucket_on(cluster: Cluster, *nodes: str) -> VaultClaims:
    """With a copy on each of these."""
    await cluster.change("update nodes set state = 'draining' where id <> all(%s)", list(nodes))
    claims = await cluster.bucket(nodes[0], copies=len(nodes))
    await cluster.change("update nodes set state = 'serving'")
    return claims


def homes_of(cluster: Cluster, claims: VaultClaims) -> set[str]:
    return {row[0] for row in cluster.sql("select node_id from homes where bucket_id = %s", claims.bucket)}


async def order(cluster: Cluster, through: str, what: str, node: str, **options: bool) -> Any:
    async with cluster.internal(through) as channel:
        request = getattr(nodes_pb2, f"{what}Request")(node_id=node, **options)
        return await getattr(nodes_pb2_grpc.NodeServiceStub(channel), what)(request)


async def refused(cluster: Cluster, through: str, what: str, node: str, **options: bool) -> str:
    """What an order is refused with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await order(cluster, through, what, node, **options)
    return str(caught.value.details())


async def seen(cluster: Cluster, through: str, node: str) -> buckets_pb2.Node:
    return next(one for one in (await cluster.describe(through)).nodes if one.id == node)


async def until(happens: Callable[[], Awaitable[object]]) -> None:
    """Wait for what the nodes do by themselves."""
    async with asyncio.timeout(300):
        while not await happens():  # noqa: ASYNC110 - time alone changes it
            await asyncio.sleep(QUICK)


async def until_none(cluster: Cluster, query: str) -> None:
    """Wait until the catalogue has no such row."""

    async def happens() -> bool:
        return not cluster.sql(query)

    await until(happens)


async def is_empty(cluster: Cluster, through: str, node: str) -> None:
    """Wait until a node holds no bucket, nor a file of one."""

    async def happens() -> bool:
        found = await seen(cluster, through, node)
        return not found.buckets and not found.former_buckets

    await until(happens)


async def until_homes(cluster: Cluster, claims: VaultClaims, *nodes: str) -> None:
    async def happens() -> bool:
        return homes_of(cluster, claims) == set(nodes)

    await until(happens)


async def until_it_waits(cluster: Cluster, through: str, node: str, *why: str) -> None:
    """Wait until a node says just that of the buckets that cannot leave it."""

    async def happens() -> bool:
        return list((await seen(cluster, through, node)).waits) == list(why)

    await until(happens)


def quick(cluster: Cluster, *names: str, **others: Any) -> None:
    for name in names:
        cluster.node(name, **{"placement_poll_seconds": QUICK, "reap_seconds": 0.2, **others})


def by_hand(cluster: Cluster, *names: str) -> None:
    """Nodes that take no step of a placement after their first one."""
    quick(cluster, *names, placement_poll_seconds=NEVER)


def placement(db: Database, node: str) -> Placement:
    """That of a node whose disk is never looked at."""

    async def cannot_say(_bucket: object) -> int | None:
        return None

    async def has_none(_bucket: object) -> bool:
        return False

    return Placement(node, db, compare=cannot_say, waits_for_entry=has_none, silent_seconds=SILENT_SECONDS, fills=True)


def remove_file(cluster: Cluster, node: str, claims: VaultClaims, name: ObjectName) -> None:
    (cluster.bucket_folder(node, claims.bucket) / name.path).unlink()
