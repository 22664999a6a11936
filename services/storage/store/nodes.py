"""Rows of the cluster's nodes. Whether one lives is judged by the database's clock alone."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from services.common.database import Unit


@dataclass(frozen=True, slots=True)
class NodeDisk:
    """A disk or store of a node: its folder or address, and what it can still take. `id` is empty until it is known.

    A disk that hangs has not answered for `silent_seconds`.
    """

    id: str
    kind: str
    place: str
    free_bytes: int
    there: bool
    silent_seconds: int = 0


@dataclass(frozen=True, slots=True)
class Node:
    """One storage node; endpoints are host:port, `free_bytes` that of its largest disk, `rest_endpoint` may be empty.

    `reconciled`: since its start it has compared its disks with the catalogue. `buckets` is how many it is a home of,
    `former_buckets` of how many it was one and has still to remove its files; `bytes` is what its buckets hold.
    `state`: serving, draining, removed or lost. `waits`: why buckets cannot leave it, with their number. `disks` are
    those of its last heartbeat.
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
    bytes: int
    waits: list[str]
    disks: list[NodeDisk]

    @property
    def is_empty(self) -> bool:
        return not self.buckets and not self.former_buckets


TURN = "its turn has not come yet"
# The first migration whose nodes change the homes of a bucket by the same rules as this one's: those of the one before
# would have a home leave that has just joined for one that a bucket has outgrown, for ever, and one in whose folder
# files wait to be adopted; nor do they keep what these may need.
HOMES_CHANGE = 14
# One that is silent may only be slow, and enter a put when it goes on; one that has said that it goes still ends its
# calls. Only after so long nothing of it is awaited.
_OUTDATED = f"""
catalogue < {HOMES_CHANGE} and (last_seen > now() - make_interval(secs => %(silent)s)
    or state <> 'lost' and (last_seen > now() - interval '1 hour' or last_seen = to_timestamp(0)))
"""
# When it said so it has not said.
_DATE_GOING = f"""
update nodes set last_seen = now() - make_interval(secs => %s)
where catalogue < {HOMES_CHANGE} and last_seen = to_timestamp(0)
"""  # noqa: S608 - constants
_HEARTBEAT = """
insert into nodes
    (id, public_endpoint, internal_endpoint, rest_endpoint, free_bytes, reconciled, catalogue, disks, last_seen)
values (%s, %s, %s, %s, %s, %s, %s, %s, now())
on conflict (id) do update set public_endpoint = excluded.public_endpoint,
    internal_endpoint = excluded.internal_endpoint, rest_endpoint = excluded.rest_endpoint,
    free_bytes = excluded.free_bytes,
    reconciled = excluded.reconciled, catalogue = excluded.catalogue, disks = excluded.disks, last_seen = now()
"""
# Why a home `h` of a bucket `b` on a node that is drained does not leave.
_WHY = """
case when outdated.ids is not null
         then 'upgrade all nodes first, for an earlier version ran less than an hour ago on ' || outdated.ids
     when b.braked = b.created
         then 'a rescan has not been through all nodes: `oort node rescan`, or `oort bucket release`'
     when h.waits = '' then %(turn)s
     else h.waits end
"""
_LIST = f"""
with outdated as (select string_agg(id, ', ' order by id) as ids from nodes where {_OUTDATED})
select id, public_endpoint, internal_endpoint, free_bytes, last_seen,
       last_seen > now() - make_interval(secs => %(silent)s) as live, reconciled,
       held.buckets, held.bytes, rest_endpoint, state,
       (select count(*) from clearings c where c.node_id = nodes.id) as former_buckets,
       array(select count(*) || ' of its buckets: ' || why from (
           select {_WHY} as why from homes h join buckets b on b.id = h.bucket_id
           where h.node_id = nodes.id and nodes.state <> 'serving') as waiting group by why order by why) as waits,
       disks
from nodes cross join outdated cross join lateral (
    select count(*) as buckets, coalesce(sum(b.bytes), 0)::bigint as bytes
    from homes h join buckets b on b.id = h.bucket_id where h.node_id = nodes.id) as held
order by id
"""  # noqa: S608 - constants
_NOTE_SILENT_DISKS = """
update nodes set disks = (
    select jsonb_agg(
        disk || jsonb_build_object('silent_seconds', coalesce((%s::jsonb ->> (disk ->> 'id'))::int, 0)) order by number)
    from jsonb_array_elements(disks) with ordinality as told (disk, number))
where id = %s and disks <> '[]'
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
    catalogue: int,
    rest_endpoint: str = "",
    disks: Sequence[NodeDisk] = (),
) -> None:
    """`catalogue` is the number of the last migration that the node's version knows."""
    told = Jsonb([asdict(disk) for disk in disks])
    await unit.execute(
        _HEARTBEAT, (node, public_endpoint, internal_endpoint, rest_endpoint, free_bytes, reconciled, catalogue, told)
    )


async def note_silent_disks(unit: Unit, node: str, silent: Mapping[str, int]) -> None:
    """For how many seconds disks of the node have not answered, by id. It is no heartbeat."""
    await unit.execute(_NOTE_SILENT_DISKS, (Jsonb(dict(silent)), node))


async def silence(unit: Unit, node: str) -> None:
    """Say that the node is going: no put waits for it any more."""
    await unit.execute("update nodes set last_seen = to_timestamp(0) where id = %s", (node,))


async def all_nodes(unit: Unit, silent_seconds: float) -> list[Node]:
    """As a worker, who sees the homes of all tenants."""
    async with unit.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_LIST, {"silent": silent_seconds, "turn": TURN})
        return [Node(**row | {"disks": [_disk(told) for told in row["disks"]]}) for row in await cursor.fetchall()]


def _disk(told: Mapping[str, Any]) -> NodeDisk:
    """A node of a later version may tell more of it, one of an earlier version less."""
    known = NodeDisk(told["id"], told["kind"], told["place"], told["free_bytes"], told["there"])
    return replace(known, silent_seconds=told.get("silent_seconds", 0))


async def count_silent(unit: Unit, silent_seconds: float) -> int:
    """Nodes that were not removed, and have not said for so long that they live."""
    cursor = await unit.execute(
        "select count(*) from nodes where state in ('serving', 'draining')"
        " and last_seen <= now() - make_interval(secs => %s)",
        (silent_seconds,),
    )
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def outdated(unit: Unit, silent_seconds: float) -> list[str]:
    """Nodes of a version that changes the homes of a bucket by other rules, or never, and that run, or may go on."""
    cursor = await unit.execute(f"select id from nodes where {_OUTDATED} order by id", {"silent": silent_seconds})  # noqa: S608 - constants
    return [str(row[0]) for row in await cursor.fetchall()]


async def date_going(unit: Unit, silent_seconds: float) -> None:
    """From when it is seen first that a node of such a version has said that it goes, it counts as silent."""
    await unit.execute(_DATE_GOING, (silent_seconds,))


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
