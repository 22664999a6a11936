"""Sessions on a bucket: who may write, what they see, and what must not yet be removed.

Kept true (docs/sessions.md has the argument; the rules are numbered there):
- one transaction at a time per bucket: each that changes anything first locks the bucket's row, and order is that
  row's `seq`, never a clock (rule 1);
- every call finds its session open in the transaction that takes effect (rule 2);
- nothing that a session pinned, created, reserved or put again can be condemned while the session is open: all of
  these become rows of the catalogue in the transaction that answers (rules 5 and 6).
"""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose
from domain.tokens import VaultClaims
from services.common.database import Database
from services.common.errors import InvalidArgument, NotAllowed, NotFound
from services.storage.errors import ParentGone, RestoreRunning, RetentionRunning, SessionOver
from services.storage.sessions.bodies import Seen
from services.storage.sessions.standing import lock, require_device, require_leading, require_open, require_own, writing
from services.storage.store import buckets, objects, scrubs, sessions


async def open_session(
    db: Database, claims: VaultClaims, session: UUID, purpose: Purpose, parent: ObjectName | None
) -> int:
    """Open a session and, for a backup, pin its parent snapshot. Answers the seq of the opening.

    The same call again answers the same, so a client may repeat it. Raises ParentGone when the snapshot was removed or
    never was, Follows in a bucket that another cluster has to write to, RetentionRunning (for a retention also beside
    an operator's restore, which it would undo), SessionOver when the session was opened before and has ended.
    """
    if parent is not None and purpose is not Purpose.BACKUP:
        raise InvalidArgument(detail="Only a backup has a parent.")
    digest = objects.digest_of(parent) if parent else None
    async with db.unit(claims.tenant, claims.user) as unit:
        bucket = await lock(unit, claims)
        known = await sessions.get(unit, session)
        if known is not None:
            return _opened_before(known, claims, purpose, digest)
        if purpose is not Purpose.READ:
            require_leading(bucket)
        # What an operator brings in is whole only at its end: nobody may condemn some of it meanwhile.
        is_operators = purpose is Purpose.ADOPT and claims.device == sessions.NOBODY
        if (purpose is Purpose.RETENTION or is_operators) and await sessions.retention_is_open(unit, claims.bucket):
            raise RetentionRunning(bucket=claims.bucket)
        if purpose is Purpose.RETENTION and await sessions.restore_is_open(unit, claims.bucket):
            raise RestoreRunning(bucket=claims.bucket)
        seq = bucket.seq + 1
        row = sessions.SessionRow(session, claims.bucket, claims.device, purpose.value, digest, seq, None, 0, 0)
        if not await sessions.insert(unit, row, bucket.tenant_id, bucket.user_id):
            raise NotAllowed(detail="session_id is taken: choose another.")
        if digest is not None and not await sessions.pin(unit, session, claims.bucket, digest):
            raise ParentGone(parent=digest.hex())
        await buckets.set_seq(unit, claims.bucket, seq)
        return seq


def _opened_before(row: sessions.SessionRow, claims: VaultClaims, purpose: Purpose, parent: bytes | None) -> int:
    wanted = (claims.bucket, claims.device, purpose.value, parent)
    if (row.bucket_id, row.device_id, row.purpose, row.parent) != wanted:
        raise NotAllowed(detail="session_id is taken: choose another.")
    if row.ended_seq is not None:
        raise SessionOver(session=row.id)
    return row.opened_seq


async def live_homes(db: Database, claims: VaultClaims, silent_seconds: float) -> list[str]:
    """The public endpoints of the nodes that hold the bucket and live."""
    async with db.unit(claims.tenant, claims.user) as unit:
        homes = await buckets.homes(unit, claims.bucket, silent_seconds)
    return [home.public_endpoint for home in homes if home.live]


async def lost_packs(db: Database, claims: VaultClaims) -> list[str]:
    """Ids of packs of which no home has a whole copy: a backup does not count on them."""
    async with db.unit(claims.tenant, claims.user) as unit:
        return [digest.hex() for digest in await scrubs.lost_packs(unit, claims.bucket)]


