"""Row-level security by itself: the gate lets everything through, and still nobody meets another's rows.

The caller is an administrator and a device of its own; what it names belongs to another user of its tenant and to a
user of another tenant. After all of it their rows are the same as before.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from oort.auth.v1 import (
    accounts_pb2,
    admin_pb2,
    devices_pb2,
    jobs_pb2,
    profiles_pb2,
)
from psycopg import sql

from services.auth.store.users import Role
from services.auth.tests.kit import (
    Ground,
    LetEverythingThrough,
    SignedIn,
    World,
    a_name,
    an_id,
    as_caller,
    credentials_with,
    refused,
)

OWNED = (
    *("users", "credentials", "devices", "items", "vaults", "retention_policies", "rest_access", "jobs", "job_log"),
    "job_vaults",
)


@dataclass
class Belongings:
    """One user's session and one row of each kind."""

    session: SignedIn
    item: str
    vault: str
    local: str
    job: str

    @property
    def ids(self) -> set[str]:
        person = self.session.person
        return {person.id, self.session.device, self.item, self.vault, self.local, self.job}


async def belongings(world: World, session: SignedIn) -> Belongings:
    """A row of each kind, made as a client makes them."""
    metadata = session.metadata
    item, local, job = (str(an_id()) for _ in range(3))
    vault = (await world.a_vault(session)).id
    await world.profiles.PutItem(
        profiles_pb2.PutItemRequest(item=profiles_pb2.Item(id=item, engine="engine1/file", sealed=b"x")),
        metadata=metadata,
    )
    place = profiles_pb2.Vault(id=local, name="disk", kind=profiles_pb2.VAULT_KIND_LOCAL, sealed_place=b"x")
    await world.profiles.AddVault(profiles_pb2.AddVaultRequest(vault=place), metadata=metadata)
    policy = profiles_pb2.RetentionPolicy(mode=802, ranges=[profiles_pb2.RetentionRange(type=900, jobs=1)])
    await world.profiles.SetRetention(
        profiles_pb2.SetRetentionRequest(vault_id=vault, item_id=item, policy=policy), metadata=metadata
    )
    await world.profiles.IssueRestAccess(profiles_pb2.IssueRestAccessRequest(vault_id=vault), metadata=metadata)
    await world.jobs.StartJob(
        jobs_pb2.StartJobRequest(job=jobs_pb2.Job(id=job, kind=4001, vault_id=vault)), metadata=metadata
    )
    await world.jobs.AppendLog(
        jobs_pb2.AppendLogRequest(
            job_id=job, lines=[jobs_pb2.LogLine(severity=jobs_pb2.SEVERITY_INFO, sealed=b"line")]
        ),
        metadata=metadata,
    )
    ended = str(an_id())
    await world.jobs.StartJob(
        jobs_pb2.StartJobRequest(job=jobs_pb2.Job(id=ended, kind=4001, vault_id=vault)), metadata=metadata
    )
    results = [jobs_pb2.VaultResult(vault_id=vault, status=5000, snapshot="ab" * 32)]
    await world.jobs.FinishJob(jobs_pb2.FinishJobRequest(job_id=ended, status=5000, vaults=results), metadata=metadata)
    return Belongings(session, item, vault, local, job)


@dataclass
class Stage:
    """The caller behind an open gate, and whom it must not meet."""

    open: World
    caller: Belongings
    colleague: Belongings
    stranger: Belongings

    @property
    def victims(self) -> tuple[Belongings, Belongings]:
        return self.colleague, self.stranger


@asynccontextmanager
async def a_stage(ground: Ground) -> AsyncIterator[Stage]:
    async with ground.world() as world:
        boss = await world.a_tenant()
        mine = await belongings(world, await world.signed_in(await world.a_user(boss)))
        colleague = await belongings(world, await world.signed_in(await world.a_user(boss)))
        stranger = await belongings(world, await world.a_signed_in_user())
        gate = LetEverythingThrough(as_caller(mine.session, Role.ADMIN))
        async with ground.world(gate, world.clock) as opened:
            # Both worlds ask one storage cluster, which has the victims' buckets.
            opened.nodes.buckets.update(world.nodes.buckets)
            await opened.a_template(mine.session.person.tenant_id)
            yield Stage(opened, mine, colleague, stranger)


