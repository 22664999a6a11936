"""The schema of a role's database, moved forward by numbered plain SQL files.

Kept true: files are applied once, in order, each in one transaction, by one process at a time, beside processes that
run; a file that was applied never changes (its SHA-256 is kept beside its name).
"""

import re
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources.abc import Traversable
from typing import Any

import psycopg

from services.common.errors import StartError, Unavailable

_FILE = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
# Any fixed number: the name of the lock in each role's own database.
_LOCK = 0x006F6F7274
_TRIES = 10
_TABLE = """
create table if not exists oort_migrations (
    number int primary key,
    name text not null,
    sha256 text not null,
    applied timestamptz not null default now()
)
"""


@dataclass(frozen=True, slots=True, order=True)
class Migration:
    """One file: `0001_name.sql`."""

    number: int
    name: str
    body: bytes

    @property
    def sha256(self) -> str:
        return sha256(self.body).hexdigest()


def migrations_in(folder: Traversable) -> list[Migration]:
    """The files of a folder, in order. Raises StartError for a gap or a repeated number."""
    found = sorted(
        Migration(int(match[1]), entry.name, entry.read_bytes())
        for entry in folder.iterdir()
        if (match := _FILE.fullmatch(entry.name))
    )
    numbers = [migration.number for migration in found]
    if numbers != list(range(1, len(found) + 1)):
        raise StartError(f"migrations must be numbered 1, 2, 3 without a gap; found {numbers}")
    return found


async def migrate(owner_url: str, folder: Traversable) -> list[str]:
    """Apply what is missing as oort_owner. Answers the names of the files applied now.

    Raises Unavailable when Postgres does not answer, StartError when the database was made by a later version, or
    from files that have changed since.
    """
    wanted = migrations_in(folder)
    try:
        connection = await psycopg.AsyncConnection.connect(owner_url, autocommit=True)
    except psycopg.OperationalError as error:
        raise Unavailable(what="The database") from error
    async with connection:
        # Held by the session, so a process that dies in the middle leaves no lock behind.
        await connection.execute("select pg_advisory_lock(%s)", (_LOCK,))
        await connection.execute("set client_min_messages = warning")
        await connection.execute(_TABLE)
        await connection.execute("revoke all on oort_migrations from oort_app, oort_worker")
        cursor = await connection.execute("select number, name, sha256 from oort_migrations order by number")
        missing = _missing(wanted, await cursor.fetchall())
        for migration in missing:
            await _apply(connection, migration)
    return [migration.name for migration in missing]


async def _apply(connection: psycopg.AsyncConnection[Any], migration: Migration) -> None:
    """Apply a file, again where it and a transaction of a process that runs have waited for each other's tables."""
    for left in reversed(range(_TRIES)):
        try:
            async with connection.transaction():
                await connection.execute(migration.body)
                await connection.execute(
                    "insert into oort_migrations (number, name, sha256) values (%s, %s, %s)",
                    (migration.number, migration.name, migration.sha256),
                )
        except psycopg.errors.DeadlockDetected:
            if not left:
                raise
        else:
            return


def _missing(wanted: list[Migration], applied: list[tuple[int, str, str]]) -> list[Migration]:
    if len(applied) > len(wanted):
        raise StartError(f"the database has migration {applied[-1][1]}, which this version does not know: update Oort")
    for migration, (_, name, digest) in zip(wanted, applied, strict=False):
        if migration.sha256 != digest:
            raise StartError(f"migration {migration.name} has changed since it was applied as {name}: add a new file")
    return wanted[len(applied) :]
