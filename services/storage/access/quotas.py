"""How much may be stored: the quota of a bucket, and those that it shares with others of its group and of its tenant.

Kept true: what the objects under a quota have together never passes it, however many puts into however many buckets
take effect at once; but for retention, what comes from another cluster, a part of the quota for index files of a restic
that may remove, and puts that were just taking effect when it was set.
"""

import re
from collections.abc import Sequence
from uuid import UUID

from domain.names import ObjectKind
from domain.sessions import Purpose, Scope
from domain.tokens import VaultClaims
from services.common.database import Database, Unit
from services.common.errors import InvalidArgument, NotFound
from services.storage.errors import BucketBusy, QuotaExceeded, SharedQuotaExceeded
from services.storage.store import buckets, quotas
from services.storage.store.sessions import SessionRow

MAX_BYTES = (1 << 63) - 1
_INDEX_PART = 16  # of the quota, that index files of a restic may go beyond it
# Far from a limit several puts take effect at once, none of which sees the others': as many as nodes have connections
# to the database, of an ordinary body each (a pack is full at 16 MiB, and ends with a blob). Larger are judged alone.
_AT_ONCE = 256
_ORDINARY_BYTES = 32 << 20
_is_group = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}").fullmatch


async def require_room(
    unit: Unit,
    bucket: buckets.BucketState,
    claims: VaultClaims,
    row: SessionRow,
    kind: ObjectKind,
    *,
    size: int,
    shared: Sequence[int],
    takes_effect: bool = True,
) -> None:
    """Raises QuotaExceeded, BucketBusy. With `takes_effect` the answer holds up to the end of the transaction.

    `shared` are the limits of the shared quotas that the bucket is under; with `takes_effect` as they were asked for
    after its row was locked: what was set while the lock was waited for is among them.

    The quota holds for all but retention: a prune repacks before it condemns, so a full vault would stay full. What
    replicates brings what was judged where it was stored, a prune's packs too. Nobody can tell a prune of restic from a
    backup: of one that may remove, index files may go a part beyond it.
    """
    if row.purpose in {Purpose.RETENTION, Purpose.REPLICATE}:
        return
    may_prune = row.purpose == Purpose.RESTIC and kind is ObjectKind.INDEX and Scope.DELETE in claims.scopes

    def beyond(limit: int) -> int:
        return limit // _INDEX_PART if may_prune else 0

    limits = [limit for limit in (bucket.quota_bytes, claims.quota_bytes) if limit]
    if limits and bucket.bytes + size > min(limits) + beyond(min(limits)):
        raise QuotaExceeded(bucket=bucket.id, limit=min(limits), used=bucket.bytes, size=size)
    if not shared:
        return
    if takes_effect:
        far = size + _AT_ONCE * _ORDINARY_BYTES
        # What cannot be far is not asked about first.
        may_be_far = size <= _ORDINARY_BYTES and min(shared) >= far
        try:
            found = await quotas.hold(unit, bucket, far if may_be_far else None)
        except TimeoutError as error:
            raise BucketBusy from error
    else:
        found = await quotas.of_bucket(unit, bucket)
    for quota in found:
        if size > quota.left + beyond(quota.bytes):
            whose = f"quota {quota.name}" if quota.name else "provider's quota for all vaults together"
            raise SharedQuotaExceeded(whose=whose, limit=quota.bytes, size=size)


async def set_quota(db: Database, tenant: UUID, name: str, limit: int) -> None:
    """Set what a tenant's buckets may have together, or with a name those of a group; 0: no limit any more."""
    _check(name)
    _check_limit(limit)
    async with db.unit(tenant) as unit:
        if limit:
            await quotas.put(unit, tenant, name, limit)
        else:
            await quotas.remove(unit, tenant, name)


async def set_bucket(db: Database, bucket: UUID, limit: int) -> tuple[int, int]:
    """Set what one bucket may have; 0: no limit. Answers its quota before, and the bytes it has. Raises NotFound."""
    _check_limit(limit)
    async with db.worker() as unit:
        found = await quotas.set_bucket(unit, bucket, limit)
    if found is None:
        raise NotFound(what=f"bucket {bucket}")
    return found


async def page(db: Database, after: tuple[UUID, str] | None, limit: int) -> list[quotas.Quota]:
    """Quotas of all tenants by tenant and name."""
    async with db.worker() as unit:
        return await quotas.page(unit, after, limit)


async def set_group(db: Database, bucket: UUID, name: str) -> None:
    """Put a bucket under the quota of a group of its tenant, or of none for the empty name. Raises NotFound."""
    _check(name)
    async with db.worker() as unit:
        if not await quotas.set_group(unit, bucket, name):
            raise NotFound(what=f"bucket {bucket}")


def _check_limit(limit: int) -> None:
    if not 0 <= limit <= MAX_BYTES:
        raise InvalidArgument(detail=f"A quota has at most {MAX_BYTES} bytes.")


def _check(name: str) -> None:
    if name and not _is_group(name):
        raise InvalidArgument(detail="A quota's name has 1 to 63 letters, digits, dots, dashes or underscores.")
