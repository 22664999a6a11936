from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from services.common.database import Unit


@dataclass(frozen=True, slots=True)
class StorageCluster:
    name: str
    internal_endpoints: list[str]  # host:port, as are the public ones
    public_endpoints: list[str]
    described: datetime | None  # when the cluster last said which the public ones are


async def put(unit: Unit, name: str, internal_endpoints: list[str]) -> None:
    await unit.execute(
        "insert into storage_clusters (name, internal_endpoints) values (%s, %s)"
        " on conflict (name) do update set internal_endpoints = excluded.internal_endpoints, described = null",
        (name, internal_endpoints),
    )


async def get(unit: Unit, name: str) -> StorageCluster | None:
    async with unit.cursor(row_factory=class_row(StorageCluster)) as cursor:
        await cursor.execute(
            "select name, internal_endpoints, public_endpoints, described from storage_clusters where name = %s",
            (name,),
        )
        return await cursor.fetchone()


async def names(unit: Unit) -> list[str]:
    cursor = await unit.execute("select name from storage_clusters order by name")
    return [row[0] for row in await cursor.fetchall()]


async def set_public_endpoints(unit: Unit, name: str, endpoints: list[str], now: datetime) -> None:
    await unit.execute(
        "update storage_clusters set public_endpoints = %s, described = %s where name = %s", (endpoints, now, name)
    )
