"""What a bare restic may do to a bucket: its lock files are its session (docs/sessions.md, "restic").

Kept true:
- the restics of one device's URL share a session, from the first lock to the last: a lock that is refreshed is another
  file, and nobody can tell it from one of another restic, so nothing is judged by a later opening than the first;
- the session sees the bucket as it was at its opening, but for what it did itself, and uses every pack of it: nobody
  else condemns a pack or an index file that one of these restics may have read of;
- its opening is its mark: what it removes had no user that was not over by then, and no snapshot goes that a session
  had as its parent which was not over by then either;
- a restic may take for gone what it was refused, so after a snapshot or an index file stays all index files and packs;
- the keys of a vault that `backup-tool` opens stay, but those that a restic has added;
- who comes back after the session was over takes no part in a later one, but where nobody has removed anything since;
- of two first keys, of which one is of an initialisation that was broken off, restic finds the other one.
"""

from collections.abc import AsyncGenerator
from uuid import UUID, uuid4

from domain.names import CONFIG, SEAL, ObjectKind, ObjectName
from domain.sessions import Purpose
from domain.tokens import VaultClaims
from services.common.database import Database, Unit
from services.common.errors import NotAllowed, NotFound, ServiceError
from services.storage.errors import IndexNeeded, InUse, NotLocked
from services.storage.removal.holding import DEFAULT_BRAKE, Brake, condemn_unheld
from services.storage.removal.retention import condemn_unused
from services.storage.sessions.bodies import Seen
from services.storage.sessions.standing import lock, require_leading, require_new, writing
from services.storage.store import buckets, objects, sessions
from services.storage.store import restic as rows
from services.storage.store.objects import ListedObject
from services.storage.store.sessions import SessionRow

MAX_LOCKS = 1000  # in a bucket, of sessions that are open
_PAGE = 1000
# Whoever lists these goes by what there is now.
_TELLING = frozenset((ObjectKind.SNAPSHOT, ObjectKind.INDEX))
_REMOVED_KINDS = frozenset((ObjectKind.SNAPSHOT, ObjectKind.INDEX, ObjectKind.PACK, ObjectKind.KEY))


async def write_lock(db: Database, claims: VaultClaims, name: ObjectName, body: bytes) -> None:
    """Write a lock file, which opens the device's session or has it live on. The same again is the same."""
    async with db.unit(claims.tenant, claims.user) as unit:
        bucket = await lock(unit, claims)
        if await rows.count_locks(unit, bucket.id) >= MAX_LOCKS:
            raise NotAllowed(detail=f"The vault has {MAX_LOCKS} locks: `restic unlock --remove-all` removes them.")
        row = await rows.open_session(unit, bucket.id, claims.device)
        session = row.id if row else await _open(unit, bucket, claims)
        await rows.put_lock(unit, bucket, session, name, body)


async def remove_lock(db: Database, claims: VaultClaims, name: ObjectName) -> None:
    """Remove a lock file; with its last one a session ends. Raises NotFound.

    A restic that removes a lock of a session that is over has slept, or another one has removed its lock: it has
    written a new one, and would go on with what it knew. The session of the new one ends too.
    """
    async with db.unit(claims.tenant, claims.user) as unit:
        bucket = await lock(unit, claims)
        found = await rows.take_lock(unit, bucket.id, name, claims.device)
        if found is None or (found.is_removed and found.ended_seq is None):
            raise NotFound(what=f"object {name} in this bucket")
        ending: UUID | None = None
        if found.ended_seq is not None:
            ending = await _outlived(unit, bucket, claims, found)
        elif not await rows.has_lock(unit, found.session_id):
            ending = found.session_id
        if ending is not None:
            await sessions.end(unit, ending, bucket.seq + 1)
            await buckets.set_seq(unit, bucket.id, bucket.seq + 1)