async def beat(db: Database, claims: VaultClaims, session: UUID) -> None:
    """Say that the session is alive. Raises SessionOver.

    Takes the session's row alone: a beat orders nothing, and its condition is judged on that row when it is locked.
    """
    async with db.unit(claims.tenant, claims.user) as unit:
        if not await sessions.beat(unit, session, claims.bucket, claims.device):
            require_open(await sessions.get(unit, session), claims, session)


async def end(db: Database, claims: VaultClaims, session: UUID) -> None:
    """End the session, which lets go of its pin. Ending it again does nothing."""
    async with db.unit(claims.tenant, claims.user) as unit:
        bucket = await lock(unit, claims, session)
        row = require_own(await sessions.get(unit, session), claims, session)
        if row.ended_seq is None:
            await sessions.end(unit, session, bucket.seq + 1)
            await buckets.set_seq(unit, claims.bucket, bucket.seq + 1)


async def end_silent(db: Database, silence: timedelta, greatest_age: timedelta) -> list[UUID]:
    """End every session that did not beat for `silence`, or is older than `greatest_age`; by the database's clock."""
    async with db.worker() as unit:
        found = await sessions.buckets_of_silent(unit, silence, greatest_age)
    ended: list[UUID] = []
    for bucket_id in found:
        async with db.worker() as unit:
            bucket = await buckets.lock(unit, bucket_id)
            if bucket is None:
                continue
            # Asked again under the lock: a session that beat meanwhile goes on.
            gone = await sessions.end_silent(unit, bucket_id, bucket.seq + 1, silence, greatest_age)
            if gone:
                await buckets.set_seq(unit, bucket_id, bucket.seq + 1)
                ended += gone
    return ended


async def reserve(db: Database, claims: VaultClaims, session: UUID, packs: Sequence[ObjectName]) -> list[ObjectName]:
    """Become a user of packs that an index names; what is condemned lives again. Answers those that are gone."""
    digests = {bytes.fromhex(pack.id): pack for pack in packs}
    async with db.unit(claims.tenant, claims.user) as unit:
        bucket = await lock(unit, claims, session)
        await writing(unit, claims, session)
        found = await objects.reservable(unit, claims.bucket, list(digests))
        if found:
            await objects.use(unit, list(found.values()), session, bucket.tenant_id, bucket.user_id)
            await sessions.used_pack(unit, session, bucket.seq + 1)
            await buckets.set_seq(unit, claims.bucket, bucket.seq + 1)
        return [pack for digest, pack in digests.items() if digest not in found]


async def see(db: Database, claims: VaultClaims, session: UUID, name: ObjectName, node: str) -> Seen:
    """Find an object that the session sees: live, or condemned after the session was opened (rule 3).

    An adoption sees all that is condemned, a retention none of it.

    `lacking` of the answer says whether `node` is known to lack its copy. Raises NotFound, SessionOver.
    """
    async with db.unit(claims.tenant, claims.user) as unit:
        found = await objects.seen(unit, claims.bucket, session, name, node)
    if found is None:
        raise SessionOver(session=session)
    require_device(found.device_id, claims)
    if found.ended_seq is not None:
        raise SessionOver(session=session)
    if found.id is None or found.sha256 is None or found.size is None:
        raise NotFound(what=f"object {name} in this bucket")
    return Seen(found.id, found.sha256, found.size, found.lacking)


async def list_objects(
    db: Database, claims: VaultClaims, session: UUID, kind: ObjectKind, *, after: bytes | None, limit: int
) -> list[objects.ListedObject]:
    """Objects of a kind that the session sees, by name, from after `after`. Raises SessionOver."""
    async with db.unit(claims.tenant, claims.user) as unit:
        row = require_open(await sessions.get(unit, session), claims, session)
        return await objects.page(unit, claims.bucket, kind, row.sees_condemned_after, after=after, limit=limit)


async def list_condemned(
    db: Database, claims: VaultClaims, session: UUID, kind: ObjectKind, *, after: bytes | None, limit: int
) -> list[objects.ListedObject]:
    """The waste basket, as `list_objects`. Only for an adoption, which keeps the reaper from it: NotAllowed else."""
    async with db.unit(claims.tenant, claims.user) as unit:
        row = require_open(await sessions.get(unit, session), claims, session)
        if row.purpose != Purpose.ADOPT:
            raise NotAllowed(detail="Only an adoption sees what is condemned.")
        return await objects.page_of_condemned(unit, claims.bucket, kind, after=after, limit=limit)
