"""An administrator's calls to the auth role, signed in without a device.

Kept true: the administrator's password and a new user's never leave this process; the session is ended when it is done.
"""

import contextlib
import os
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp
from oort.auth.v1 import accounts_pb2, accounts_pb2_grpc, admin_pb2, admin_pb2_grpc, profiles_pb2, profiles_pb2_grpc

from client.account.connection import Connection, Refused, translate
from client.account.passwords import Stretching, new_account, stretch
from client.errors import NameTaken, NotFound, OortError, UsageError
from client.rpc import read_ca
from deploy.local.errors import StackNotRunning
from deploy.local.folder import StackFolder
from domain.ids import uuid7

_PAGE_SIZE = 500
_VARIABLES = ("OORT_AUTH", "OORT_CA", "OORT_ADMIN_USER", "OORT_ADMIN_PASSWORD")


@dataclass(frozen=True, slots=True, repr=False)
class Target:
    """The auth role and who administers there; the empty tenant is the installation's first."""

    endpoint: str
    ca: Path
    username: str
    password: str
    tenant: str = ""

    @classmethod
    def find(cls, data: Path | None, environ: Mapping[str, str] = os.environ) -> Self:
        """From a stack's folder, or from the environment. Raises NoStack, StackNotRunning, UsageError."""
        values: Mapping[str, str] = environ
        if data is not None:
            folder = StackFolder.find(data)
            if not folder.is_held or not folder.env.exists():
                raise StackNotRunning(folder=folder.path)
            values = dict(word.split("=", 1) for word in shlex.split(folder.env.read_text()))
        missing = [name for name in _VARIABLES if not values.get(name)]
        if missing:
            raise UsageError(detail=f"Give --data DIR of a stack, or set {', '.join(missing)} (as in DIR/env).")
        endpoint, ca, username, password = (values[name] for name in _VARIABLES)
        return cls(endpoint, Path(ca), username, password, values.get("OORT_ADMIN_TENANT", ""))


