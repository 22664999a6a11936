from dataclasses import asdict

from psycopg.rows import class_row

from services.cluster.servers import Server
from services.common.database import Unit

_COLUMNS = "role, instance, version, public_endpoint, internal_endpoint, started, last_seen"


async def put(unit: Unit, server: Server) -> None:
    """Enter a server, or what it now says of itself."""
    await unit.execute(
        f"insert into servers ({_COLUMNS})"  # noqa: S608 - a constant
        " values (%(role)s, %(instance)s, %(version)s, %(public_endpoint)s, %(internal_endpoint)s, %(started)s,"
        " %(last_seen)s) on conflict (role, instance) do update set version = excluded.version,"
        " public_endpoint = excluded.public_endpoint, internal_endpoint = excluded.internal_endpoint,"
        " started = excluded.started, last_seen = greatest(servers.last_seen, excluded.last_seen)",
        asdict(server),
    )


async def after(unit: Unit, role: str, instance: str, limit: int) -> list[Server]:
    """At most `limit` servers, by role and instance, after the given one."""
    async with unit.cursor(row_factory=class_row(Server)) as cursor:
        await cursor.execute(
            f"select {_COLUMNS} from servers where (role, instance) > (%s, %s)"  # noqa: S608 - a constant
            " order by role, instance limit %s",
            (role, instance, limit),
        )
        return await cursor.fetchall()
