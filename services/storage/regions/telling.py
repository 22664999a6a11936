"""What a cluster tells those that follow its buckets.

Kept true (docs/decisions/regions.md):
- no look is answered while a node of an earlier version runs here, which would not mark what comes back;
- what came, and what is gone, is told of what a reading session sees, so that it can be read while that lasts;
- who says where its nodes are is remembered as one that follows, and no more than a few for a bucket.
"""

from collections.abc import Sequence
from uuid import UUID

from domain.names import ObjectKind
from domain.sessions import Purpose
from services.common.database import Database, Unit
from services.common.errors import NotAllowed, NotFound
from services.storage.errors import SessionOver
from services.storage.store import followed, nodes, sessions
from services.storage.store.followed import BucketLook, Change
from services.storage.store.sessions import SessionRow

MOST_ENDPOINTS = 100
_MOST_FOLLOWERS = 16


class Telling:
    def __init__(self, db: Database, cluster: str, *, silent_seconds: float) -> None:
        self._db = db
        self._cluster = cluster
        self._silent_seconds = silent_seconds

    async def look(
        self, bucket: UUID, cluster: str, endpoints: Sequence[str], *, upto_seq: int, session: UUID | None
    ) -> BucketLook:
        """How a bucket is for `cluster`, which has read all up to `upto_seq` in `session`. Raises NotFound.

        With `endpoints` it is noted as one that follows the bucket, whose nodes are reached there.
        """
        async with self._db.worker() as unit:
            await require_upgraded(unit)
            found = await followed.look(unit, bucket, upto_seq, session)
            if found is None:
                raise NotFound(what=f"bucket {bucket}")
            if endpoints and cluster != self._cluster:
                following_it = {one.cluster for one in await followed.followers(unit, bucket)}
                if cluster not in following_it and len(following_it) >= _MOST_FOLLOWERS:
                    raise NotAllowed(
                        detail=f"{_MOST_FOLLOWERS} clusters follow the bucket {bucket}, which is the most."
                    )
                known = session if found.known else None
                await followed.note_follower(unit, bucket, cluster, endpoints, upto_seq=upto_seq, session=known)
        return found

    async def changes(
        self, bucket: UUID, session: UUID, kind: ObjectKind, after_seq: int, *, after: tuple[int, int], limit: int
    ) -> list[Change]:
        """Objects that a reading session sees, in the order in which they came. Raises SessionOver."""
        async with self._db.worker() as unit:
            row = await _reading(unit, bucket, session)
            return await followed.changes(unit, row, kind, after_seq, after=after, limit=limit)

    async def gone(self, bucket: UUID, session: UUID, kind: ObjectKind, names: Sequence[bytes]) -> list[bytes]:
        """Those of `names` that a reading session does not see. Raises SessionOver."""
        async with self._db.worker() as unit:
            row = await _reading(unit, bucket, session)
            return await followed.gone(unit, row, kind, names)

    async def endpoints(self) -> list[str]:
        """The internal listeners of this cluster's nodes, at most 100, those that live first."""
        async with self._db.worker() as unit:
            found = await nodes.all_nodes(unit, self._silent_seconds)
        usable = [node for node in found if node.state not in ("removed", "lost")]
        return [node.internal_endpoint for node in sorted(usable, key=lambda node: not node.live)][:MOST_ENDPOINTS]


async def require_upgraded(unit: Unit) -> None:
    """Raises NotAllowed."""
    if outdated := await followed.outdated(unit):
        raise NotAllowed(
            detail=f"No bucket is followed while nodes of an earlier version run: {', '.join(outdated)}. Upgrade them."
        )


async def _reading(unit: Unit, bucket: UUID, session: UUID) -> SessionRow:
    row = await sessions.get(unit, session)
    if row is None or row.bucket_id != bucket or row.ended_seq is not None or row.purpose != Purpose.READ:
        raise SessionOver(session=session)
    return row