async def _outlived(unit: Unit, bucket: buckets.BucketState, claims: VaultClaims, found: rows.LockRow) -> UUID | None:
    """The session that has to end, as a lock of one that is over is removed; None if there is none.

    A lock that was removed before may only be removed again because an answer was lost, by a restic that has ended
    since: the session is then of another one. It goes on if whoever it is can be allowed to: nothing that was there
    at the end of the lock's session has been removed since, nor will be by what was listed before.
    """
    row = await rows.open_session(unit, bucket.id, claims.device)
    if row is None or found.ended_seq is None or found.device_id != claims.device:
        return None
    if not found.is_removed or await rows.others_removed(unit, bucket.id, found.ended_seq, row.id):
        return row.id
    await rows.keep_something(unit, row.id)
    return None


async def read_lock(db: Database, claims: VaultClaims, name: ObjectName) -> bytes:
    """Raises NotFound."""
    async with db.unit(claims.tenant, claims.user) as unit:
        body = await rows.lock_body(unit, claims.bucket, name)
    if body is None:
        raise NotFound(what=f"object {name} in this bucket")
    return body


async def writing_session(db: Database, claims: VaultClaims, kind: ObjectKind) -> UUID:
    """The session that a restic stores an object of a kind in. Raises NotLocked."""
    async with db.unit(claims.tenant, claims.user) as unit:
        row = await _locked(unit, claims)
        if kind is ObjectKind.SNAPSHOT:
            await _require_no_doubt(unit, row)
        return row.id


async def begin(db: Database, claims: VaultClaims, session: UUID) -> None:
    """Begin to initialise the vault: what keys there are without a config are of one that was broken off.

    restic gives up over the first key that its password opens, and of two it may find the one that opens nothing.
    """
    async with db.unit(claims.tenant, claims.user) as unit:
        bucket = await lock(unit, claims)
        await writing(unit, claims, session)
        if await objects.find(unit, bucket.id, CONFIG) is not None:
            return
        await require_new(unit, bucket)
        found = await rows.page(unit, bucket.id, None, ObjectKind.KEY, after=b"", limit=_PAGE)
        keys = [bytes(row.sha256) for row in found]
        if await objects.condemn(unit, bucket.id, ObjectKind.KEY, keys, seq=bucket.seq + 1, session=session):
            await buckets.set_seq(unit, bucket.id, bucket.seq + 1)


async def needs_config(db: Database, claims: VaultClaims) -> bool:
    """Whether the vault is not initialised yet: then a key and a config are stored before there is any lock.

    Raises NotFound.
    """
    async with db.unit(claims.tenant, claims.user) as unit:
        await _require_known(unit, claims)
        return await objects.find(unit, claims.bucket, CONFIG) is None


async def see(db: Database, claims: VaultClaims, name: ObjectName, node: str) -> Seen:
    """Find an object; who has no lock sees what is live. Raises NotFound."""
    async with db.unit(claims.tenant, claims.user) as unit:
        row = await rows.open_session(unit, claims.bucket, claims.device)
        found = await rows.find(unit, claims.bucket, row, name, node)
    if found is None:
        raise NotFound(what=f"object {name} in this bucket")
    return Seen(found.id, bytes(found.sha256), found.size, found.lacking)


async def pages(db: Database, claims: VaultClaims, kind: ObjectKind) -> AsyncGenerator[list[ListedObject], None]:
    """All objects of a kind, by name, as `see` finds them.

    Raises NotFound for a bucket that the catalogue does not know, of which it cannot be said that nothing is there.
    """
    if kind is ObjectKind.LOCK:
        async with db.unit(claims.tenant, claims.user) as unit:
            await _require_known(unit, claims)
            found = await rows.locks(unit, claims.bucket)
        yield found
        return
    after: bytes | None = b""
    while after is not None:
        async with db.unit(claims.tenant, claims.user) as unit:
            await _require_known(unit, claims)
            row = await rows.open_session(unit, claims.bucket, claims.device)
            if row and kind in _TELLING:
                await rows.end_doubt(unit, row.id)
            found = await rows.page(unit, claims.bucket, row, kind, after=after, limit=_PAGE)
        yield found
        after = bytes(found[-1].sha256) if len(found) == _PAGE else None


