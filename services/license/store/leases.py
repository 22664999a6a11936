from dataclasses import asdict, dataclass
from datetime import datetime

from psycopg.rows import class_row

from services.common.database import Unit
from services.common.lease_token import Bond, Lease


@dataclass(frozen=True, slots=True)
class HeldLease:
    """The newest lease of an instance, as this server remembers it."""

    serial: str
    installation: str
    role: str
    instance: str
    issued: datetime
    expires: datetime


async def held_by_others(unit: Unit, serial: str, installation: str, now: datetime) -> datetime | None:
    """Until when another installation holds the serial, lease and grace; None if none does."""
    cursor = await unit.execute(
        "select max(grace_ends) from leases where serial = %s and installation <> %s and grace_ends > %s",
        (serial, installation, now),
    )
    row = await cursor.fetchone()
    until: datetime | None = row[0] if row else None
    return until


async def put(unit: Unit, lease: Lease) -> None:
    """Keep the newest lease of an instance."""
    await unit.execute(
        "insert into leases (serial, installation, role, instance, fingerprint, address, issued, expires, grace_ends)"
        " values (%(serial)s, %(installation)s, %(role)s, %(instance)s, %(fingerprint)s, %(address)s, %(issued)s,"
        " %(expires)s, %(grace_ends)s) on conflict (serial, role, instance) do update set"
        " installation = excluded.installation, fingerprint = excluded.fingerprint, address = excluded.address,"
        " issued = excluded.issued, expires = excluded.expires, grace_ends = excluded.grace_ends",
        {**asdict(lease.bond), "issued": lease.issued, "expires": lease.expires, "grace_ends": lease.grace_ends},
    )


async def remove(unit: Unit, bond: Bond) -> None:
    """Forget the lease of an instance, if it is that installation's."""
    await unit.execute(
        "delete from leases where serial = %(serial)s and installation = %(installation)s and role = %(role)s"
        " and instance = %(instance)s",
        asdict(bond),
    )


async def after(unit: Unit, serial: str, role: str, instance: str, limit: int) -> list[HeldLease]:
    """At most `limit` leases, by serial, role and instance, after the given one."""
    async with unit.cursor(row_factory=class_row(HeldLease)) as cursor:
        await cursor.execute(
            "select serial, installation, role, instance, issued, expires from leases"
            " where (serial, role, instance) > (%s, %s, %s) order by serial, role, instance limit %s",
            (serial, role, instance, limit),
        )
        return await cursor.fetchall()


async def remember_nonce(unit: Unit, nonce: bytes, seen: datetime) -> bool:
    """False if it was seen before."""
    cursor = await unit.execute(
        "insert into nonces (nonce, seen) values (%s, %s) on conflict do nothing returning 1", (nonce, seen)
    )
    return await cursor.fetchone() is not None


async def forget_nonces(unit: Unit, before: datetime) -> None:
    """Those seen earlier."""
    await unit.execute("delete from nonces where seen < %s", (before,))
