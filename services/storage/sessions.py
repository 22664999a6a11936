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

from domain.names import CONFIG, ObjectKind, ObjectName
from domain.sessions import Purpose, Scope
from domain.tokens import VaultClaims
from services.common.database import Database, Unit
from services.common.errors import InvalidArgument, NotAllowed, NotFound
from services.storage.bodies import Announced, Body, Entered, Plan, Seen
from services.storage.errors import (
    BeingRemoved,
    Damaged,
    IndexNeeded,
    NotInitialised,
    NotReserved,
    ParentGone,
    RestoreRunning,
    RetentionRunning,
    SealChanged,
    SessionOver,
    TooFewCopies,
)
from services.storage.quotas import require_room
from services.storage.standing import (
    lock,
    removing,
    require_device,
    require_leading,
    require_new,
    require_open,
    require_own,
    require_writing,
    writing,
)
from services.storage.store import buckets, copies, objects, puts, scrubs, sessions
from services.storage.store.homes import home_nodes


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
        bucket = await lock(unit, claims)
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
        bucket = await lock(unit, claims)
        await writing(unit, claims, session)
        found = await objects.reservable(unit, claims.bucket, list(digests))
        if found:
            await objects.use(unit, list(found.values()), session, bucket.tenant_id, bucket.user_id)
            await sessions.used_pack(unit, session, bucket.seq + 1)
            await buckets.set_seq(unit, claims.bucket, bucket.seq + 1)
        return [pack for digest, pack in digests.items() if digest not in found]


async def plan_put(db: Database, claims: VaultClaims, session: UUID, put: Announced, silent_seconds: float) -> Plan:
    """Where a body is to go, or that none is needed; refuses early what `enter` would refuse.

    Nothing is decided here but what to send where: all is asked again, under the lock, when the put takes effect.
    """
    async with db.unit(claims.tenant, claims.user) as unit:
        asked = await _standing(unit, claims, session, put.name, silent_seconds)
        bucket, found = asked.bucket, asked.found
        row = require_writing(asked.session, claims, session)
        # The name of a root file does not say its content, so only the entry can decide.
        if found is not None and not found.lost and not put.name.kind.is_root_file:
            return Plan(exists=True)
        if put.name.kind is ObjectKind.SNAPSHOT:
            await _require_committable(unit, claims, row)
        await _require_users(unit, bucket.id, row, put.name, put.packs)
        if found is None:
            await require_room(
                unit, bucket, claims, row, put.name.kind, size=put.size, shared=asked.limits, takes_effect=False
            )
        # What a retention puts takes the place of what it condemns, which has all of its copies.
        replaces = row.purpose == Purpose.RETENTION
        # Without a new index file nothing but whole ones could be condemned, and a full disk would stay full.
        frees = replaces and put.name.kind is ObjectKind.INDEX
        first = found is None and put.name == CONFIG
        return Plan(
            exists=False, ack_copies=bucket.ack_copies, homes=asked.homes, frees=frees, everywhere=replaces, first=first
        )


async def put_again(
    db: Database, claims: VaultClaims, session: UUID, name: ObjectName, packs: Sequence[ObjectName]
) -> None:
    """Put a name that exists, without its body: the session becomes a user, and what is condemned lives again.

    Raises BeingRemoved, after which the put is to be tried again, when the object is being removed or has just gone.
    """
    async with db.unit(claims.tenant, claims.user) as unit:
        bucket = await lock(unit, claims)
        asked = await _standing(unit, claims, session, name)
        row, found = require_writing(asked.session, claims, session), asked.found
        if name.kind is ObjectKind.SNAPSHOT:
            await _require_committable(unit, claims, row)
        if found is None or found.lost:
            raise BeingRemoved(name=name)
        await _use_again(unit, bucket, row, name=name, packs=packs, found=found)