def rows_of(ground: Ground, superuser_dsn: str, user: str) -> dict[str, list[str]]:
    """All that the tables hold of one user, as text."""
    name = psycopg.conninfo.conninfo_to_dict(ground.database.owner)["dbname"]
    found = {}
    with psycopg.connect(superuser_dsn, dbname=name) as connection:
        for table in OWNED:
            column = "id" if table == "users" else "user_id"
            query = sql.SQL("select t::text from {} t where {} = %s order by 1").format(
                sql.Identifier(table), sql.Identifier(column)
            )
            found[table] = [row[0] for row in connection.execute(query, (user,))]
    return found


Attempt = Callable[[World, Belongings], Awaitable[Any]]

# What names a row of somebody else, with the reasons for which it may be refused. None: it answers, and does nothing.
ATTEMPTS: dict[str, tuple[Attempt, tuple[str, ...] | None]] = {
    "RenameDevice": (
        lambda w, v: w.devices.RenameDevice(devices_pb2.RenameDeviceRequest(id=v.session.device, name="stolen")),
        ("NOT_FOUND",),
    ),
    "RevokeDevice": (
        lambda w, v: w.devices.RevokeDevice(devices_pb2.RevokeDeviceRequest(id=v.session.device)),
        ("NOT_FOUND",),
    ),
    "SetAppendOnly": (
        lambda w, v: w.devices.SetAppendOnly(devices_pb2.SetAppendOnlyRequest(id=v.session.device, append_only=True)),
        ("NOT_FOUND",),
    ),
    "PutItem": (
        lambda w, v: w.profiles.PutItem(
            profiles_pb2.PutItemRequest(item=profiles_pb2.Item(id=v.item, engine="e", sealed=b"y", version=1))
        ),
        ("NOT_FOUND",),
    ),
    "PutItem, as if new": (
        lambda w, v: w.profiles.PutItem(
            profiles_pb2.PutItemRequest(item=profiles_pb2.Item(id=v.item, engine="e", sealed=b"y"))
        ),
        ("INVALID_ARGUMENT",),
    ),
    "DeleteItem": (lambda w, v: w.profiles.DeleteItem(profiles_pb2.DeleteItemRequest(id=v.item)), None),
    "AddVault": (
        lambda w, v: w.profiles.AddVault(
            profiles_pb2.AddVaultRequest(
                vault=profiles_pb2.Vault(
                    id=v.local, name=a_name(), kind=profiles_pb2.VAULT_KIND_LOCAL, sealed_place=b"x"
                )
            )
        ),
        ("INVALID_ARGUMENT",),
    ),
    "RequestVault": (
        lambda w, v: w.profiles.RequestVault(
            profiles_pb2.RequestVaultRequest(id=v.vault, name=a_name(), template="default")
        ),
        ("INVALID_ARGUMENT",),
    ),
    "SetVaultKey": (
        lambda w, v: w.profiles.SetVaultKey(profiles_pb2.SetVaultKeyRequest(vault_id=v.vault, sealed_key=b"mine")),
        ("NOT_FOUND",),
    ),
    "SetVaultPlace": (
        lambda w, v: w.profiles.SetVaultPlace(
            profiles_pb2.SetVaultPlaceRequest(vault_id=v.local, sealed_place=b"mine", replaces=b"x")
        ),
        ("NOT_FOUND",),
    ),
    "RemoveVault": (
        lambda w, v: w.profiles.RemoveVault(profiles_pb2.RemoveVaultRequest(vault_id=v.vault)),
        ("NOT_FOUND",),
    ),
    "SetRetention": (
        lambda w, v: w.profiles.SetRetention(
            profiles_pb2.SetRetentionRequest(vault_id=v.vault, policy=profiles_pb2.RetentionPolicy(mode=801))
        ),
        ("NOT_FOUND",),
    ),
    "SetRetention, to none": (
        lambda w, v: w.profiles.SetRetention(profiles_pb2.SetRetentionRequest(vault_id=v.vault, item_id=v.item)),
        ("NOT_FOUND",),
    ),
    "IssueVaultToken": (
        lambda w, v: w.profiles.IssueVaultToken(profiles_pb2.IssueVaultTokenRequest(vault_id=v.vault, scopes=["read"])),
        ("NOT_FOUND",),
    ),
    "IssueRestAccess": (
        lambda w, v: w.profiles.IssueRestAccess(profiles_pb2.IssueRestAccessRequest(vault_id=v.vault)),
        ("NOT_FOUND",),
    ),
    "RevokeRestAccess": (
        lambda w, v: w.profiles.RevokeRestAccess(profiles_pb2.RevokeRestAccessRequest(vault_id=v.vault)),
        ("NOT_FOUND",),
    ),
    "StartJob": (
        lambda w, v: w.jobs.StartJob(jobs_pb2.StartJobRequest(job=jobs_pb2.Job(id=v.job, kind=4001))),
        ("INVALID_ARGUMENT",),
    ),
    "StartJob, on another's vault": (
        lambda w, v: w.jobs.StartJob(
            jobs_pb2.StartJobRequest(job=jobs_pb2.Job(id=str(an_id()), kind=4001, vault_id=v.vault))
        ),
        ("NOT_FOUND",),
    ),
    "ReportProgress": (
        lambda w, v: w.jobs.ReportProgress(jobs_pb2.ReportProgressRequest(job_id=v.job, counter=9)),
        ("NOT_FOUND",),
    ),
    "AppendLog": (
        lambda w, v: w.jobs.AppendLog(
            jobs_pb2.AppendLogRequest(
                job_id=v.job, first=1, lines=[jobs_pb2.LogLine(severity=jobs_pb2.SEVERITY_INFO, sealed=b"planted")]
            )
        ),
        ("NOT_FOUND",),
    ),
    "FinishJob": (
        lambda w, v: w.jobs.FinishJob(jobs_pb2.FinishJobRequest(job_id=v.job, status=5000)),
        ("NOT_FOUND",),
    ),
    "ListLog": (lambda w, v: w.jobs.ListLog(jobs_pb2.ListLogRequest(job_id=v.job)), ("NOT_FOUND",)),
}

