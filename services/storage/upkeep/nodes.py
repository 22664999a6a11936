"""What an operator orders of nodes: to be drained, taken back, removed.

Kept true:
- orders are given one after the other, and one that cannot come to its end, for too
  few nodes would be left, is refused before anything is changed;
- a node is removed only when it holds nothing, or is gone for good; what had its only copy there is given up only when
  the operator says so, having been told how much that is.
What has been ordered is carried out in the background, by every node (placement.py, clearing.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from domain.wording import plural
from services.common.database import Database, Unit
from services.common.errors import InvalidArgument, NotFound
from services.storage.errors import NodeNeeded
from services.storage.store import buckets, copies, homes, nodes, reaping
from services.storage.store.homes import OnlyCopy
from services.storage.store.nodes import Node
from services.storage.upkeep.placement import NO_ROOM, join

NAMED_AT_MOST = 1000
_BUCKETS_AT_ONCE = 1000
_NAMED = 3  # of what would be lost, in the refusal
_log = structlog.get_logger("storage")


@dataclass(slots=True)
class Removal:
    """What a removal came to: `given_up` objects, the first of them by name. While it waits it is not `removed`."""

    removed: bool
    given_up: int = 0
    names: list[OnlyCopy] = field(default_factory=list)


async def drain(db: Database, node: str, silent_seconds: float) -> Node:
    """Have a node give all its buckets away. The same again changes nothing.

    Raises NotFound, and NodeNeeded when fewer nodes would be left than a bucket of it is to have copies.
    """
    async with db.worker() as unit:
        found, others = await _locked(unit, node, silent_seconds)
        if found.state == "serving":
            left = sum(other.state == "serving" and other.live for other in others)
            wanted, count = await nodes.most_copies(unit, node)
            if left < max(1, wanted):
                why = (
                    f"it has {plural(count, 'bucket')} of {plural(wanted, 'copy', 'copies')}"
                    if wanted
                    else "buckets need a node"
                )
                raise NodeNeeded(
                    detail=f"Node {node} cannot be drained: {why}, and it would leave {plural(left, 'node')} up"
                    " to take buckets. Add a node, or take one back with `oort node undrain`."
                )
            await nodes.set_state(unit, node, "draining")
            _log.info("a node is drained", drained=node)
    return await get(db, node, silent_seconds)


async def undrain(db: Database, node: str, silent_seconds: float) -> Node:
    """Have a node take buckets again, and keep those that it has.

    Raises NotFound, InvalidArgument for one that was lost: its disks hold what was removed for good meanwhile.
    """
    async with db.worker() as unit:
        found, _ = await _locked(unit, node, silent_seconds)
        if found.state == "lost":
            raise InvalidArgument(
                detail=f"Node {node} was removed as lost, and may still have what was removed meanwhile: start it, and"
                f" have its disks read by `oort node rescan {node}` first."
            )
        await nodes.set_state(unit, node, "serving")
    _log.info("a node is taken back", node_id=node)
    return await get(db, node, silent_seconds)


async def remove(db: Database, node: str, silent_seconds: float, *, lost: bool, give_up: bool) -> Removal:
    """Remove a node that holds nothing, or one that is `lost`: gone for good, with its copies.

    With `give_up` objects do not hold up the removal of a lost one that no other node has whole. Raises NotFound,
    InvalidArgument when it is not drained, not yet empty or not down, NodeNeeded.
    """
    if give_up and not lost:
        raise InvalidArgument(detail="Nothing is given up of a node that is not lost: --give-up goes with --lost.")
    async with db.worker() as unit:
        found, _ = await _locked(unit, node, silent_seconds)
        if lost and found.live:
            raise InvalidArgument(detail=f"Node {node} is up: `oort node drain {node}`, or stop it first.")
        if not lost and found.is_empty and found.state != "serving":
            if found.state == "draining":
                await nodes.set_state(unit, node, "removed")
            return Removal(removed=True)
        if not lost:
            raise _not_yet(found)
        others = [other for other in await nodes.outdated(unit, silent_seconds) if other != node]
        if others:
            raise InvalidArgument(
                detail="Upgrade all nodes first, for an earlier version ran less than an hour ago on"
                f" {', '.join(others)}."
            )
        only = Removal(False, *(await homes.only_copies(unit, node, None, NAMED_AT_MOST, silent_seconds)))
        _require_given_up(node, only, give_up=give_up)
        await nodes.set_state(unit, node, "lost")
    dropped = Removal(removed=True)
    await _drop_all(db, node, silent_seconds, dropped, give_up=give_up)
    _log.warning("a node is removed that was lost", lost=node, given_up=dropped.given_up)
    return dropped


def _not_yet(found: Node) -> InvalidArgument:
    """Why a node that is not empty cannot be removed."""
    if found.state == "serving":
        return InvalidArgument(
            detail=f"Node {found.id} is not drained: `oort node drain {found.id}`, or --lost if it is gone for good."
        )
    why = "; ".join(found.waits) or "it is being drained"
    return InvalidArgument(
        detail=f"Node {found.id} still holds {plural(found.buckets, 'bucket')}, and files of others that have left it"
        f": {found.former_buckets} ({why}). Wait until `oort node list` says 0 of both."
    )


async def _drop_all(db: Database, node: str, silent_seconds: float, dropped: Removal, *, give_up: bool) -> None:
    """Bucket by bucket, so that a removal that was broken off goes on. What is given up is counted, and logged."""
    more = True
    while more:
        async with db.worker() as unit:
            some = await copies.buckets_of(unit, node, None, _BUCKETS_AT_ONCE)
            rooms = await homes.rooms(unit, silent_seconds) if some else {}
        more = bool(some)
        for bucket in some:
            only = None
            while only is None:
                only = await _drop(db, node, bucket, rooms, silent_seconds, give_up=give_up)
            dropped.given_up += only.given_up
            dropped.names += only.names[: NAMED_AT_MOST - len(dropped.names)]
            for one in only.names:
                _log.warning("an object is given up", lost=node, bucket=str(bucket), name=str(one.name))


async def _drop(
    db: Database, node: str, bucket: UUID, rooms: dict[str, int], silent_seconds: float, *, give_up: bool
) -> Removal | None:
    """Drop the home of a bucket on a lost node. None if that comes after another step, which was taken."""
    async with db.worker() as unit:
        state = await buckets.lock(unit, bucket)
        if state is None:
            return Removal(removed=True)
        # Someone has to be known to lack what is given up, so that the next backup sends it again.
        if await homes.enter_page(unit, bucket):
            return None
        if await nodes.is_live(unit, node, silent_seconds):
            raise InvalidArgument(detail=f"Node {node} is up again: what it still has is not dropped.")
        only = Removal(True, *(await homes.only_copies(unit, node, bucket, NAMED_AT_MOST, silent_seconds)))
        _require_given_up(node, only, give_up=give_up)
        if await homes.home_nodes(unit, bucket) == {node}:
            if await join(unit, state, {node}, rooms) is None:
                raise NodeNeeded(detail=f"Bucket {bucket} lies on node {node} alone, and {NO_ROOM}. Add a node first.")
            return None
        await reaping.removed(unit, bucket, node, await homes.removing(unit, bucket, node))
        await homes.drop(unit, bucket, node)
        return only


def _require_given_up(node: str, only: Removal, *, give_up: bool) -> None:
    if only.given_up and not give_up:
        named = ", ".join(f"{one.name} of bucket {one.bucket_id}" for one in only.names[:_NAMED])
        if only.given_up > _NAMED:
            named += ", ..."
        raise InvalidArgument(
            detail=f"Only node {node} has a whole copy of {plural(only.given_up, 'object')} ({named}), as far as"
            " nodes are up and have compared their disks. Bring it or others back, or accept their loss with --give-up."
        )


async def get(db: Database, node: str, silent_seconds: float) -> Node:
    """Raises NotFound."""
    async with db.worker() as unit:
        return _one(await nodes.all_nodes(unit, silent_seconds), node)


async def _locked(unit: Unit, node: str, silent_seconds: float) -> tuple[Node, list[Node]]:
    """A node and the other ones, whose states nobody else changes now. Raises NotFound."""
    await nodes.lock_states(unit)
    found = await nodes.all_nodes(unit, silent_seconds)
    return _one(found, node), [other for other in found if other.id != node]


def _one(found: Sequence[Node], node: str) -> Node:
    for one in found:
        if one.id == node:
            return one
    raise NotFound(what=f"node {node}; there are: {', '.join(other.id for other in found)}")
