"""Buckets that follow those of another cluster: what an operator orders.

Kept true (docs/decisions/regions.md):
- a bucket that follows another has no open session that writes, but those of its following: they were ended when it
  began to, and are refused since, under the bucket's lock;
- from its promotion on nothing that the following had begun takes effect any more;
- whoever is handed over takes nothing more, so that what the other cluster has seen since is all that there ever is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog
from oort.storage.v1.regions_pb2 import LookResponse

from domain.names import CONFIG, SEAL
from domain.wording import plural
from services.common.database import Database, Unit
from services.common.errors import InvalidArgument, NotAllowed, NotFound, ServiceError, Unavailable
from services.storage import buckets as making
from services.storage.errors import SourceGone, SourceRefused
from services.storage.peers import Peers
from services.storage.regions.source import Source
from services.storage.regions.telling import require_upgraded
from services.storage.removal.holding import adopting_reason
from services.storage.store import buckets, followed, following, protection
from services.storage.store.buckets import BucketState, NewBucket
from services.storage.store.followed import FollowerCluster
from services.storage.store.following import Following

_log = structlog.get_logger("storage")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an operator asks for. `existing`: content that is here is to become what it is there.

    `copies` and `ack_copies` of a bucket that is made here; 0: as there.
    """

    bucket: UUID
    endpoints: Sequence[str]
    removals: bool
    existing: bool
    copies: int = 0
    ack_copies: int = 0


