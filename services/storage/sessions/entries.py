"""What a put changes in the catalogue: a body that has come is entered, or what has its name is used again.

Kept true (docs/sessions.md has the argument; the rules are numbered there):
- one transaction under the lock of the bucket's row (rule 1), in which the session is found open (rule 2);
- who puts an index file is a user of all packs in it, and a commit comes after both (rule 7);
- what counts as stored lies on as many homes as the bucket says, of those that are homes then.
"""

from collections.abc import Sequence
from uuid import UUID

from domain.names import CONFIG, ObjectKind, ObjectName
from domain.sessions import Purpose, Scope
from domain.tokens import VaultClaims
from services.common.database import Database, Unit
from services.common.errors import NotAllowed
from services.storage.access.quotas import require_room
from services.storage.errors import (
    BeingRemoved,
    Damaged,
    IndexNeeded,
    NotInitialised,
    NotReserved,
    SealChanged,
    SessionOver,
    TooFewCopies,
)
from services.storage.sessions.bodies import Announced, Body, Entered, Plan
from services.storage.sessions.standing import lock, removing, require_new, require_writing, writing
from services.storage.store import buckets, copies, objects, puts, sessions
from services.storage.store.homes import home_nodes


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
        bucket = await lock(unit, claims, session)
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
        bucket = await lock(unit, claims, session)
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
        bucket = await lock(unit, claims, session)
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
        bucket = await lock(unit, claims, session)
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


async def _standing(
    unit: Unit, claims: VaultClaims, session: UUID, name: ObjectName, silent_seconds: float = 0
) -> puts.Standing:
    """What a put has to ask. Raises SessionOver, since of a bucket that is not known no session is open."""
    asked = await puts.standing(unit, claims.bucket, session, name, silent_seconds)
    if asked is None:
        raise SessionOver(session=session)
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
