"""Rows of the cluster's nodes. Whether one lives is judged by the database's clock alone."""

from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from services.common.database import Unit


@dataclass(frozen=True, slots=True)
class Node:
    """One storage node; endpoints are host:port, `free_bytes` that of its largest disk, `rest_endpoint` may be empty.

    `reconciled`: since its start it has compared its disks with the catalogue. `buckets` is how many it is a home of,
    `former_buckets` of how many it was one and has still to remove its files. `state`: serving, draining, removed
    or lost. `waits`: why buckets cannot leave it, with their number.
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
    state: str
    former_buckets: int
    waits: list[str]

    @property
    def is_empty(self) -> bool:
        return not self.buckets and not self.former_buckets


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
       (select count(*) from homes h where h.node_id = nodes.id) as buckets, rest_endpoint, state,
       (select count(*) from clearings c where c.node_id = nodes.id) as former_buckets,
       array(select count(*) || ' of its buckets: ' || h.waits from homes h
             where h.node_id = nodes.id and h.waits <> '' group by h.waits order by h.waits) as waits
from nodes order by id
"""
_ROOMIEST = """
select id from nodes where state = 'serving' and last_seen > now() - make_interval(secs => %s)
order by free_bytes desc, id limit %s
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


async def backlog(unit: Unit) -> dict[str, tuple[int, int]]:
    """Of the nodes that lack copies, how many these are and their bytes. Takes a look at all that are missing."""
    cursor = await unit.execute(
        "select m.node_id, count(*), sum(o.size)::bigint from missing_copies m join objects o on o.id = m.object_id"
        " where o.state <> 'deleting' group by m.node_id"
    )
    return {str(row[0]): (int(row[1]), int(row[2])) for row in await cursor.fetchall()}


async def roomiest(unit: Unit, count: int, silent_seconds: float) -> list[str]:
    """Up to `count` live nodes that take buckets, those with the most free space first."""
    cursor = await unit.execute(_ROOMIEST, (silent_seconds, count))
    return [str(row[0]) for row in await cursor.fetchall()]


async def lock_states(unit: Unit) -> None:
    """Let nobody else change the state of a node until the transaction ends. No heartbeat waits for that."""
    await unit.execute("select pg_advisory_xact_lock(hashtext('states of storage nodes'))")


async def set_state(unit: Unit, node: str, state: str) -> None:
    await unit.execute("update nodes set state = %s where id = %s", (state, node))


async def most_copies(unit: Unit, node: str) -> tuple[int, int]:
    """The greatest number of copies that a bucket on the node is to have, and how many buckets have as many."""
    cursor = await unit.execute(
        "select b.copies, count(*) from homes h join buckets b on b.id = h.bucket_id where h.node_id = %s"
        " group by b.copies order by b.copies desc limit 1",
        (node,),
    )
    row = await cursor.fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


async def is_live(unit: Unit, node: str, silent_seconds: float) -> bool:
    cursor = await unit.execute(
        "select 1 from nodes where id = %s and last_seen > now() - make_interval(secs => %s)", (node, silent_seconds)
    )
    return await cursor.fetchone() is not None


async def was_read(unit: Unit, node: str) -> None:
    """The catalogue knows all that lies on the node's disks: if it was lost it is like any other removed one."""
    await unit.execute("update nodes set state = 'removed' where id = %s and state = 'lost'", (node,))
