from datetime import datetime

from services.common.database import Unit


async def put(unit: Unit, serial: str, description: str, created: datetime) -> None:
    """Enter a serial; one that exists stays as it is."""
    await unit.execute(
        "insert into serials (serial, description, created) values (%s, %s, %s) on conflict do nothing",
        (serial, description, created),
    )


async def lock(unit: Unit, serial: str) -> bool:
    """Let no one else give leases of this serial until the unit ends. False if there is no such serial."""
    cursor = await unit.execute("select 1 from serials where serial = %s for update", (serial,))
    return await cursor.fetchone() is not None
