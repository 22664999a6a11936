"""What a put asks of the catalogue, in one statement, hence in one snapshot and one round trip."""

from dataclasses import dataclass, fields
from uuid import UUID

from domain.names import ObjectName
from services.common.database import Unit
from services.storage.store.buckets import STATE, BucketState, Home
from services.storage.store.objects import FOUND, ObjectRow, key_of, matching
from services.storage.store.sessions import SESSION, SessionRow

# The homes are those of `buckets.homes`.
_ASK = f"""
select {STATE}, {SESSION}, {FOUND},
    array(select q.bytes from quotas q where q.tenant_id = b.tenant_id and q.name in ('', b.quota_group)) as limits,
    held.ids, held.public, held.internal, held.live
from buckets b left join sessions s on s.id = %(session)s cross join lateral (
    select array_agg(n.id order by n.id) as ids, array_agg(n.public_endpoint order by n.id) as public,
        array_agg(n.internal_endpoint order by n.id) as internal,
        array_agg(n.last_seen > now() - make_interval(secs => %(silent)s) order by n.id) as live
    from homes h join nodes n on n.id = h.node_id where h.bucket_id = b.id and not h.joining) as held
left join objects o on """  # noqa: S608 - constants
_OF_BUCKET = " where b.id = %(bucket)s"
_BUCKET_COLUMNS, _SESSION_COLUMNS, _OBJECT_COLUMNS = (len(fields(row)) for row in (BucketState, SessionRow, ObjectRow))


@dataclass(frozen=True, slots=True)
class Standing:
    """How a put stands: its bucket, its session and what has its name, if there are such; the limits of shared quotas.

    `homes` are those that have something of the bucket.
    """

    bucket: BucketState
    session: SessionRow | None
    found: ObjectRow | None
    limits: list[int]
    homes: list[Home]

    @property
    def home_nodes(self) -> frozenset[str]:
        return frozenset(home.node_id for home in self.homes)


async def standing(
    unit: Unit, bucket: UUID, session: UUID, name: ObjectName, silent_seconds: float = 0
) -> Standing | None:
    """Ask; None if the unit's scope has no such bucket. No home counts as live that was silent for so long.

    Of a transaction that has locked the bucket's row, what was committed by then.
    """
    asked = {**key_of(bucket, name), "session": session, "silent": silent_seconds}
    # To plan it costs more than to carry it out, and Postgres plans what is prepared a few times only.
    cursor = await unit.execute(_ASK + matching(name) + _OF_BUCKET, asked, prepare=True)
    row = await cursor.fetchone()
    if row is None:
        return None
    state, row = row[:_BUCKET_COLUMNS], row[_BUCKET_COLUMNS:]
    opened, row = row[:_SESSION_COLUMNS], row[_SESSION_COLUMNS:]
    found, (limits, *homes) = row[:_OBJECT_COLUMNS], row[_OBJECT_COLUMNS:]
    return Standing(
        BucketState(*state),
        SessionRow(*opened) if opened[0] is not None else None,
        ObjectRow(*found) if found[0] is not None else None,
        limits,
        [Home(*home) for home in zip(*(column or () for column in homes), strict=True)],
    )