# What answers rows without naming one.
LISTS: dict[str, Callable[[World], Awaitable[Any]]] = {
    "GetAccount": lambda w: w.accounts.GetAccount(accounts_pb2.GetAccountRequest()),
    "ListDevices": lambda w: w.devices.ListDevices(devices_pb2.ListDevicesRequest()),
    "ListItems": lambda w: w.profiles.ListItems(profiles_pb2.ListItemsRequest(all_devices=True)),
    "ListVaults": lambda w: w.profiles.ListVaults(profiles_pb2.ListVaultsRequest()),
    "ListTemplates": lambda w: w.profiles.ListTemplates(profiles_pb2.ListTemplatesRequest()),
    "ListJobs": lambda w: w.jobs.ListJobs(jobs_pb2.ListJobsRequest(all_devices=True)),
}

# Of these the tests below speak one by one.
IN_TURN = {
    "ListUsers",
    "ListTenants",
    "SuspendUser",
    "AddUser",
    "AddTenant",
    "PutTemplate",
    "ChangePassword",
    "SetRecovery",
    "Logout",
    "ListSessions",  # test_vault_sessions.py
    "EndSession",
}
# These ask for no session: they prove a secret first (test_logins.py, test_passwords.py).
FOR_GUESTS = {
    "GetLoginParameters",
    "Login",
    "BeginDeviceLogin",
    "DeviceLogin",
    "GetRecoverySeal",
    "ResetPassword",
}


def test_every_call_of_the_public_listener_is_tried_here() -> None:
    services = [
        accounts_pb2.DESCRIPTOR.services_by_name["AccountService"],
        devices_pb2.DESCRIPTOR.services_by_name["DeviceService"],
        profiles_pb2.DESCRIPTOR.services_by_name["ProfileService"],
        jobs_pb2.DESCRIPTOR.services_by_name["JobService"],
        admin_pb2.DESCRIPTOR.services_by_name["AdminService"],
    ]
    calls = {method.name for service in services for method in service.methods}
    assert calls == {name.split(",")[0] for name in ATTEMPTS} | set(LISTS) | IN_TURN | FOR_GUESTS


