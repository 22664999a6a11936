"""What the node holds against whoever may remove: object lock, and the brake on mass removal.

Kept true:
- nothing is condemned but here, in the transaction that has asked for both, under the bucket's lock;
- an object that entered the catalogue less than the bucket's lock ago stays, by the database's clock, which every node
  asks; what was condemned before there was a lock is not reaped (store/reaping.py);
- a removal that would leave a bucket less than a share of what it had within a day sets the brake instead: from then on
  nothing is condemned in it, by anybody, until an operator releases it, after which nothing is weighed for a day;
- while files that were copied by hand are being entered, and not all are in, no pack and no index file goes: those that
  are out may need it;
- none of these holds what the same retention has put itself: it may take that back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from uuid import UUID

import structlog

from domain.names import ObjectKind
from domain.tokens import VaultClaims
from domain.wording import plural
from services.common.database import Database, Unit
from services.common.errors import InvalidArgument, NotFound
from services.storage.store import buckets, objects, protection

MAX_LOCK_DAYS = 36500
_WINDOW = timedelta(hours=24)
# A rule that keeps the last two of hourly backups removes nine of ten snapshots every night: few are not weighed.
_FEW_SNAPSHOTS = 50


@dataclass(frozen=True, slots=True)
class Brake:
    """How much of its snapshots, and of its packs' bytes, a bucket may lose within a day, in percent.

    A bucket that had less than `floor_bytes` is not weighed.
    """

    snapshots_percent: float = 90
    bytes_percent: float = 50
    floor_bytes: int = 1 << 30

    def allows(self, had: tuple[int, int], left: tuple[int, int]) -> bool:
        """Whether a bucket that had so many snapshots and bytes may be left with fewer."""
        (had_snapshots, had_bytes), (snapshots, size) = had, left
        if had_bytes < self.floor_bytes:
            return True
        too_few = had_snapshots >= _FEW_SNAPSHOTS and snapshots < had_snapshots * (100 - self.snapshots_percent) / 100
        return not too_few and size >= had_bytes * (100 - self.bytes_percent) / 100


DEFAULT_BRAKE = Brake()


async def condemn_unheld(
    unit: Unit,
    bucket: buckets.BucketState,
    session: UUID,
    kind: ObjectKind,
    names: Sequence[bytes],
    *,
    brake: Brake,
) -> dict[bytes, str]:
    """Condemn live objects of a kind, by their SHA-256; answers those that stay, with the reason for a person.

    The bucket's row is locked, and nothing was condemned in this transaction yet.
    """
    held: dict[bytes, str] = {}
    if bucket.adopting and kind in (ObjectKind.PACK, ObjectKind.INDEX):
        own = await protection.made_among(unit, bucket.id, kind, names, session)
        held = {name: adopting_reason(bucket.id) for name in names if name not in own}
    elif bucket.lock_days:
        locked = await protection.locked(unit, bucket.id, kind, names, session)
        held = {
            name: f"it is locked until {until.astimezone(UTC):%Y-%m-%d %H:%M} UTC" for name, until in locked.items()
        }
    free = [name for name in names if name not in held]
    if free and await _brakes(unit, bucket, session, kind, free, brake=brake):
        own = await protection.made_among(unit, bucket.id, kind, free, session)
        held |= {name: _brake_reason(bucket.id) for name in free if name not in own}
        free = [name for name in free if name in own]
    if free and not bucket.is_released:  # before they go: of what is repacked, only what is live is known
        await protection.note_removal(unit, bucket, session, _WINDOW)
    if free and await objects.condemn(unit, bucket.id, kind, free, seq=bucket.seq + 1, session=session):
        await buckets.set_seq(unit, bucket.id, bucket.seq + 1)
    return held


def _brake_reason(bucket: UUID) -> str:
    """Why what the brake holds stays, for a person."""
    return f"the brake on mass removal holds the vault: `oort bucket release {bucket}` lets go of it"


def adopting_reason(bucket: UUID) -> str:
    """Why nothing goes that what is still to be adopted may need, for a person."""
    return f"files that were copied by hand are not all in: repeat `oort bucket adopt {bucket}` until it ends with 0"


async def _brakes(
    unit: Unit, bucket: buckets.BucketState, session: UUID, kind: ObjectKind, names: Sequence[bytes], *, brake: Brake
) -> bool:
    """Whether the brake holds the bucket, as it does from the removal on that would take too much."""
    if bucket.braked is not None:
        return True
    if bucket.is_released or kind not in (ObjectKind.SNAPSHOT, ObjectKind.PACK):
        return False
    before = await protection.most_had(unit, bucket.id, _WINDOW)
    had = (max(before[0], bucket.live_snapshots), max(before[1], bucket.live_bytes))
    if had[1] < brake.floor_bytes:
        return False  # as in most buckets, where nothing more is asked then
    count, size = await protection.live_among(unit, bucket.id, kind, names)
    fewer = (count, 0) if kind is ObjectKind.SNAPSHOT else (0, size)
    left = (bucket.live_snapshots - fewer[0], bucket.live_bytes - fewer[1])
    if brake.allows(had, left):
        return False
    # What is repacked lies there twice for a while.
    had = (had[0], max(before[1], bucket.live_bytes - await protection.stored(unit, bucket.id, session, _WINDOW)))
    if brake.allows(had, left):
        return False
    await protection.set_brake(unit, bucket.id)
    structlog.get_logger("storage").error(
        "the brake on mass removal holds a bucket: nothing is removed from it until `oort bucket release`",
        bucket=str(bucket.id),
        had_snapshots=had[0],
        had_bytes=had[1],
        would_leave_snapshots=left[0],
        would_leave_bytes=left[1],
    )
    return True


async def why_held(db: Database, claims: VaultClaims) -> str:
    """Why nothing is condemned in a bucket, for a person; empty while neither the brake nor an adoption holds it."""
    async with db.unit(claims.tenant, claims.user) as unit:
        found = await buckets.peek(unit, claims.bucket)
    if found is None or not (found.adopting or found.braked is not None):
        return ""
    return adopting_reason(found.id) if found.adopting else _brake_reason(found.id)


async def set_lock(db: Database, bucket: UUID, tenant: UUID | None, days: int, *, shorten: bool) -> int:
    """Lock every object of a bucket for `days` from its entry. Answers the days before.

    Raises NotFound, and InvalidArgument for a shorter lock unless `shorten` says that it is meant.
    """
    if days > MAX_LOCK_DAYS:
        raise InvalidArgument(detail=f"A lock has at most {MAX_LOCK_DAYS:,} days.")
    async with db.worker() as unit:
        found = await _locked_row(unit, bucket, tenant)
        if days < found.lock_days and not shorten:
            raise InvalidArgument(
                detail=f"The lock has {plural(found.lock_days, 'day')}, and is made shorter with --shorten only."
            )
        await protection.set_lock(unit, bucket, days)
        return found.lock_days


async def release(db: Database, bucket: UUID, tenant: UUID | None) -> bool:
    """Let go of the brake for a day; False if it did not hold the bucket. Raises NotFound."""
    async with db.worker() as unit:
        found = await _locked_row(unit, bucket, tenant)
        await protection.release(unit, bucket)
        return found.braked is not None


async def _locked_row(unit: Unit, bucket: UUID, tenant: UUID | None) -> buckets.BucketState:
    found = await buckets.lock(unit, bucket)
    if found is None or (tenant is not None and found.tenant_id != tenant):
        raise NotFound(what=f"bucket {bucket}")
    return found