async def remove(db: Database, claims: VaultClaims, name: ObjectName, brake: Brake = DEFAULT_BRAKE) -> None:
    """Condemn a snapshot, an index file, a pack or a key. The same again answers the same.

    Raises NotLocked, NotFound, IndexNeeded, and InUse with the reason why it stays.
    """
    if name.kind not in _REMOVED_KINDS:
        raise NotAllowed(detail=f"{name} is not removed.")
    async with db.unit(claims.tenant, claims.user) as unit:
        refusal = await _remove(unit, claims, name, brake)
    if refusal:
        # After the transaction, which may remember it.
        raise refusal


async def _remove(unit: Unit, claims: VaultClaims, name: ObjectName, brake: Brake) -> ServiceError | None:
    """Why it stays; None if it does not."""
    bucket = await lock(unit, claims)
    row = await _locked(unit, claims)
    if name.kind in (ObjectKind.INDEX, ObjectKind.PACK):
        await _require_no_doubt(unit, row)
    if await rows.is_removed(unit, bucket.id, name, row.opened_seq):
        return None
    if await rows.find(unit, bucket.id, row, name) is None:
        raise NotFound(what=f"object {name} in this bucket")
    try:
        reason = await _reason_to_stay(unit, bucket, row, name, brake)
        refusal: ServiceError | None = InUse(name=name, detail=reason) if reason else None
    except IndexNeeded as error:
        refusal = error
    if refusal and name.kind in (ObjectKind.SNAPSHOT, ObjectKind.INDEX):
        await rows.keep_something(unit, row.id)
    return refusal


async def _reason_to_stay(
    unit: Unit, bucket: buckets.BucketState, row: SessionRow, name: ObjectName, brake: Brake
) -> str:
    """Condemn what the session sees, which answers nothing, or answer why it stays. Raises IndexNeeded."""
    if not await rows.alone_since(unit, bucket.id, row.opened_seq):
        return (
            "a retention, or an operator's restore from the waste basket, was not over when the lock was written;"
            " try again with another"
        )
    if name.kind is ObjectKind.SNAPSHOT:
        if await rows.backup_on(unit, bucket.id, name, row.opened_seq):
            return "a backup that was not over when the lock was written builds on it"
        digests = [bytes.fromhex(name.id)]
        held = await condemn_unheld(unit, bucket, row.id, name.kind, digests, brake=brake)
        return next(iter(held.values()), "")
    if name.kind is ObjectKind.KEY:
        # With one of these the account opens the vault.
        is_shared = await objects.find(unit, bucket.id, SEAL) is not None
        if is_shared and not await rows.is_restics_key(unit, bucket.id, name):
            return "no restic has added it; `backup-tool key remove` removes it"
    elif await rows.has_kept_something(unit, row.id):
        # Whether the new index files list what that needs is not known, nor what the old ones that stay do.
        return "a snapshot or an index file had to stay, and may need it"
    refusals = await condemn_unused(unit, bucket, row, name.kind, [name], brake=brake)
    return refusals[0].reason if refusals else ""


async def _require_known(unit: Unit, claims: VaultClaims) -> None:
    if await buckets.peek(unit, claims.bucket) is None:
        raise NotFound(what=f"bucket {claims.bucket}")


async def _locked(unit: Unit, claims: VaultClaims) -> SessionRow:
    row = await rows.open_session(unit, claims.bucket, claims.device)
    if row is None:
        raise NotLocked
    return row


async def _require_no_doubt(unit: Unit, row: SessionRow) -> None:
    """Raises NotLocked while the session's first lock may be the refresh of one that was lost.

    That one is removed just after it, which ends the session; what was under way meanwhile goes by what is long over.
    """
    if await rows.is_doubtful(unit, row.id):
        raise NotLocked


async def _open(unit: Unit, bucket: buckets.BucketState, claims: VaultClaims) -> UUID:
    require_leading(bucket)
    seq = bucket.seq + 1
    row = SessionRow(uuid4(), bucket.id, claims.device, Purpose.RESTIC.value, None, seq, None, 0, 0, mark_seq=seq)
    await sessions.insert(unit, row, bucket.tenant_id, bucket.user_id)
    if await rows.has_lost_lock(unit, bucket.id, claims.device):
        await rows.doubt(unit, row.id)
    await buckets.set_seq(unit, bucket.id, seq)
    return row.id