async def enter(
    db: Database, claims: VaultClaims, session: UUID, body: Body, packs: Sequence[ObjectName] = ()
) -> Entered:
    """Enter a durable body in the catalogue: the moment at which a put takes effect.

    Raises SessionOver, QuotaExceeded, NotReserved, BeingRemoved, TooFewCopies, and for a snapshot IndexNeeded; the
    caller then throws the staged copies away.
    """
    async with db.unit(claims.tenant, claims.user) as unit:
        bucket = await lock(unit, claims)
        # In a statement of its own: its snapshot is taken when the lock is held.
        asked = await _standing(unit, claims, session, body.name)
        row, found, homes = require_writing(asked.session, claims, session), asked.found, asked.home_nodes
        if body.name.kind is ObjectKind.SNAPSHOT:
            await _require_committable(unit, claims, row)
        if found is not None:
            await _use_again(unit, bucket, row, name=body.name, packs=packs, found=found)
            if found.lost:
                _require_copies(bucket, body, homes)
            if body.sha256 == found.sha256 and body.size != found.size:
                # It was entered by a rescan that found no whole file of it.
                await objects.replace(unit, bucket, found, _new(body), found.sha256)
            healed = await copies.clear(unit, found.id, sorted(body.durable))
            return Entered(existed=True, placed_on=frozenset(healed))
        await _require_users(unit, bucket.id, row, body.name, packs)
        await require_room(unit, bucket, claims, row, body.name.kind, size=body.size, shared=asked.limits)
        _require_copies(bucket, body, homes)
        await _insert(unit, bucket, session, body)
        return Entered(existed=False, placed_on=body.durable & homes)


async def initialise(db: Database, claims: VaultClaims, session: UUID, bodies: Sequence[Body]) -> frozenset[str] | None:
    """Enter the first key, `config` and the seal in one transaction, if there is no `config`, or it is lost everywhere.

    Answers the homes, on which the copies are wanted; None, and nothing entered, if another device was first: the
    catalogue decides, under the bucket's lock. `bodies` may lack a key that exists. Raises Damaged instead of letting
    another config take the place of a lost one that snapshots need: that one may come back with its disk, or with a
    rescan.
    """
    async with db.unit(claims.tenant, claims.user) as unit:
        bucket = await lock(unit, claims)
        asked = await _standing(unit, claims, session, CONFIG)
        row, config, homes = require_writing(asked.session, claims, session), asked.found, asked.home_nodes
        if config is not None:
            # This very one may have been found among the incoming files, and healed, since its body came.
            same = any(body.name == CONFIG and body.sha256 == config.sha256 for body in bodies)
            if not config.lost and not same:
                return None
            if not same and await objects.any_of(unit, claims.bucket, ObjectKind.SNAPSHOT):
                raise Damaged(name=CONFIG, detail="the vault has snapshots, so another one cannot take its place")
        else:
            await require_new(unit, bucket)
        has_key = any(body.name.kind is ObjectKind.KEY for body in bodies)
        if not has_key and not await objects.is_other_live(unit, claims.bucket, ObjectKind.KEY, []):
            raise NotAllowed(detail="No key is there that could open the vault: initialise it again, from the key on.")
        size = sum(body.size for body in bodies)
        await require_room(unit, bucket, claims, row, ObjectKind.CONFIG, size=size, shared=asked.limits)
        for body in bodies:
            _require_copies(bucket, body, homes)
            found = await objects.find(unit, claims.bucket, body.name)
            if found is None:
                await _insert(unit, bucket, session, body)
            elif found.state == "deleting":
                raise BeingRemoved(name=body.name)
            else:
                await _replace(unit, bucket, row, found, body, replaced=found.sha256)
        return homes


async def replace_seal(db: Database, claims: VaultClaims, session: UUID, body: Body, replaced: bytes) -> Entered:
    """Enter a first seal, in any session that writes; another in the place of the one read only in a retention session.

    `replaced` is the SHA-256 of the one that goes, empty for a first one. The same again changes nothing. The file of
    the former one is replaced on each home by the rename of the new one, so that some seal is always there.
    Raises SealChanged, SessionOver, NotAllowed, NotInitialised; the caller then throws the staged copies away.
    """
    async with db.unit(claims.tenant, claims.user) as unit:
        bucket = await lock(unit, claims)
        homes = await home_nodes(unit, bucket.id)
        row = await writing(unit, claims, session)
        if await objects.find(unit, claims.bucket, CONFIG) is None:
            raise NotInitialised(bucket=claims.bucket)
        found = await objects.find(unit, claims.bucket, body.name)
        if found is not None and Scope.DELETE not in claims.scopes:
            raise NotAllowed(detail="There is a seal, and the vault token does not allow to delete.")
        if found is not None:
            await removing(unit, claims, session)
        _require_copies(bucket, body, homes)
        if found is None and not replaced:
            await _insert(unit, bucket, session, body)
        elif found is None or not await _replace(unit, bucket, row, found, body, replaced=replaced):
            raise SealChanged(bucket=claims.bucket)
        return Entered(existed=found is not None, placed_on=body.durable & homes)


