from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from oort.auth.v1 import accounts_pb2, admin_pb2, admin_pb2_grpc, profiles_pb2

from services.auth.directory import NOWHERE
from services.auth.gate import Context, Gate, Need
from services.auth.moves import Moves
from services.auth.names import bounded, new_id, printable, short_text, username
from services.auth.quotas import Quotas
from services.auth.rpc.accounts import ROLES, credentials_of
from services.auth.rpc.profiles import template_message
from services.auth.store.sign_in import VaultNames
from services.auth.store.templates import Template
from services.auth.store.tenants import Tenant
from services.auth.store.users import Role, User
from services.auth.templates import Templates
from services.auth.users import NewUser, Users
from services.auth.vault_sessions import VaultSession, VaultSessions
from services.common.errors import InvalidArgument
from services.common.messages import optional_uuid_of, timestamp_of, uuid_of
from services.common.paging import page_of
from services.common.settings import split_host_port

MakeId = Callable[[], UUID]
_MOST_COPIES = 16
_MOST_ENDPOINTS = 1000
_MOST_BUCKETS = 1000
_LONGEST_DESCRIPTION = 1000


class AdminRpc(admin_pb2_grpc.AdminServiceServicer):
    def __init__(
        self, gate: Gate, users: Users, templates: Templates, sessions: VaultSessions, make_id: MakeId
    ) -> None:
        self._gate = gate
        self._users = users
        self._templates = templates
        self._sessions = sessions
        self._make_id = make_id

    async def AddUser(self, request: admin_pb2.AddUserRequest, context: Context) -> admin_pb2.AddUserResponse:
        caller = await self._gate.caller(context, Need.ADMIN)
        tenant = optional_uuid_of(request.tenant_id, "tenant_id")
        user = await self._users.add(caller, _new_user_of(request.user, request.credentials), tenant)
        return admin_pb2.AddUserResponse(user=_user(user))

    async def ListUsers(self, request: admin_pb2.ListUsersRequest, context: Context) -> admin_pb2.ListUsersResponse:
        caller = await self._gate.caller(context, Need.ADMIN)
        rows, token = await self._users.page(caller, page_of(request))
        return admin_pb2.ListUsersResponse(users=[_user(row) for row in rows], next_page_token=token)

    async def SuspendUser(
        self, request: admin_pb2.SuspendUserRequest, context: Context
    ) -> admin_pb2.SuspendUserResponse:
        caller = await self._gate.caller(context, Need.ADMIN)
        await self._users.suspend(caller, uuid_of(request.user_id, "user_id"), suspended=request.suspended)
        return admin_pb2.SuspendUserResponse()

    async def AddTenant(self, request: admin_pb2.AddTenantRequest, context: Context) -> admin_pb2.AddTenantResponse:
        caller = await self._gate.caller(context, Need.ADMIN)
        tenant, name = _tenant_of(request.tenant)
        admin = _admin_of(request.admin, request.credentials)
        return admin_pb2.AddTenantResponse(tenant=_tenant(await self._users.add_tenant(caller, tenant, name, admin)))

    async def ListTenants(
        self, request: admin_pb2.ListTenantsRequest, context: Context
    ) -> admin_pb2.ListTenantsResponse:
        caller = await self._gate.caller(context, Need.ADMIN)
        rows, token = await self._users.tenants(caller, page_of(request))
        return admin_pb2.ListTenantsResponse(tenants=[_tenant(row) for row in rows], next_page_token=token)

    async def PutTemplate(
        self, request: admin_pb2.PutTemplateRequest, context: Context
    ) -> admin_pb2.PutTemplateResponse:
        caller = await self._gate.caller(context, Need.ADMIN)
        wanted = _template_of(request.template, self._make_id)
        tenant = optional_uuid_of(request.tenant_id, "tenant_id")
        stored = await self._templates.put_as(caller, wanted, tenant, create_only=request.create_only)
        return admin_pb2.PutTemplateResponse(template=template_message(stored))

    async def ListSessions(
        self, request: admin_pb2.ListSessionsRequest, context: Context
    ) -> admin_pb2.ListSessionsResponse:
        caller = await self._gate.caller(context, Need.ADMIN)
        vault = optional_uuid_of(request.vault_id, "vault_id")
        page = await self._sessions.page(caller, vault, page_of(request, parts=2))
        return admin_pb2.ListSessionsResponse(
            sessions=map(_session, page.sessions), next_page_token=page.token, silent_cluster=page.silent
        )

    async def EndSession(self, request: admin_pb2.EndSessionRequest, context: Context) -> admin_pb2.EndSessionResponse:
        caller = await self._gate.caller(context, Need.ADMIN)
        await self._sessions.end(caller, uuid_of(request.session_id, "session_id"))
        return admin_pb2.EndSessionResponse()