async def test_what_names_another_users_row_finds_none_and_changes_none(ground: Ground, postgres: Any) -> None:
    async with a_stage(ground) as stage:
        for victim in stage.victims:
            before = rows_of(ground, postgres.superuser_dsn, victim.session.person.id)
            assert all(before[table] for table in OWNED)
            for attempt, reasons in ATTEMPTS.values():
                if reasons is None:
                    await attempt(stage.open, victim)
                    continue
                with refused(*reasons) as refusal:
                    await attempt(stage.open, victim)
                assert victim.session.person.username not in refusal.details
            assert rows_of(ground, postgres.superuser_dsn, victim.session.person.id) == before


async def test_lists_hold_the_callers_own_rows_alone(ground: Ground) -> None:
    async with a_stage(ground) as stage:
        answered = ""
        for list_them in LISTS.values():
            answered += str(await list_them(stage.open))
        assert all(mine in answered for mine in stage.caller.ids)
        for victim in stage.victims:
            assert not any(theirs in answered for theirs in victim.ids)


async def test_a_caller_who_claims_anothers_device_or_user_still_sees_nothing_of_it(ground: Ground) -> None:
    async with a_stage(ground) as stage:
        mine = stage.caller.session
        for victim in stage.victims:
            stolen = SignedIn(mine.person, mine.token, victim.session.device, mine.key)
            async with ground.world(LetEverythingThrough(as_caller(stolen)), stage.open.clock) as opened:
                items = await opened.profiles.ListItems(profiles_pb2.ListItemsRequest())
                jobs = await opened.jobs.ListJobs(jobs_pb2.ListJobsRequest())
                assert not items.items
                assert not jobs.jobs
                with refused("NOT_FOUND"):
                    await opened.jobs.FinishJob(jobs_pb2.FinishJobRequest(job_id=victim.job, status=5000))
                with refused("DEVICE_UNKNOWN"):
                    await opened.profiles.IssueVaultToken(
                        profiles_pb2.IssueVaultTokenRequest(vault_id=stage.caller.vault, scopes=["read"])
                    )


async def test_a_caller_of_one_tenant_who_claims_a_user_of_another_sees_nothing(ground: Ground) -> None:
    async with a_stage(ground) as stage:
        torn = SignedIn(stage.stranger.session.person, "", stage.stranger.session.device, stage.caller.session.key)
        torn.person.tenant_id = stage.caller.session.person.tenant_id
        async with ground.world(LetEverythingThrough(as_caller(torn)), stage.open.clock) as opened:
            for name, list_them in LISTS.items():
                if name == "ListTemplates":
                    continue  # a tenant's templates are for all of its users
                if name == "GetAccount":
                    with refused("NOT_SIGNED_IN"):
                        await list_them(opened)
                    continue
                answered = str(await list_them(opened))
                assert not any(theirs in answered for theirs in stage.stranger.ids), name


async def test_an_administrators_calls_end_at_its_tenant(ground: Ground, postgres: Any) -> None:
    async with a_stage(ground) as stage:
        victim = stage.stranger.session.person
        before = rows_of(ground, postgres.superuser_dsn, victim.id)
        users = str(await stage.open.admin.ListUsers(admin_pb2.ListUsersRequest()))
        assert stage.caller.session.person.id in users
        assert stage.colleague.session.person.id in users
        assert victim.id not in users
        with refused("NOT_FOUND"):
            await stage.open.admin.SuspendUser(admin_pb2.SuspendUserRequest(user_id=victim.id, suspended=True))
        user = admin_pb2.User(id=str(an_id()), username=a_name(), role=accounts_pb2.ROLE_USER)
        add = admin_pb2.AddUserRequest(user=user, credentials=credentials_with(bytes(32)), tenant_id=victim.tenant_id)
        with refused("NOT_ALLOWED"):
            await stage.open.admin.AddUser(add)
        add.tenant_id, add.user.id = "", victim.id
        with refused("INVALID_ARGUMENT"):
            await stage.open.admin.AddUser(add)
        with refused("NOT_ALLOWED"):
            await stage.open.admin.ListTenants(admin_pb2.ListTenantsRequest())
        tenant = admin_pb2.AddTenantRequest(
            tenant=admin_pb2.Tenant(id=victim.tenant_id, name=a_name()),
            admin=user,
            credentials=credentials_with(bytes(32)),
        )
        with refused("NOT_ALLOWED"):
            await stage.open.admin.AddTenant(tenant)
        template = profiles_pb2.Template(name="default", copies=1, ack_copies=1)
        with refused("NOT_ALLOWED"):
            await stage.open.admin.PutTemplate(
                admin_pb2.PutTemplateRequest(template=template, tenant_id=victim.tenant_id)
            )
        assert rows_of(ground, postgres.superuser_dsn, victim.id) == before


