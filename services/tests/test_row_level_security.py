"""Every table that a tenant or a user owns is behind row-level security, as the catalogue says, so new ones count."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import class_row

from services.common.provision import APP, OWNER, WORKER, DatabaseUrls

_SERVICES = Path(__file__).parents[1]
ROLES = sorted(folder.parent.name for folder in _SERVICES.glob("*/migrations") if any(folder.glob("*.sql")))

_TABLES = """
select c.relname as name, c.relkind::text as kind, c.relrowsecurity as enabled, c.relforcerowsecurity as forced,
    pg_get_userbyid(c.relowner) as owner,
    bool_or(a.attname = 'tenant_id') as of_tenants, bool_or(a.attname = 'user_id') as of_users,
    bool_and(a.attnotnull) as not_null
from pg_class c
join pg_attribute a on a.attrelid = c.oid and a.attname in ('tenant_id', 'user_id') and not a.attisdropped
where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'm', 'v', 'f')
group by c.oid order by c.relname
"""
_POLICIES = """
select polpermissive as permissive, polcmd::text as command, polroles = '{0}' as for_everyone,
    coalesce(pg_get_expr(polqual, polrelid), '') as reads,
    coalesce(pg_get_expr(polwithcheck, polrelid), pg_get_expr(polqual, polrelid), '') as writes
from pg_policy where polrelid = %s::regclass
"""


@dataclass(frozen=True)
class Table:
    name: str
    kind: str
    enabled: bool
    forced: bool
    owner: str
    of_tenants: bool
    of_users: bool
    not_null: bool


@dataclass(frozen=True)
class Policy:
    permissive: bool
    command: str
    for_everyone: bool
    reads: str
    writes: str

    def compares(self, column: str, setting: str) -> bool:
        """Both reading and writing, and through a sub-select: the bare form is evaluated for every row."""
        form = f"current_setting('{setting}'::text, true)"
        return all(column in side and form in side and "SELECT" in side for side in (self.reads, self.writes))


def faults(table: Table, policies: list[Policy]) -> list[str]:
    found = []
    if table.kind not in {"r", "p"}:
        found.append("is no plain table, so it has no row-level security")
    if not (table.enabled and table.forced):
        found.append("row-level security is not enabled and forced")
    if table.owner != OWNER:
        found.append(f"belongs to {table.owner}")
    if not table.not_null:
        found.append("tenant_id or user_id may be null")
    if table.of_users and not table.of_tenants:
        found.append("has user_id without tenant_id")
    permissive = [policy for policy in policies if policy.permissive]
    if not permissive or not all(policy.compares("tenant_id", "oort.tenant") for policy in permissive):
        found.append("a permissive policy does not compare tenant_id with oort.tenant, reading and writing")
    restrictive = [policy for policy in policies if not policy.permissive and policy.command == "*"]
    if table.of_users and not any(
        policy.for_everyone and policy.compares("user_id", "oort.user") for policy in restrictive
    ):
        found.append("no restrictive policy compares user_id with oort.user, reading and writing")
    return [f"{table.name}: {fault}" for fault in found]


def examine(urls: DatabaseUrls) -> tuple[list[str], list[str]]:
    """Names of the tables that tenants own, and what is wrong with them."""
    with psycopg.connect(urls.owner) as owner:
        tables = owner.cursor(row_factory=class_row(Table)).execute(_TABLES).fetchall()
        found = []
        for table in tables:
            policies = owner.cursor(row_factory=class_row(Policy)).execute(_POLICIES, (table.name,)).fetchall()
            found += faults(table, policies)
    return [table.name for table in tables], found


@pytest.mark.parametrize("role", ROLES)
def test_every_table_with_a_tenant_has_forced_row_level_security(
    role: str, a_database: Callable[[str], DatabaseUrls]
) -> None:
    _, found = examine(a_database(role))
    assert not found, "\n".join(found)


def test_the_examination_finds_tables_that_lack_something(
    an_empty_database: Callable[[], DatabaseUrls],
) -> None:
    urls = an_empty_database()
    with psycopg.connect(urls.owner) as owner:
        owner.execute("create table bare (tenant_id uuid not null)")
        owner.execute("create table half (tenant_id uuid not null, user_id uuid)")
        owner.execute("alter table half enable row level security; alter table half force row level security")
        owner.execute("create policy everyone on half using (true)")
        owner.execute("create materialized view copied as select * from bare")
    tables, found = examine(urls)
    assert tables == ["bare", "copied", "half"]
    text = "\n".join(found)
    assert "bare: row-level security is not enabled and forced" in text
    assert "copied: is no plain table" in text
    assert "half: tenant_id or user_id may be null" in text
    assert "half: a permissive policy does not compare tenant_id" in text
    assert "half: no restrictive policy compares user_id" in text


def test_the_app_cannot_bypass_row_level_security_and_no_role_administers(
    an_empty_database: Callable[[], DatabaseUrls],
) -> None:
    with psycopg.connect(an_empty_database().app) as app:
        rights = app.execute(
            "select rolname, rolbypassrls, rolsuper or rolcreaterole or rolcreatedb or rolreplication"
            " from pg_roles where rolname = any(%s) order by rolname",
            ([OWNER, APP, WORKER],),
        ).fetchall()
        member = app.execute("select count(*) from pg_auth_members where member = current_user::regrole").fetchone()
    assert rights == [(APP, False, False), (OWNER, False, False), (WORKER, True, False)]
    assert member == (0,)