class SetupRpc(admin_pb2_grpc.SetupServiceServicer):
    def __init__(self, gate: Gate, users: Users, templates: Templates, make_id: MakeId) -> None:
        self._gate = gate
        self._users = users
        self._templates = templates
        self._make_id = make_id
        self._moves = Moves(templates.db, users.directory)
        self._quotas = Quotas(templates.db, users.directory)

    async def AddFirstAdmin(
        self, request: admin_pb2.AddFirstAdminRequest, context: Context
    ) -> admin_pb2.AddFirstAdminResponse:
        await self._gate.operator(context)
        tenant, name = _tenant_of(request.tenant)
        await self._users.add_first_admin(tenant, name, _admin_of(request.admin, request.credentials))
        return admin_pb2.AddFirstAdminResponse()

    async def PutStorageCluster(
        self, request: admin_pb2.PutStorageClusterRequest, context: Context
    ) -> admin_pb2.PutStorageClusterResponse:
        await self._gate.operator(context)
        name = printable(request.name, "A storage cluster's name")
        bounded(len(request.internal_endpoints), "the number of internal_endpoints", 1, _MOST_ENDPOINTS)
        endpoints = [_endpoint(text) for text in request.internal_endpoints]
        await self._templates.put_cluster(name, endpoints)
        return admin_pb2.PutStorageClusterResponse()

    async def MoveBucket(self, request: admin_pb2.MoveBucketRequest, context: Context) -> admin_pb2.MoveBucketResponse:
        await self._gate.operator(context)
        bucket = uuid_of(request.bucket_id, "bucket_id")
        await self._moves.move(bucket, request.cluster, check=request.check)
        return admin_pb2.MoveBucketResponse()

    async def SetVaultQuota(
        self, request: admin_pb2.SetVaultQuotaRequest, context: Context
    ) -> admin_pb2.SetVaultQuotaResponse:
        await self._gate.operator(context)
        bucket = uuid_of(request.bucket_id, "bucket_id")
        await self._quotas.put(bucket, bounded(request.bytes, "bytes"))
        return admin_pb2.SetVaultQuotaResponse()

    async def GetVaultNames(
        self, request: admin_pb2.GetVaultNamesRequest, context: Context
    ) -> admin_pb2.GetVaultNamesResponse:
        await self._gate.operator(context)
        bounded(len(request.bucket_ids), "the number of bucket_ids", 0, _MOST_BUCKETS)
        asked = [uuid_of(text, "bucket_ids") for text in request.bucket_ids]
        found = await self._users.directory.names_of_buckets(asked)
        return admin_pb2.GetVaultNamesResponse(vaults=map(_names, found))

    async def PutTemplate(
        self, request: admin_pb2.PutTemplateRequest, context: Context
    ) -> admin_pb2.PutTemplateResponse:
        await self._gate.operator(context)
        wanted = _template_of(request.template, self._make_id)
        tenant = optional_uuid_of(request.tenant_id, "tenant_id")
        stored = await self._templates.put_first(wanted, tenant, create_only=request.create_only)
        return admin_pb2.PutTemplateResponse(template=template_message(stored))


def _names(row: VaultNames) -> admin_pb2.VaultNames:
    return admin_pb2.VaultNames(
        bucket_id=str(row.bucket_id),
        vault=row.vault,
        username=row.username,
        tenant=row.tenant,
        removed=row.removed,
    )


def _new_user_of(user: admin_pb2.User, credentials: accounts_pb2.Credentials) -> NewUser:
    """Raises InvalidArgument, BadName."""
    return NewUser(
        id=new_id(user.id, "user.id"),
        username=username(user.username),
        role=_role_of(user.role),
        credentials=credentials_of(credentials),
    )


def _admin_of(user: admin_pb2.User, credentials: accounts_pb2.Credentials) -> NewUser:
    """A tenant's first user, who administers it whatever the message says."""
    admin = admin_pb2.User(id=user.id, username=user.username, role=accounts_pb2.ROLE_ADMIN)
    return _new_user_of(admin, credentials)


def _role_of(role: accounts_pb2.Role.ValueType) -> Role:
    for ours, theirs in ROLES.items():
        if theirs == role:
            return ours
    raise InvalidArgument(detail="user.role is ROLE_USER or ROLE_ADMIN.")


def _tenant_of(tenant: admin_pb2.Tenant) -> tuple[UUID, str]:
    return new_id(tenant.id, "tenant.id"), printable(tenant.name, "A tenant's name")


def _endpoint(text: str) -> str:
    try:
        split_host_port(text)
    except ValueError as error:
        raise InvalidArgument(detail=f"internal_endpoints: {text} {error}.") from None
    return short_text(text, "internal_endpoints")


def _template_of(template: profiles_pb2.Template, make_id: MakeId) -> Callable[[UUID], Template]:
    """The template as it will be in a tenant. Raises InvalidArgument, BadName."""
    copies = bounded(template.copies, "template.copies", 1, _MOST_COPIES)
    wanted = Template(
        id=new_id(template.id, "template.id") if template.id else make_id(),
        tenant_id=NOWHERE,
        name=printable(template.name, "A template's name"),
        description=short_text(template.description, "template.description", _LONGEST_DESCRIPTION),
        cluster=short_text(template.cluster, "template.cluster"),
        copies=copies,
        ack_copies=bounded(template.ack_copies, "template.ack_copies", 1, copies),
        quota_bytes=bounded(template.quota_bytes, "template.quota_bytes"),
    )
    return lambda tenant: replace(wanted, tenant_id=tenant)


def _user(user: User) -> admin_pb2.User:
    return admin_pb2.User(
        id=str(user.id),
        username=user.username,
        role=ROLES[Role(user.role)],
        suspended=user.suspended,
        created=timestamp_of(user.created),
    )


def _tenant(tenant: Tenant) -> admin_pb2.Tenant:
    return admin_pb2.Tenant(id=str(tenant.id), name=tenant.name, created=timestamp_of(tenant.created))


def _session(row: VaultSession) -> admin_pb2.VaultSession:
    told = row.told
    return admin_pb2.VaultSession(
        id=told.id,
        cluster=row.cluster,
        vault_id=told.bucket_id,
        vault_name=row.vault,
        username=row.username,
        device_id=told.device_id,
        device_name=row.device,
        purpose=told.purpose,
        opened=told.opened,
        last_beat=told.last_beat,
        held_objects=told.held_objects,
        held_bytes=told.held_bytes,
    )
