"""Rows of sessions and pins."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from psycopg.rows import class_row

from domain.sessions import Purpose
from services.common.database import Unit


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as stored; `ended_seq` is None while it is open, `parent` the SHA-256 of the pinned snapshot.

    `mark_seq` and `mark_id` are of a retention's mark; a restic's is its opening.
    """

    id: UUID
    bucket_id: UUID
    device_id: UUID
    purpose: str
    parent: bytes | None
    opened_seq: int
    ended_seq: int | None
    pack_seq: int
    index_seq: int
    mark_seq: int | None = None
    mark_id: UUID | None = None

    @property
    def sees_condemned_after(self) -> int:
        """Of what is condemned, the session sees what was so after this seq: a retention sees none (rule 3)."""
        return _NEVER if self.purpose == Purpose.RETENTION else self.opened_seq


# The device of an operator's session: none.
NOBODY = UUID(int=0)
# The columns of a SessionRow, of a session `s`.
SESSION = """
s.id, s.bucket_id, s.device_id, s.purpose, s.parent, s.opened_seq, s.ended_seq, s.pack_seq, s.index_seq, s.mark_seq,
s.mark_id
"""
_NEVER = (1 << 63) - 1
_INSERT = """
insert into sessions (id, bucket_id, tenant_id, user_id, device_id, purpose, parent, opened_seq, mark_seq)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing
"""
_PIN = """
insert into pins (session_id, object_id, tenant_id, user_id)
select %s, o.id, o.tenant_id, o.user_id from objects o
where o.bucket_id = %s and o.kind = 'snapshots' and o.sha256 = %s and o.state = 'live'
"""
# A restic says every few minutes that it runs, by another lock file.
RESTIC_SILENCE = timedelta(minutes=30)
_SILENT = """
ended_seq is null and (opened < now() - %(age)s
    or last_beat < now() - case purpose when 'restic' then %(restic)s else %(silence)s end)
"""
_END_SILENT = f"""
update sessions set ended_seq = %(seq)s, ended = now() where bucket_id = %(bucket)s and {_SILENT} returning id
"""  # noqa: S608 - constants


async def get(unit: Unit, session: UUID) -> SessionRow | None:
    async with unit.cursor(row_factory=class_row(SessionRow)) as cursor:
        await cursor.execute(f"select {SESSION} from sessions s where s.id = %s", (session,))  # noqa: S608 - constants
        return await cursor.fetchone()


async def insert(unit: Unit, row: SessionRow, tenant: UUID, user: UUID) -> bool:
    """False if the id is taken, be it by a session that the unit's scope cannot see."""
    cursor = await unit.execute(
        _INSERT,
        (row.id, row.bucket_id, tenant, user, row.device_id, row.purpose, row.parent, row.opened_seq, row.mark_seq),
    )
    return cursor.rowcount == 1


async def pin(unit: Unit, session: UUID, bucket: UUID, snapshot: bytes) -> bool:
    """Pin a live snapshot; False if there is none of that name."""
    cursor = await unit.execute(_PIN, (session, bucket, snapshot))
    return cursor.rowcount == 1


async def is_pinned(unit: Unit, snapshot: int) -> bool:
    """Whether an open session has the object as its parent."""
    cursor = await unit.execute("select 1 from pins where object_id = %s limit 1", (snapshot,))
    return await cursor.fetchone() is not None


async def retention_is_open(unit: Unit, bucket: UUID) -> bool:
    cursor = await unit.execute(
        "select 1 from sessions where bucket_id = %s and ended_seq is null and purpose = 'retention'", (bucket,)
    )
    return await cursor.fetchone() is not None


async def restore_is_open(unit: Unit, bucket: UUID) -> bool:
    """Whether an operator is bringing something back from the waste basket."""
    cursor = await unit.execute(
        "select 1 from sessions where bucket_id = %s and ended_seq is null and purpose = 'adopt' and device_id = %s",
        (bucket, NOBODY),
    )
    return await cursor.fetchone() is not None


async def beat(unit: Unit, session: UUID, bucket: UUID, device: UUID) -> bool:
    """False if there is no such open session of the device."""
    cursor = await unit.execute(
        "update sessions set last_beat = now()"
        " where id = %s and bucket_id = %s and device_id = %s and ended_seq is null",
        (session, bucket, device),
    )
    return cursor.rowcount == 1


async def end(unit: Unit, session: UUID, seq: int) -> None:
    """End it and let go of its pin; the bucket's row is locked by this transaction."""
    await unit.execute(
        "update sessions set ended_seq = %s, ended = now() where id = %s and ended_seq is null", (seq, session)
    )
    await unit.execute("delete from pins where session_id = %s", (session,))


async def used_pack(unit: Unit, session: UUID, seq: int) -> None:
    """Remember that the session reserved or put a pack at `seq`."""
    await unit.execute("update sessions set pack_seq = %s where id = %s", (seq, session))


async def put_index(unit: Unit, session: UUID, seq: int) -> None:
    """Remember that the session put an index file at `seq`."""
    await unit.execute("update sessions set index_seq = %s where id = %s", (seq, session))


async def set_mark(unit: Unit, session: UUID, seq: int, mark_id: UUID) -> None:
    """Keep the mark of a retention; the bucket's row is locked."""
    await unit.execute("update sessions set mark_seq = %s, mark_id = %s where id = %s", (seq, mark_id, session))


async def buckets_of_silent(unit: Unit, silence: timedelta, age: timedelta) -> list[UUID]:
    """Buckets with open sessions that did not beat for `silence`, or were opened longer than `age` ago."""
    cursor = await unit.execute(
        f"select distinct bucket_id from sessions where {_SILENT}",  # noqa: S608 - a constant
        {"silence": silence, "age": age, "restic": RESTIC_SILENCE},
    )
    return [row[0] for row in await cursor.fetchall()]


async def end_silent(unit: Unit, bucket: UUID, seq: int, silence: timedelta, age: timedelta) -> list[UUID]:
    """End the silent sessions of a bucket whose row is locked; answers which."""
    given = {"seq": seq, "bucket": bucket, "silence": silence, "age": age, "restic": RESTIC_SILENCE}
    cursor = await unit.execute(_END_SILENT, given)
    ended = [row[0] for row in await cursor.fetchall()]
    await unit.execute("delete from pins where session_id = any(%s)", (ended,))
    return ended


async def open_among(unit: Unit, sessions: Sequence[UUID]) -> set[UUID]:
    """Those of `sessions` that are not over."""
    cursor = await unit.execute("select id from sessions where id = any(%s) and ended_seq is null", (list(sessions),))
    return {row[0] for row in await cursor.fetchall()}


async def count_open(unit: Unit) -> int:
    cursor = await unit.execute("select count(*) from sessions where ended_seq is null")
    row = await cursor.fetchone()
    return int(row[0]) if row else 0
