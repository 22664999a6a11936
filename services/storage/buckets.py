"""Buckets of a cluster: made by other roles, each with its homes among the nodes that live.

Kept true: a bucket has exactly as many homes as it is to have copies; a repeated creation is the same one.
"""

from dataclasses import dataclass
from uuid import UUID

from services.common.database import Database
from services.common.errors import InvalidArgument, NotAllowed, NotFound
from services.storage.errors import TooFewCopies
from services.storage.store import buckets, copies, homes, nodes

MAX_COPIES = 16


async def create(db: Database, wanted: buckets.NewBucket, silent_seconds: float) -> buckets.Bucket:
    """Make a bucket on the live nodes with the most free space.

    Raises TooFewCopies when fewer nodes live than it is to have copies: a bucket that could never be complete is not
    begun. NotAllowed when the id belongs to another bucket.
    """
    if not 1 <= wanted.ack_copies <= wanted.copies <= MAX_COPIES:
        raise InvalidArgument(detail=f"A bucket has 1 to {MAX_COPIES} copies, and ack_copies are 1 to that many.")
    async with db.unit(wanted.tenant_id, wanted.user_id) as unit:
        if await buckets.insert(unit, wanted):
            chosen = await nodes.roomiest(unit, wanted.copies, silent_seconds)
            if len(chosen) < wanted.copies:
                raise TooFewCopies(
                    detail=f"A bucket of {wanted.copies} copies needs as many nodes, and {len(chosen)} that take one"
                    " are up. Start more nodes, or ask for fewer copies."
                )
            await buckets.insert_homes(unit, wanted, chosen)
        made = await buckets.get(unit, wanted.id)
    if made is None or (made.copies, made.ack_copies) != (wanted.copies, wanted.ack_copies):
        raise NotAllowed(detail=f"There is another bucket {wanted.id} already: choose a new id.")
    return made


async def get(db: Database, bucket: UUID) -> buckets.Bucket:
    """One bucket, of whatever tenant: for other roles. Raises NotFound."""
    async with db.worker() as unit:
        found = await buckets.get(unit, bucket)
    if found is None:
        raise NotFound(what=f"bucket {bucket}")
    return found


async def page(db: Database, after: UUID | None, limit: int) -> list[buckets.Bucket]:
    """Buckets of all tenants by id: for other roles."""
    async with db.worker() as unit:
        return await buckets.page(unit, after, limit)


@dataclass(frozen=True, slots=True)
class ClusterState:
    """The nodes, and how many copies are missing in all of the cluster."""

    nodes: list[nodes.Node]
    missing_copies: int
    short_buckets: int
    joining: bool
    backlog: dict[str, tuple[int, int]]

    @property
    def copies_complete(self) -> bool:
        """None is missing, and every node that holds buckets lives and has compared its disks with the catalogue.

        No bucket has fewer homes than it is to have copies, and of no home it is still being entered what it lacks.
        """
        is_sure = all(node.live and node.reconciled for node in self.nodes if node.buckets)
        return is_sure and not (self.missing_copies or self.short_buckets or self.joining)


async def describe(db: Database, silent_seconds: float, *, backlog: bool = False) -> ClusterState:
    """How the cluster is; `backlog`: with the copies that each node is to fetch, and their bytes.

    The nodes are read first, and the homes that are joining: after that it is entered what they lack.
    """
    async with db.worker() as unit:
        found = await nodes.all_nodes(unit, silent_seconds)
        joining = bool(await homes.joining(unit))
        missing, short = await copies.count(unit), await buckets.count_short(unit)
        return ClusterState(found, missing, short, joining, await nodes.backlog(unit) if backlog else {})
