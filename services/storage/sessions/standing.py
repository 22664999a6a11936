"""How a caller stands to a session, asked in the transaction that takes effect (docs/sessions.md, rules 1 and 2).

Kept true: nobody finds a session of another bucket, tenant or user here, nor uses one of another device; a session that
is over, or was so long ago that its row has gone, is over for whatever is asked of it.
"""

from uuid import UUID

from domain.names import CONFIG, ObjectKind
from domain.sessions import Purpose
from domain.tokens import VaultClaims
from services.common.database import Unit
from services.common.errors import NotAllowed, NotFound
from services.storage.errors import BucketBusy, Damaged, Follows, SessionOver, WrongDevice
from services.storage.store import buckets, objects, sessions

PATIENCE_SECONDS = 5.0
WRITING = frozenset((Purpose.BACKUP, Purpose.ADOPT, Purpose.RETENTION, Purpose.RESTIC, Purpose.REPLICATE))


async def lock(unit: Unit, claims: VaultClaims, session: UUID | None = None) -> buckets.BucketState:
    """Lock the bucket's row: the first statement of every transaction that changes the bucket.

    Raises NotFound, or for a call in a `session` SessionOver, since a catalogue that was made anew has no bucket before
    a rescan, which says nothing of the object that is meant; BucketBusy when that takes long: calls that wait for one
    bucket would hold the connections that those for others need.
    """
    try:
        bucket = await buckets.lock(unit, claims.bucket, PATIENCE_SECONDS)
    except TimeoutError as error:
        raise BucketBusy from error
    if bucket is None:
        raise NotFound(what=f"bucket {claims.bucket}") if session is None else SessionOver(session=session)
    return bucket


def require_device(device: UUID, claims: VaultClaims) -> None:
    """Raises WrongDevice."""
    if device != claims.device:
        raise WrongDevice


def require_own(row: sessions.SessionRow | None, claims: VaultClaims, session: UUID) -> sessions.SessionRow:
    """A session of the caller's device, over or not. Raises NotFound, NotAllowed."""
    if row is None:
        raise SessionOver(session=session)
    if row.bucket_id != claims.bucket:
        raise NotFound(what="such session on this bucket")
    require_device(row.device_id, claims)
    return row


def require_open(row: sessions.SessionRow | None, claims: VaultClaims, session: UUID) -> sessions.SessionRow:
    """Raises SessionOver, and as `require_own`."""
    own = require_own(row, claims, session)
    if own.ended_seq is not None:
        raise SessionOver(session=session)
    return own


def require_writing(row: sessions.SessionRow | None, claims: VaultClaims, session: UUID) -> sessions.SessionRow:
    """An open session that writes. Raises NotAllowed for one that only reads, and as `require_open`."""
    opened = require_open(row, claims, session)
    if opened.purpose not in WRITING:
        raise NotAllowed(detail="The session was opened to read only.")
    return opened


async def writing(unit: Unit, claims: VaultClaims, session: UUID) -> sessions.SessionRow:
    """As `require_writing`."""
    return require_writing(await sessions.get(unit, session), claims, session)


async def removing(unit: Unit, claims: VaultClaims, session: UUID) -> sessions.SessionRow:
    """An open retention session. Raises NotAllowed for another purpose, and as `require_open`."""
    row = require_open(await sessions.get(unit, session), claims, session)
    if row.purpose != Purpose.RETENTION:
        raise NotAllowed(detail="Only a retention session removes.")
    return row


def require_leading(bucket: buckets.BucketState) -> None:
    """For whoever opens a session that writes: in a bucket that follows another cluster's there is none but ours.

    Raises Follows.
    """
    if bucket.follows is not None:
        raise Follows(bucket=bucket.id, cluster=bucket.follows)


async def require_new(unit: Unit, bucket: buckets.BucketState) -> None:
    """A bucket without a `config` is one of a vault that never was, not one whose `config` is still to be found.

    Raises Damaged where it has what only a vault has, or was entered by a rescan that has not been through all nodes.
    """
    for kind in (ObjectKind.SNAPSHOT, ObjectKind.INDEX):
        if await objects.any_of(unit, bucket.id, kind):
            raise Damaged(name=CONFIG, detail="the vault has backups, so another one cannot take its place")
    if bucket.braked is not None:
        advice = f"`oort node rescan` on all nodes, or `oort bucket release {bucket.id}`"
        raise Damaged(name=CONFIG, detail=f"another node may have it ({advice})")