class Orders:
    """What an operator orders, at the cluster that follows and at the one that is followed."""

    def __init__(self, db: Database, peers: Peers, cluster: str, *, silent_seconds: float, copy_seconds: float) -> None:
        self._db = db
        self._peers = peers
        self._cluster = cluster
        self._silent_seconds = silent_seconds
        self._copy_seconds = copy_seconds

    async def follow(self, wanted: Wanted) -> Following:
        """Have a bucket follow the one with its id on another cluster, or change how it does.

        Raises Unavailable and SourceRefused as that cluster answers; NotAllowed when the bucket that is here is
        another's, or has content and that was not said to be meant.
        """
        if not wanted.endpoints:
            raise InvalidArgument(detail="endpoints has the internal host:port of a node of the other cluster.")
        source = Source(self._peers, wanted.bucket, wanted.endpoints, seconds=self._copy_seconds)
        there = await source.look(self._cluster, (), 0)
        if there.cluster == self._cluster:
            raise InvalidArgument(
                detail=f"The nodes at {', '.join(wanted.endpoints)} are of a cluster {there.cluster} too: a bucket"
                " follows one of another cluster, and OORT_CLUSTER_NAME tells them apart."
            )
        if there.follows:
            raise NotAllowed(detail=f"It is cluster {there.follows}'s to write to: follow that one.")
        owner = UUID(there.tenant_id), UUID(there.user_id)
        async with self._db.worker() as unit:
            await require_upgraded(unit)
            known = await buckets.peek(unit, wanted.bucket)
        if known is None:
            copies = wanted.copies or there.copies
            ack_copies = wanted.ack_copies or min(there.ack_copies, copies)
            new = NewBucket(wanted.bucket, *owner, copies, ack_copies, there.quota_bytes)
            await making.create(self._db, new, self._silent_seconds)
        async with self._db.worker() as unit:
            here = await buckets.lock(unit, wanted.bucket)
            if here is None or (here.tenant_id, here.user_id) != owner:
                raise NotAllowed(detail=f"The bucket {wanted.bucket} here belongs to another user.")
            await self._begin(unit, here, wanted, there)
            found = await following.get(unit, wanted.bucket)
        if found is None:
            raise LookupError(f"the following of {wanted.bucket} was just entered")
        return found

    async def _begin(self, unit: Unit, here: BucketState, wanted: Wanted, there: LookResponse) -> None:
        source = there.cluster
        before = await following.get(unit, here.id)
        if before is None and here.adopting:  # none could end it here afterwards
            raise NotAllowed(detail=f"In bucket {here.id} {adopting_reason(here.id)}.")
        if before is None and not wanted.existing and not await followed.is_empty(unit, here.id):
            raise NotAllowed(
                detail="The bucket has content here. What is not in the other cluster's is removed where removals are"
                " followed, and nothing can be stored in it here from then on: say --existing if that is meant."
            )
        if before is not None and before.source != source:
            raise NotAllowed(
                detail=f"The bucket follows cluster {before.source}: `oort bucket unfollow` first, then --existing."
            )
        if await following.root_file(unit, here.id, CONFIG.kind) not in (None, there.config_sha256):
            raise NotAllowed(detail="The bucket there is another vault than the one here, or has lost its config.")
        if before is None:
            await followed.end_writers(unit, here.id, here.seq + 1)
            await followed.set_follows(unit, here.id, source)
            await buckets.set_seq(unit, here.id, here.seq + 1)
            _log.info("a bucket follows another cluster", bucket=str(here.id), source=source)
        await following.put(
            unit,
            here.id,
            here.tenant_id,
            here.user_id,
            source=source,
            endpoints=wanted.endpoints,
            removals=wanted.removals,
        )

    async def promote(self, bucket: UUID, *, give_up: bool, devices_stay: bool = False) -> Following:
        """Let a bucket go its own way, under the object lock and the brake that it had there. Answers how far it was.

        Raises NotFound; NotAllowed unless all of it is here and the other cluster has handed it over, or was gone when
        all of it had been here; `give_up` says that what did not come is given up. NotAllowed also when `devices_stay`
        where they are and the other cluster has handed it over, which takes nothing from them any more, or refuses to
        say so.
        """
        async with self._db.worker() as unit:
            found = await following.get(unit, bucket)
            seal = await following.root_file(unit, bucket, SEAL.kind)
        there = await self._last_look(found, give_up=give_up, devices_stay=devices_stay) if found else None
        if found and there and devices_stay and there.follows == self._cluster:
            raise NotAllowed(
                detail=f"Cluster {found.source} has handed the bucket over to this one, and takes nothing any more:"
                " `oort bucket promote` here has its devices sent here, and there it takes the bucket back."
            )
        if found and not give_up:
            _require_all(found, seal, there, self._cluster)
        async with self._db.worker() as unit:
            state = await _locked(unit, bucket)
            found = await following.get(unit, bucket)
            if found is None:
                raise NotAllowed(detail=f"The bucket {bucket} follows no other cluster.")
            await followed.end_writers(unit, bucket, state.seq + 1)
            await following.remove(unit, bucket)
            await followed.set_follows(unit, bucket, None)
            await buckets.set_seq(unit, bucket, state.seq + 1)
            await _protect(unit, state, found, there)
        _log.warning("a bucket is promoted", bucket=str(bucket), source=found.source, upto_seq=found.upto_seq)
        return found

    async def hand_over(self, bucket: UUID, cluster: str) -> int:
        """Take nothing more for a bucket that `cluster` is to have. Answers its last seq.

        The same again answers the same. Raises NotFound, NotAllowed for one that follows another, that `cluster` does
        not follow, that was handed over to a third one, or that the brake holds.
        """
        async with self._db.worker() as unit:
            state = await _locked(unit, bucket)
            if await following.get(unit, bucket) is not None:
                raise NotAllowed(detail=f"The bucket {bucket} follows another cluster: hand over the one there.")
            if state.follows == cluster:
                return state.seq
            if state.follows is not None:
                raise NotAllowed(
                    detail=f"The bucket {bucket} was handed over to cluster {state.follows}: take it back."
                )
            if cluster not in {one.cluster for one in await followed.followers(unit, bucket)}:
                raise NotAllowed(detail=f"No cluster {cluster} follows the bucket {bucket}.")
            if state.adopting:
                raise NotAllowed(detail=f"In bucket {bucket} {adopting_reason(bucket)}.")
            if state.braked is not None:
                raise NotAllowed(
                    detail=f"The brake on mass removal holds the bucket {bucket}, and what was removed from it comes"
                    " back where it is: `oort bucket restore` or `oort bucket release` come first."
                )
            await self._set_leader(unit, state, cluster)
        _log.warning("a bucket is handed over", bucket=str(bucket), to=cluster)
        return state.seq + 1

    async def take_back(self, bucket: UUID, *, give_up: bool) -> int:
        """Have a bucket again that was handed over. Answers its seq; the same again answers the same.

        Raises NotFound; NotAllowed unless the cluster that it was handed over to, or else each that has followed it,
        says that it still does, or `give_up` says that what is stored there since is given up.
        """
        async with self._db.worker() as unit:
            state = await buckets.peek(unit, bucket)
            followers = await followed.followers(unit, bucket, ever=True)
        if state is not None and not give_up:
            known = {one.cluster: one.endpoints for one in followers}
            # A follower may have been promoted without a hand-over.
            for cluster in [state.follows] if state.follows else known:
                there = await self._of_follower(bucket, cluster, known.get(cluster, []))
                # One that was handed over to this cluster takes nothing either, but may have what is not here.
                if there.follows != self._cluster or not (there.is_following or state.follows is None):
                    raise NotAllowed(
                        detail=f"Cluster {cluster} has the bucket to write to by now: follow it from here and move it"
                        " back; --give-up takes it back without what was stored there."
                    )
        async with self._db.worker() as unit:
            state = await _locked(unit, bucket)
            if await following.get(unit, bucket) is not None:
                raise NotAllowed(detail=f"The bucket {bucket} follows another cluster: promote it.")
            if state.follows is None:
                return state.seq
            await self._set_leader(unit, state, None)
        _log.warning("a bucket is taken back", bucket=str(bucket), of=state.follows)
        return state.seq + 1

    async def _set_leader(self, unit: Unit, state: BucketState, cluster: str | None) -> None:
        await followed.end_writers(unit, state.id, state.seq + 1)
        await followed.set_follows(unit, state.id, cluster)
        await buckets.set_seq(unit, state.id, state.seq + 1)

    async def _last_look(self, found: Following, *, give_up: bool, devices_stay: bool) -> LookResponse | None:
        """How the bucket is that it follows; None if nobody answers there, or refuses and that is given up.

        Raises SourceRefused unless `give_up`; NotAllowed when `devices_stay` with a cluster that has the bucket, and
        refuses to say whether it takes anything from them.
        """
        try:
            return await self._look_at(found.bucket_id, found.source, found.addresses, found.upto_seq, found.session_id)
        except Unavailable:
            return None
        except SourceRefused as error:
            if devices_stay and not isinstance(error, SourceGone):
                raise NotAllowed(
                    detail=f"Cluster {found.source} does not say whether it has handed the bucket over to this one, and"
                    f" takes nothing from its devices any more ({error})."
                ) from error
            if give_up:
                return None
            raise

    async def _of_follower(self, bucket: UUID, cluster: str, endpoints: Sequence[str]) -> LookResponse:
        """How the bucket is on a cluster that follows it. Raises NotAllowed when that does not say."""
        try:
            return await self._look_at(bucket, cluster, endpoints)
        except ServiceError as error:
            raise NotAllowed(
                detail=f"Cluster {cluster} does not say that nothing was stored there: --give-up takes the bucket back"
                f" without what was ({error})."
            ) from error

    async def _look_at(
        self, bucket: UUID, cluster: str, endpoints: Sequence[str], upto_seq: int = 0, session: UUID | None = None
    ) -> LookResponse:
        """What a node of that cluster says. Raises Unavailable, SourceRefused."""
        source = Source(self._peers, bucket, endpoints, seconds=self._copy_seconds)
        return await source.look(self._cluster, (), upto_seq, session, of=cluster)

    async def page(self, after: UUID | None, limit: int) -> list[Following]:
        """What follows other clusters here, by bucket."""
        async with self._db.worker() as unit:
            return await following.page(unit, after, limit)

    async def of_bucket(self, bucket: UUID) -> tuple[Following | None, list[FollowerCluster], str]:
        """Whom a bucket follows, who follows it, and which other cluster has it to write to. Raises NotFound."""
        async with self._db.worker() as unit:
            state = await buckets.peek(unit, bucket)
            if state is None:
                raise NotFound(what=f"bucket {bucket}")
            return await following.get(unit, bucket), await followed.followers(unit, bucket), state.follows or ""


