"""Counts of failed proofs of identity. They survive a wiped Redis and are shared by all replicas."""

from datetime import datetime, timedelta

from services.common.database import Unit


async def begin(unit: Unit, subject: bytes, now: datetime, *, free: int, longest: timedelta, memory: timedelta) -> bool:
    """Count an attempt as failed before it is judged, so that many at once count as many. False while blocked.

    After `free` failures the next attempt waits a second, then two, four, ... up to `longest`; failures older than
    `memory` are forgotten.
    """
    cursor = await unit.execute(
        """
        insert into attempts as a (subject, failures, last_failure, blocked_until)
        values (%(subject)s, 1, %(now)s, %(now)s)
        on conflict (subject) do update set
            failures = case when a.last_failure < %(forgotten)s then 1 else a.failures + 1 end,
            last_failure = %(now)s,
            blocked_until = case
                when a.last_failure < %(forgotten)s or a.failures + 1 < %(free)s then %(now)s
                else %(now)s + least(%(longest)s, power(2, least(a.failures + 1 - %(free)s, 30)) * interval '1 second')
            end
        where a.blocked_until <= %(now)s
        """,
        {"subject": subject, "now": now, "forgotten": now - memory, "free": free, "longest": longest},
    )
    return cursor.rowcount == 1


async def blocked_until(unit: Unit, subject: bytes) -> datetime | None:
    cursor = await unit.execute("select blocked_until from attempts where subject = %s", (subject,))
    row = await cursor.fetchone()
    return row[0] if row else None


async def clear(unit: Unit, subject: bytes) -> None:
    await unit.execute("delete from attempts where subject = %s", (subject,))


async def forget(unit: Unit, before: datetime) -> int:
    """Remove the counts whose last failure is older; how many they were."""
    cursor = await unit.execute("delete from attempts where last_failure < %s", (before,))
    return cursor.rowcount
