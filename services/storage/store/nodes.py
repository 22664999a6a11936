"""Rows of the cluster's nodes. Whether one lives is judged by the database's clock alone."""

from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from services.common.database import Unit


@dataclass(frozen=True, slots=True)
class Node:
    """One storage node; endpoints are host:port, `free_bytes` that of its largest disk, `rest_endpoint` may be empty.

    `reconciled`: since its start it has compared its disks with the catalogue. `buckets` is how many it is a home of.
    """

    id: str
    public_endpoint: str
    internal_endpoint: str
    free_bytes: int
    last_seen: datetime
    live: bool
    reconciled: bool
    buckets: int
    rest_endpoint: str


_HEARTBEAT = """
insert into nodes (id, public_endpoint, internal_endpoint, rest_endpoint, free_bytes, reconciled, last_seen)
values (%s, %s, %s, %s, %s, %s, now())
on conflict (id) do update set public_endpoint = excluded.public_endpoint,
    internal_endpoint = excluded.internal_endpoint, rest_endpoint = excluded.rest_endpoint,
    free_bytes = excluded.free_bytes,
    reconciled = excluded.reconciled, last_seen = now()
"""
_LIST = """
select id, public_endpoint, internal_endpoint, free_bytes, last_seen,
       last_seen > now() - make_interval(secs => %s) as live, reconciled,
       (select count(*) from homes h where h.node_id = nodes.id) as buckets, rest_endpoint
from nodes order by id
"""
_ROOMIEST = """
select id from nodes where last_seen > now() - make_interval(secs => %s) order by free_bytes desc, id limit %s
"""


async def heartbeat(
    unit: Unit,
    node: str,
    *,
    public_endpoint: str,
    internal_endpoint: str,
    free_bytes: int,
    reconciled: bool,
    rest_endpoint: str = "",
) -> None:
    await unit.execute(_HEARTBEAT, (node, public_endpoint, internal_endpoint, rest_endpoint, free_bytes, reconciled))


async def silence(unit: Unit, node: str) -> None:
    """Say that the node is going: no put waits for it any more."""
    await unit.execute("update nodes set last_seen = to_timestamp(0) where id = %s", (node,))


async def all_nodes(unit: Unit, silent_seconds: float) -> list[Node]:
    """As a worker, who sees the homes of all tenants."""
    async with unit.cursor(row_factory=class_row(Node)) as cursor:
        await cursor.execute(_LIST, (silent_seconds,))
        return await cursor.fetchall()


async def roomiest(unit: Unit, count: int, silent_seconds: float) -> list[str]:
    """Up to `count` live nodes, those with the most free space first."""
    cursor = await unit.execute(_ROOMIEST, (silent_seconds, count))
    return [str(row[0]) for row in await cursor.fetchall()]