async def is_initialised(db: Database, claims: VaultClaims, session: UUID) -> bool:
    """Whether the vault has a `config` that is not lost; asked before any body is stored. Raises SessionOver."""
    async with db.unit(claims.tenant, claims.user) as unit:
        await writing(unit, claims, session)
        config = await objects.find(unit, claims.bucket, CONFIG)
        return config is not None and not config.lost


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


async def _standing(
    unit: Unit, claims: VaultClaims, session: UUID, name: ObjectName, silent_seconds: float = 0
) -> puts.Standing:
    """What a put has to ask. Raises NotFound."""
    asked = await puts.standing(unit, claims.bucket, session, name, silent_seconds)
    if asked is None:
        raise NotFound(what=f"bucket {claims.bucket}")
    return asked


async def _require_committable(unit: Unit, claims: VaultClaims, row: sessions.SessionRow) -> None:
    # Retention commits as well: a snapshot that is changed is another object, put before the old one is removed.
    # Restics of one device share a session, so the last pack may be another one's.
    # What replicates brings what others have committed, and index files before snapshots.
    if row.pack_seq > row.index_seq and row.purpose not in {Purpose.RESTIC, Purpose.REPLICATE}:
        raise IndexNeeded
    if await objects.find(unit, claims.bucket, CONFIG) is None:
        raise NotInitialised(bucket=claims.bucket)


async def _use_again(
    unit: Unit,
    bucket: buckets.BucketState,
    row: sessions.SessionRow,
    *,
    name: ObjectName,
    packs: Sequence[ObjectName],
    found: objects.ObjectRow,
) -> None:
    """A put of a name that exists: revive it if condemned, and make the session its user."""
    if found.state == "deleting":
        raise BeingRemoved(name=name)
    await _require_users(unit, bucket.id, row, name, packs)
    await objects.use(unit, [found.id], row.id, bucket.tenant_id, bucket.user_id)
    await _remember(unit, row, name, bucket.seq + 1)
    await buckets.set_seq(unit, bucket.id, bucket.seq + 1)


async def _remember(unit: Unit, row: sessions.SessionRow, name: ObjectName, seq: int) -> None:
    """Order of packs and index files within the session, for the rule that a commit comes after both (rule 7)."""
    if name.kind is ObjectKind.PACK:
        await sessions.used_pack(unit, row.id, seq)
    elif name.kind is ObjectKind.INDEX:
        await sessions.put_index(unit, row.id, seq)


async def _require_users(
    unit: Unit, bucket: UUID, row: sessions.SessionRow, name: ObjectName, packs: Sequence[ObjectName]
) -> None:
    """Rule 7: whoever puts an index file is a user of all packs in it; retention, which rewrites it, excepted.

    A restic counts as a user of all packs anyway, and what replicates has brought the packs, or found them here.
    """
    exempt = {Purpose.RETENTION, Purpose.RESTIC, Purpose.REPLICATE}
    if name.kind is not ObjectKind.INDEX or row.purpose in exempt:
        return
    wanted = {bytes.fromhex(pack.id) for pack in packs}
    lacking = wanted - await objects.used_among(unit, bucket, row.id, list(wanted))
    if lacking:
        raise NotReserved(count=len(lacking), first=f"data/{min(lacking).hex()}")


def _require_copies(bucket: buckets.BucketState, body: Body, homes: frozenset[str]) -> None:
    """A copy counts on what is a home now, whatever was one when it was sent. Raises TooFewCopies."""
    if len(body.durable & homes) < bucket.ack_copies:
        raise TooFewCopies(detail="The bucket has got other nodes while the object was stored. Try again.")


async def _insert(unit: Unit, bucket: buckets.BucketState, session: UUID, body: Body) -> None:
    await objects.insert(unit, bucket, session, bucket.seq + 1, _new(body))


async def _replace(
    unit: Unit,
    bucket: buckets.BucketState,
    row: sessions.SessionRow,
    found: objects.ObjectRow,
    body: Body,
    *,
    replaced: bytes,
) -> bool:
    """Another content for an object that has the one with the SHA-256 `replaced`; False if it has yet another one."""
    if not await objects.replace(unit, bucket, found, _new(body), replaced):
        return False
    await copies.clear(unit, found.id, sorted(body.durable))
    await objects.use(unit, [found.id], row.id, bucket.tenant_id, bucket.user_id)
    await buckets.set_seq(unit, bucket.id, bucket.seq + 1)
    return True


def _new(body: Body) -> objects.NewObject:
    return objects.NewObject(body.name, body.sha256, body.size, sorted(body.durable), sorted(body.full))