async def test_a_caller_changes_its_own_password_and_code_alone(ground: Ground, postgres: Any) -> None:
    async with a_stage(ground) as stage:
        before = [rows_of(ground, postgres.superuser_dsn, victim.session.person.id) for victim in stage.victims]
        login_key = stage.caller.session.person.login_key
        await stage.open.accounts.SetRecovery(
            accounts_pb2.SetRecoveryRequest(login_key=login_key, recovery_key=b"r" * 32, sealed_key=b"x")
        )
        await stage.open.accounts.ChangePassword(
            accounts_pb2.ChangePasswordRequest(login_key=login_key, credentials=credentials_with(b"n" * 32))
        )
        await stage.open.accounts.Logout(accounts_pb2.LogoutRequest(remove_device=True))
        after = [rows_of(ground, postgres.superuser_dsn, victim.session.person.id) for victim in stage.victims]
        assert after == before


async def test_in_a_users_unit_tables_hold_that_users_rows_without_being_asked_for_them(ground: Ground) -> None:
    async with a_stage(ground) as stage:
        person = stage.caller.session.person
        async with stage.open.db.unit(UUID(person.tenant_id), UUID(person.id)) as unit:
            for table in OWNED:
                owner = sql.Identifier("id" if table == "users" else "user_id")
                cursor = await unit.execute(
                    sql.SQL("select distinct tenant_id::text, {}::text from {}").format(owner, sql.Identifier(table))
                )
                assert await cursor.fetchall() == [(person.tenant_id, person.id)], table
        async with stage.open.db.unit(UUID(person.tenant_id)) as unit:
            for table in OWNED:
                cursor = await unit.execute(
                    sql.SQL("select distinct tenant_id::text from {}").format(sql.Identifier(table))
                )
                assert await cursor.fetchall() == [(person.tenant_id,)], table


async def test_without_a_tenant_the_app_sees_no_row_and_writes_none(ground: Ground) -> None:
    async with a_stage(ground) as stage, stage.open.db.unit() as unit:
        for table in ("tenants", "templates", *OWNED):
            cursor = await unit.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(table)))
            assert await cursor.fetchone() == (0,), table
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await unit.execute("insert into tenants (id, name, created) values (gen_random_uuid(), 'planted', now())")


async def test_every_table_of_a_tenant_or_user_has_forced_row_level_security(ground: Ground) -> None:
    async with ground.world() as world, world.db.worker() as unit:
        cursor = await unit.execute(
            """
            select c.relname, c.relrowsecurity and c.relforcerowsecurity,
                   array_agg(distinct a.attname::text) filter (where a.attname in ('tenant_id', 'user_id')),
                   (select array_agg(p.polname::text order by p.polname) from pg_policy p
                    where p.polrelid = c.oid and p.polwithcheck is not null
                    and p.polpermissive = (p.polname = 'tenant_rows'))
            from pg_class c join pg_attribute a on a.attrelid = c.oid
            where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace
            group by c.oid, c.relname, c.relrowsecurity, c.relforcerowsecurity
            """
        )
        tables = {row[0]: row[1:] for row in await cursor.fetchall()}
    shared = {"attempts", "storage_clusters", "oort_migrations"}
    assert {name for name, (_, owners, _) in tables.items() if not owners} == shared | {"tenants"}
    for name, (secured, owners, policies) in tables.items():
        if name in shared:
            continue
        of_user = name == "users" or "user_id" in (owners or [])
        assert secured, name
        assert policies == (["tenant_rows", "user_rows"] if of_user else ["tenant_rows"]), name


def test_one_module_alone_reads_across_tenants() -> None:
    role = Path(__file__).parent.parent
    users = [path.name for path in role.rglob("*.py") if ".worker()" in path.read_text() and "tests" not in path.parts]
    assert users == ["directory.py"]
