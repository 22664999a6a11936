"""Postgres as an installation needs it: three roles, and a database for each of our roles.

Kept true: oort_app can neither bypass row-level security nor change a schema; running this again changes nothing but
passwords.
"""

from dataclasses import dataclass, field

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

OWNER, APP, WORKER = "oort_owner", "oort_app", "oort_worker"
# Any fixed number: roles belong to the whole server, and two provisions at once would both create them.
_LOCK = 0x70726F76

_ROLES = {
    OWNER: sql.SQL("login nosuperuser nocreatedb nocreaterole noinherit nobypassrls"),
    APP: sql.SQL("login nosuperuser nocreatedb nocreaterole noinherit nobypassrls"),
    WORKER: sql.SQL("login nosuperuser nocreatedb nocreaterole noinherit bypassrls"),
}


@dataclass(frozen=True, slots=True)
class DatabasePasswords:
    """Of the three roles of the installation."""

    owner: str = field(repr=False)
    app: str = field(repr=False)
    worker: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class DatabaseUrls:
    """How one of our roles reaches its database: libpq connection strings."""

    owner: str = field(repr=False)
    app: str = field(repr=False)
    worker: str = field(repr=False)


async def provision(superuser_dsn: str, database_name: str, passwords: DatabasePasswords) -> DatabaseUrls:
    """Create the roles and the database if they are missing, and set rights and passwords.

    Raises psycopg.Error as it comes: who runs this administers the server.
    """
    secrets = {OWNER: passwords.owner, APP: passwords.app, WORKER: passwords.worker}
    async with await psycopg.AsyncConnection.connect(superuser_dsn, autocommit=True) as server:
        await server.execute("select pg_advisory_lock(%s)", (_LOCK,))
        for role, rights in _ROLES.items():
            await _put_role(server, role, rights, secrets[role])
        cursor = await server.execute("select 1 from pg_database where datname = %s", (database_name,))
        if await cursor.fetchone() is None:
            await server.execute(
                sql.SQL("create database {} owner {} template template0 encoding 'UTF8'").format(
                    sql.Identifier(database_name), sql.Identifier(OWNER)
                )
            )
        # Still under the lock: rights that two grant at once are refused as "concurrently updated".
        here = make_conninfo(superuser_dsn, dbname=database_name)
        async with await psycopg.AsyncConnection.connect(here) as database:
            await _grant(database, database_name)
    urls = {
        role: make_conninfo(superuser_dsn, dbname=database_name, user=role, password=password)
        for role, password in secrets.items()
    }
    return DatabaseUrls(urls[OWNER], urls[APP], urls[WORKER])


async def _put_role(server: psycopg.AsyncConnection, role: str, rights: sql.SQL, password: str) -> None:
    cursor = await server.execute("select 1 from pg_roles where rolname = %s", (role,))
    verb = sql.SQL("create" if await cursor.fetchone() is None else "alter")
    await server.execute(
        sql.SQL("{} role {} {} password {}").format(verb, sql.Identifier(role), rights, sql.Literal(password))
    )


async def _grant(database: psycopg.AsyncConnection, name: str) -> None:
    here, owner = sql.Identifier(name), sql.Identifier(OWNER)
    users = sql.SQL(", ").join([sql.Identifier(APP), sql.Identifier(WORKER)])
    defaults = sql.SQL("alter default privileges for role {} in schema public grant {} to {}")
    for statement in (
        sql.SQL("revoke all on database {} from public").format(here),
        sql.SQL("grant connect on database {} to {}").format(here, users),
        sql.SQL("grant usage on schema public to {}").format(users),
        defaults.format(owner, sql.SQL("select, insert, update, delete on tables"), users),
        defaults.format(owner, sql.SQL("usage, select on sequences"), users),
    ):
        await database.execute(statement)