@dataclass(frozen=True, slots=True)
class UserEntry:
    id: str
    username: str
    role: str
    suspended: bool
    created: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TenantEntry:
    id: str
    name: str
    created: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TemplateEntry:
    id: str
    name: str
    description: str
    cluster: str
    copies: int
    ack_copies: int
    quota_bytes: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class SessionEntry:
    """An open session. `holds_...`: what was removed, and stays on the disks for this session, and maybe others too."""

    id: str
    cluster: str
    vault: str  # its name, or its id where the profile has it no more
    vault_id: str
    user: str
    device: str
    device_id: str
    purpose: str
    opened: str
    last_beat: str
    holds_objects: int
    holds_bytes: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Administrator:
    """A signed-in administrator; made by `sign_in`. Every call raises OortError for a person."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._admin = admin_pb2_grpc.AdminServiceStub(connection.channel)

    @classmethod
    @contextmanager
    def sign_in(cls, target: Target) -> Iterator[Self]:
        """Raises WrongPassword, ServerUnreachable, UntrustedServer."""
        ca_pem = read_ca(target.ca)
        with Connection(target.endpoint, ca_pem, str(target.ca)) as nobody:
            token = _login(nobody, target)
        with Connection(target.endpoint, ca_pem, str(target.ca), token=token) as connection:
            try:
                yield cls(connection)
            finally:
                # A session that cannot be ended ends by itself; what was done before is what matters.
                with contextlib.suppress(OortError):
                    accounts = accounts_pb2_grpc.AccountServiceStub(connection.channel)
                    connection.call(accounts.Logout, accounts_pb2.LogoutRequest())

    def add_user(self, name: str, password: str, *, admin: bool, tenant: str = "") -> UUID:
        """Raises WeakPassword, NameTaken, UsageError for a bad name."""
        user = new_id()
        credentials, _ = new_account(user, password, (name,))
        role = accounts_pb2.ROLE_ADMIN if admin else accounts_pb2.ROLE_USER
        added = admin_pb2.User(id=str(user), username=name, role=role)
        request = admin_pb2.AddUserRequest(user=added, credentials=credentials, tenant_id=tenant)
        self.connection.call(self._admin.AddUser, request)
        return user

    def add_tenant(self, name: str, admin: str, password: str) -> UUID:
        """Raises as `add_user` does."""
        tenant, user = new_id(), new_id()
        credentials, _ = new_account(user, password, (admin, name))
        request = admin_pb2.AddTenantRequest(
            tenant=admin_pb2.Tenant(id=str(tenant), name=name),
            admin=admin_pb2.User(id=str(user), username=admin, role=accounts_pb2.ROLE_ADMIN),
            credentials=credentials,
        )
        self.connection.call(self._admin.AddTenant, request)
        return tenant

    def users(self) -> Iterator[UserEntry]:
        token, more = "", True
        while more:
            request = admin_pb2.ListUsersRequest(page_size=_PAGE_SIZE, page_token=token)
            page = self.connection.call(self._admin.ListUsers, request)
            for user in page.users:
                role = "admin" if user.role == accounts_pb2.ROLE_ADMIN else "user"
                yield UserEntry(user.id, user.username, role, user.suspended, time_text(user.created))
            token = page.next_page_token
            more = bool(token)

    def suspend(self, name: str, *, suspended: bool) -> None:
        """Keep a user of the administrator's tenant out, or let it in. Raises NotFound, UsageError for oneself."""
        found = next((user for user in self.users() if user.username == name), None)
        if found is None:
            raise NotFound(detail=f"No user is named '{name}': `oort user list` lists those there are.")
        request = admin_pb2.SuspendUserRequest(user_id=found.id, suspended=suspended)
        self.connection.call(self._admin.SuspendUser, request)

    def tenants(self) -> Iterator[TenantEntry]:
        token, more = "", True
        while more:
            request = admin_pb2.ListTenantsRequest(page_size=_PAGE_SIZE, page_token=token)
            page = self.connection.call(self._admin.ListTenants, request)
            for tenant in page.tenants:
                yield TenantEntry(tenant.id, tenant.name, time_text(tenant.created))
            token = page.next_page_token
            more = bool(token)

    def add_template(
        self,
        name: str,
        copies: int,
        ack_copies: int = 1,
        *,
        cluster: str = "",
        quota_bytes: int = 0,
        tenant: str = "",
    ) -> None:
        """Offer vaults in `copies` copies, of which `ack_copies` must be whole before a put is acknowledged.

        On a storage cluster, or the only one, to a tenant (its id), or the administrator's own; each vault with a quota
        if it is not 0. Raises NameTaken (vaults were asked for by that name, in its number of copies), NotFound for the
        tenant, UsageError for a bad name or number.
        """
        described = "one copy" if copies == 1 else f"{copies} copies on {copies} nodes"
        template = profiles_pb2.Template(
            id=str(new_id()),
            name=name,
            description=described,
            cluster=cluster,
            copies=copies,
            ack_copies=ack_copies,
            quota_bytes=quota_bytes,
        )
        request = admin_pb2.PutTemplateRequest(template=template, tenant_id=tenant, create_only=True)
        try:
            self.connection.call(self._admin.PutTemplate, request)
        except NameTaken:
            raise NameTaken(detail=f"There is a template named {name} already: choose another name.") from None

    def templates(self) -> Iterator[TemplateEntry]:
        profiles = profiles_pb2_grpc.ProfileServiceStub(self.connection.channel)
        token, more = "", True
        while more:
            request = profiles_pb2.ListTemplatesRequest(page_size=_PAGE_SIZE, page_token=token)
            page = self.connection.call(profiles.ListTemplates, request)
            for found in page.templates:
                yield TemplateEntry(
                    found.id,
                    found.name,
                    found.description,
                    found.cluster,
                    found.copies,
                    found.ack_copies,
                    found.quota_bytes,
                )
            token = page.next_page_token
            more = bool(token)

    def sessions(self, vault: str = "") -> tuple[list[SessionEntry], list[str]]:
        """Open sessions of the administrator's tenant, on one vault (its id) or all; and the clusters that are silent.

        Raises UsageError for a bad id.
        """
        listed: list[SessionEntry] = []
        silent: list[str] = []
        token, more = "", True
        while more:
            request = admin_pb2.ListSessionsRequest(vault_id=vault, page_size=_PAGE_SIZE, page_token=token)
            page = self.connection.call(self._admin.ListSessions, request)
            listed += map(_session, page.sessions)
            silent += [page.silent_cluster] if page.silent_cluster else []
            token = page.next_page_token
            more = bool(token)
        return listed, silent

    def end_session(self, session: str) -> None:
        """Raises UsageError for what is no id, NotFound."""
        self.connection.call(self._admin.EndSession, admin_pb2.EndSessionRequest(session_id=session))


def _session(found: admin_pb2.VaultSession) -> SessionEntry:
    return SessionEntry(
        found.id,
        found.cluster,
        found.vault_name or found.vault_id,
        found.vault_id,
        found.username,
        found.device_name or found.device_id,
        found.device_id,
        found.purpose,
        time_text(found.opened),
        time_text(found.last_beat),
        found.held_objects,
        found.held_bytes,
    )


def _login(connection: Connection, target: Target) -> str:
    """The token of a new session without a device."""
    accounts = accounts_pb2_grpc.AccountServiceStub(connection.channel)
    parameters = accounts_pb2.GetLoginParametersRequest(tenant=target.tenant, username=target.username)
    try:
        asked = connection.ask_as_nobody(accounts.GetLoginParameters, parameters)
        keys = stretch(target.password, Stretching.from_message(asked.kdf))
        request = accounts_pb2.LoginRequest(tenant=target.tenant, username=target.username, login_key=keys.login)
        return connection.ask_as_nobody(accounts.Login, request).session_token
    except Refused as refused:
        raise translate(refused.refusal, target.endpoint) from None


def new_id() -> UUID:
    return uuid7(time.time_ns() // 1_000_000, os.urandom(10))


def time_text(stamp: Timestamp) -> str:
    return stamp.ToDatetime(UTC).isoformat(timespec="seconds")
