from oort.auth.v1 import accounts_pb2, accounts_pb2_grpc

from services.auth.accounts import Accounts
from services.auth.credentials import Credentials, Kdf
from services.auth.devices import Devices
from services.auth.gate import Context, Gate
from services.auth.logins import Logins, PresentedDevice, SignedIn
from services.auth.names import exactly, new_id, opaque, printable, short_text
from services.auth.sessions import TOKEN_BYTES, Sessions
from services.auth.store.users import Role
from services.common.messages import timestamp_of, uuid_of

_SIGNATURE_BYTES = 64
_PUBLIC_KEY_BYTES = 32
ROLES = {Role.USER: accounts_pb2.ROLE_USER, Role.ADMIN: accounts_pb2.ROLE_ADMIN}


class AccountsRpc(accounts_pb2_grpc.AccountServiceServicer):
    def __init__(self, gate: Gate, logins: Logins, accounts: Accounts, devices: Devices, sessions: Sessions) -> None:
        self._gate = gate
        self._logins = logins
        self._accounts = accounts
        self._devices = devices
        self._sessions = sessions

    async def GetLoginParameters(
        self, request: accounts_pb2.GetLoginParametersRequest, context: Context
    ) -> accounts_pb2.GetLoginParametersResponse:
        await self._gate.guest(context)
        kdf = await self._logins.parameters(*_named(request.tenant, request.username))
        return accounts_pb2.GetLoginParametersResponse(
            kdf=accounts_pb2.KdfParameters(
                salt=kdf.salt, memory_kib=kdf.memory_kib, iterations=kdf.iterations, lanes=kdf.lanes
            )
        )

    async def Login(self, request: accounts_pb2.LoginRequest, context: Context) -> accounts_pb2.LoginResponse:
        address = await self._gate.guest(context)
        device = _presented(request.device) if request.HasField("device") else None
        tenant, username = _named(request.tenant, request.username)
        return _signed_in(await self._logins.by_password(tenant, username, request.login_key, device, address))

    async def BeginDeviceLogin(
        self, request: accounts_pb2.BeginDeviceLoginRequest, context: Context
    ) -> accounts_pb2.BeginDeviceLoginResponse:
        await self._gate.guest(context)
        challenge = await self._sessions.challenge(uuid_of(request.device_id, "device_id"))
        return accounts_pb2.BeginDeviceLoginResponse(challenge=challenge)

    async def DeviceLogin(
        self, request: accounts_pb2.DeviceLoginRequest, context: Context
    ) -> accounts_pb2.LoginResponse:
        await self._gate.guest(context)
        device = uuid_of(request.device_id, "device_id")
        challenge = exactly(request.challenge, "challenge", TOKEN_BYTES)
        signature = exactly(request.signature, "signature", _SIGNATURE_BYTES)
        return _signed_in(await self._logins.by_device(device, challenge, signature))

    async def Logout(self, request: accounts_pb2.LogoutRequest, context: Context) -> accounts_pb2.LogoutResponse:
        caller = await self._gate.caller(context)
        if request.remove_device:
            await self._devices.revoke(caller, caller.own_device)
        await self._sessions.end(caller.token)
        return accounts_pb2.LogoutResponse()

    async def GetAccount(
        self, _request: accounts_pb2.GetAccountRequest, context: Context
    ) -> accounts_pb2.GetAccountResponse:
        standing = await self._accounts.get(await self._gate.caller(context))
        user = standing.user
        return accounts_pb2.GetAccountResponse(
            tenant_id=str(user.tenant_id),
            tenant=standing.tenant.name,
            user_id=str(user.id),
            username=user.username,
            role=ROLES[Role(user.role)],
            has_recovery=standing.credentials.recovery is not None,
            created=timestamp_of(user.created),
            password_changed=timestamp_of(standing.credentials.password_changed),
        )

    async def ChangePassword(
        self, request: accounts_pb2.ChangePasswordRequest, context: Context
    ) -> accounts_pb2.ChangePasswordResponse:
        caller, address = await self._gate.caller(context), await self._gate.guest(context)
        new = credentials_of(request.credentials)
        await self._accounts.change_password(caller, request.login_key, new, address)
        return accounts_pb2.ChangePasswordResponse()

    async def SetRecovery(
        self, request: accounts_pb2.SetRecoveryRequest, context: Context
    ) -> accounts_pb2.SetRecoveryResponse:
        caller, address = await self._gate.caller(context), await self._gate.guest(context)
        await self._accounts.set_recovery(caller, request.login_key, request.recovery_key, request.sealed_key, address)
        return accounts_pb2.SetRecoveryResponse()

    async def GetRecoverySeal(
        self, request: accounts_pb2.GetRecoverySealRequest, context: Context
    ) -> accounts_pb2.GetRecoverySealResponse:
        address = await self._gate.guest(context)
        tenant, username = _named(request.tenant, request.username)
        user, seal = await self._accounts.recovery_seal(tenant, username, request.recovery_key, address)
        return accounts_pb2.GetRecoverySealResponse(user_id=str(user), sealed_key=seal)

    async def ResetPassword(
        self, request: accounts_pb2.ResetPasswordRequest, context: Context
    ) -> accounts_pb2.ResetPasswordResponse:
        address = await self._gate.guest(context)
        tenant, username = _named(request.tenant, request.username)
        new = credentials_of(request.credentials)
        await self._accounts.reset_password(tenant, username, request.recovery_key, new, address)
        return accounts_pb2.ResetPasswordResponse()


def credentials_of(message: accounts_pb2.Credentials) -> Credentials:
    """Raises InvalidArgument."""
    kdf = Kdf(message.kdf.salt, message.kdf.memory_kib, message.kdf.iterations, message.kdf.lanes)
    return Credentials(kdf, message.login_key, message.sealed_key).checked()


def _named(tenant: str, username: str) -> tuple[str, str]:
    """Whom a guest names. What cannot be a name is nobody's, and refused as any other; NUL would trouble Postgres."""
    return short_text(tenant, "tenant"), short_text(username, "username")


def _presented(device: accounts_pb2.Device) -> PresentedDevice:
    return PresentedDevice(
        id=new_id(device.id, "device.id"),
        name=printable(device.name, "A device's name"),
        platform=short_text(device.platform, "device.platform"),
        client_version=short_text(device.client_version, "device.client_version"),
        public_key=opaque(device.public_key, "device.public_key", _PUBLIC_KEY_BYTES, least=_PUBLIC_KEY_BYTES),
        append_only=device.append_only,
    )


def _signed_in(session: SignedIn) -> accounts_pb2.LoginResponse:
    return accounts_pb2.LoginResponse(
        session_token=session.token,
        expires=timestamp_of(session.expires),
        tenant_id=str(session.tenant),
        user_id=str(session.user),
        device_id=str(session.device) if session.device else "",
        sealed_key=session.sealed_key,
    )