async def _protect(unit: Unit, state: BucketState, found: Following, there: LookResponse | None) -> None:
    """Protect a bucket, whose row is locked, as it was where it followed, if that is more."""
    lock_days, is_braked = found.source_lock_days, found.source_braked
    if there and there.known and not found.strayed:
        lock_days, is_braked = there.lock_days, there.braked
    if lock_days > state.lock_days:
        await protection.set_lock(unit, state.id, lock_days)
    if is_braked and state.braked is None:
        await protection.set_brake(unit, state.id)


def _require_all(found: Following, seal: bytes | None, there: LookResponse | None, cluster: str) -> None:
    """Raises NotAllowed where a promotion would lose what could still come."""
    if not found.complete:
        raise NotAllowed(detail="The bucket never had all of it here: --give-up promotes what there is.")
    if there and there.follows not in ("", cluster):
        raise NotAllowed(
            detail=f"Cluster {found.source} has handed the bucket over to cluster {there.follows}: follow that one;"
            " --give-up promotes beside it."
        )
    if there and there.follows != cluster:
        raise NotAllowed(
            detail=f"Cluster {found.source} answers, and takes what devices store: `oort bucket move` leaves nothing"
            " behind; --give-up promotes without what is stored there from now on."
        )
    if there and (there.objects or not there.known or there.seal_sha256 not in (b"", seal)):
        raise NotAllowed(detail=f"What cluster {found.source} has is not all here yet: it comes, or --give-up.")
    if found.damaged_objects:
        raise NotAllowed(
            detail=f"{plural(found.damaged_objects, 'object')} could not be read on cluster {found.source}, and would"
            " not come any more when that changes: --give-up promotes all the same."
        )


async def _locked(unit: Unit, bucket: UUID) -> BucketState:
    found = await buckets.lock(unit, bucket)
    if found is None:
        raise NotFound(what=f"bucket {bucket}")
    return found
