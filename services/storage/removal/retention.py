"""What a retention session does to its bucket: remove snapshots, draw its mark, condemn (docs/sessions.md, 9 and 10).

Kept true:
- all of it happens in an open retention session, which is alone in its bucket, in one transaction under its lock;
- the mark is drawn once, kept in the session's row, and nothing is condemned without it: no plan outlives it;
- what is condemned had no user, at that moment, but sessions that were over before the mark: whatever such a session
  has committed is in the list of snapshots that its caller has read after the mark, and no other can refer to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from domain.names import ObjectKind, ObjectName
from domain.tokens import VaultClaims
from services.common.database import Database, Unit
from services.common.errors import InvalidArgument, NotFound
from services.storage.errors import Held, IndexNeeded, MarkedAlready, MarkNeeded, SnapshotInUse
from services.storage.removal.holding import DEFAULT_BRAKE, Brake, condemn_unheld
from services.storage.sessions.standing import lock, removing
from services.storage.store import buckets, objects, sessions

CONDEMNED_AT_ONCE = 1000
CONDEMNED_KINDS = (ObjectKind.INDEX, ObjectKind.PACK, ObjectKind.KEY)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An object that stays; `reason` is for a person. `in_use`: for a user that was not over before the mark."""

    name: ObjectName
    reason: str
    in_use: bool = False


async def remove(
    db: Database, claims: VaultClaims, session: UUID, snapshot: ObjectName, brake: Brake = DEFAULT_BRAKE
) -> None:
    """Condemn a snapshot: sessions that are opened from now on do not see it (rule 9, its first step).

    The same call again answers the same. Raises SnapshotInUse while an open backup has it as its parent, Held while
    object lock or the brake holds it, NotFound if it was gone before this session was opened.
    """
    held: dict[bytes, str] = {}
    async with db.unit(claims.tenant, claims.user) as unit:
        bucket = await lock(unit, claims, session)
        row = await removing(unit, claims, session)
        found = await objects.find(unit, claims.bucket, snapshot)
        if found is None or (found.condemned_seq is not None and found.condemned_seq <= row.opened_seq):
            raise NotFound(what=f"object {snapshot} in this bucket")
        if found.condemned_seq is None:
            if await sessions.is_pinned(unit, found.id):
                raise SnapshotInUse(name=snapshot)
            held = await condemn_unheld(unit, bucket, session, snapshot.kind, [bytes(found.sha256)], brake=brake)
    # After the transaction: that the brake holds the bucket from now on is remembered.
    for reason in held.values():
        raise Held(name=snapshot, detail=reason)


async def mark(db: Database, claims: VaultClaims, session: UUID, mark_id: UUID) -> int:
    """Draw the session's mark. Answers its seq; the same `mark_id` again answers the same.

    A client whose answer was lost lists after the one that it gets in the end, which is after the mark all the same.
    Raises MarkedAlready for another `mark_id`.
    """
    async with db.unit(claims.tenant, claims.user) as unit:
        bucket = await lock(unit, claims, session)
        row = await removing(unit, claims, session)
        if row.mark_seq is not None:
            if row.mark_id != mark_id:
                raise MarkedAlready
            return row.mark_seq
        seq = bucket.seq + 1
        await sessions.set_mark(unit, session, seq, mark_id)
        await buckets.set_seq(unit, bucket.id, seq)
        return seq


async def condemn(
    db: Database, claims: VaultClaims, session: UUID, names: Sequence[ObjectName], brake: Brake = DEFAULT_BRAKE
) -> list[Refusal]:
    """Condemn index files, packs or keys, all of one kind.

    Answers those that stay for a user not over before the mark, or because object lock or the brake holds them. The
    keys stay if no other would be left: without one nobody opens the vault.

    What is condemned, being removed or gone is done already. Raises MarkNeeded; IndexNeeded when the session put a
    pack after its last index file: what that pack holds would be in no index, and the old copy of it condemned.
    """
    kind = _kind_of(names)
    if kind is None:
        return []
    async with db.unit(claims.tenant, claims.user) as unit:
        bucket = await lock(unit, claims, session)
        row = await removing(unit, claims, session)
        return await condemn_unused(unit, bucket, row, kind, names, brake=brake)


async def condemn_unused(
    unit: Unit,
    bucket: buckets.BucketState,
    row: sessions.SessionRow,
    kind: ObjectKind,
    names: Sequence[ObjectName],
    *,
    brake: Brake,
) -> list[Refusal]:
    """The step of `condemn`, in an open session that removes, of a bucket whose row is locked."""
    digests = {bytes.fromhex(name.id): name for name in names}
    if row.mark_seq is None:
        raise MarkNeeded
    if row.pack_seq > row.index_seq:
        raise IndexNeeded
    found = await objects.in_the_way(unit, bucket.id, kind, list(digests), mark_seq=row.mark_seq, session=row.id)
    stays = {bytes(one.sha256): one for one in found}
    free = [digest for digest in digests if digest not in stays]
    if kind is ObjectKind.KEY and not await objects.is_other_live(unit, bucket.id, kind, free):
        return [Refusal(name, "the vault would have no key") for name in digests.values()]
    held = await condemn_unheld(unit, bucket, row.id, kind, free, brake=brake)
    return [
        *(Refusal(digests[digest], _why(one, row.id), in_use=True) for digest, one in stays.items()),
        *(Refusal(digests[digest], reason) for digest, reason in held.items()),
    ]


def _kind_of(names: Sequence[ObjectName]) -> ObjectKind | None:
    """The one kind of all names; None if there is none.

    Raises InvalidArgument: packs are condemned when it is known which index files stay, so not in one call with them.
    """
    kinds = {name.kind for name in names}
    if not kinds <= set(CONDEMNED_KINDS) or len(kinds) > 1:
        raise InvalidArgument(detail="A call condemns index files, or packs, or keys; a snapshot is removed.")
    if len(names) > CONDEMNED_AT_ONCE:
        raise InvalidArgument(detail=f"names may have {CONDEMNED_AT_ONCE} names, and has {len(names)}.")
    return next(iter(kinds), None)


def _why(one: objects.InTheWay, own: UUID) -> str:
    if one.session_id == own:
        return f"this {one.purpose} has put it itself"
    if one.is_open:
        return f"a {one.purpose} that is running uses it (session {one.session_id})"
    return f"a {one.purpose} that ended after the mark uses it (session {one.session_id})"
