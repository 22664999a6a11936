"""Logging in and out, the password, and the recovery code.

Kept true: the password and K stay in this process; a device's key never leaves its home; after a change of the
password every other device works on, because each keeps K under a key of its own.
"""

import platform
import secrets
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from oort.auth.v1 import accounts_pb2, accounts_pb2_grpc

from client.account import passwords, recovery
from client.account.connection import Connection, Refused, translate
from client.account.device_login import account_key, connect
from client.account.home import Account, Home
from client.account.seals import KEY_BYTES, Sealer, SealPurpose
from client.errors import BadRecoveryCode, NotLoggedIn, OortError, WrongPassword
from client.rpc import read_ca
from client.version import VERSION
from domain.ids import uuid7

# What auth last said belongs to one account.
_CACHES = ("vaults.cache", "items.cache")


@dataclass(frozen=True, slots=True)
class Server:
    """Where to log in. `tenant` may be empty: the installation's first."""

    address: str
    ca: Path
    tenant: str = ""


def login(home: Home, server: Server, username: str, password: str, *, append_only: bool = False) -> Account:
    """Log this device in, and register it if it is new; from then on it may only add, if `append_only` says so.

    Raises WrongPassword and other kinds of OortError.
    """
    ca_pem = read_ca(server.ca)
    home.subfolder(home.folder)
    with Connection(server.address, ca_pem, str(server.ca)) as connection:
        accounts = accounts_pb2_grpc.AccountServiceStub(connection.channel)
        keys = _stretch(connection, accounts, server.tenant, username, password)
        identity = _identity(home, server, username)
        described = _describe(identity, append_only=append_only)
        request = accounts_pb2.LoginRequest(
            tenant=server.tenant, username=username, login_key=keys.login, device=described
        )
        try:
            answer = connection.ask_as_nobody(accounts.Login, request)
        except Refused as refused:
            if refused.refusal.reason != "DEVICE_UNKNOWN":
                raise translate(refused.refusal, server.address) from None
            # This device was revoked: it comes back as a new one.
            identity = _new_identity()
            request.device.CopyFrom(_describe(identity, append_only=append_only))
            answer = _as_nobody(connection, accounts, request)
    user = UUID(answer.user_id)
    account_key = passwords.open_account_key(user, keys, answer.sealed_key)
    sealing_key = secrets.token_bytes(KEY_BYTES)
    sealer = Sealer(sealing_key, user)
    account = Account(
        server=server.address,
        ca_file=str(server.ca.absolute()),
        tenant=server.tenant,
        username=username,
        user_id=user,
        device_id=identity.device_id,
        device_key=identity.device_key,
        sealing_key=sealing_key,
        sealed_account_key=sealer.seal(SealPurpose.ACCOUNT_KEY_BY_DEVICE, account_key, str(identity.device_id)),
    )
    home.forget(*_CACHES)
    home.keep_login(account, ca_pem, answer.session_token)
    return account


def logout(home: Home, *, remove_device: bool) -> OortError | None:
    """End the session and forget the account key. The device keeps its id, unless it is removed.

    Answers why the server could not be told, if it could not: the device is logged out all the same.
    """
    account = home.account()
    untold: OortError | None = None
    try:
        with connect(home) as connection:
            accounts = accounts_pb2_grpc.AccountServiceStub(connection.channel)
            connection.call(accounts.Logout, accounts_pb2.LogoutRequest(remove_device=remove_device))
    except NotLoggedIn:
        untold = None  # the session was gone already
    except OortError as error:
        if remove_device:
            raise
        untold = error
    with home.lock():
        if remove_device:
            home.forget("account.json")
        else:
            home.keep_account(replace(account, sealing_key=b"", sealed_account_key=b""))
        home.forget_session()
        home.forget(*_CACHES)
    return untold


def change_password(home: Home, present: str, new: str) -> None:
    """Replace the password. Raises WrongPassword, WeakPassword."""
    account = home.account()
    with connect(home) as connection:
        accounts = accounts_pb2_grpc.AccountServiceStub(connection.channel)
        keys = _stretch(connection, accounts, account.tenant, account.username, present)
        credentials = passwords.new_credentials(account.user_id, new, account_key(account), [account.username])
        request = accounts_pb2.ChangePasswordRequest(login_key=keys.login, credentials=credentials)
        connection.call(accounts.ChangePassword, request, repeatable=False)


def set_recovery_code(home: Home, password: str) -> str:
    """Make a new recovery code, which replaces the former one. Raises WrongPassword."""
    account = home.account()
    code = recovery.new_code()
    secret = recovery.read_code(code)
    with connect(home) as connection:
        accounts = accounts_pb2_grpc.AccountServiceStub(connection.channel)
        keys = _stretch(connection, accounts, account.tenant, account.username, password)
        request = accounts_pb2.SetRecoveryRequest(
            login_key=keys.login,
            recovery_key=recovery.proof(secret),
            sealed_key=recovery.seal_account_key(secret, account.user_id, account_key(account)),
        )
        connection.call(accounts.SetRecovery, request)
    return code


def recover(server: Server, username: str, code: str, new_password: str) -> None:
    """Set a new password with the recovery code. Raises BadRecoveryCode, WeakPassword."""
    secret = recovery.read_code(code)
    passwords.require_strong(new_password, [username])
    ca_pem = read_ca(server.ca)
    proof = recovery.proof(secret)
    with Connection(server.address, ca_pem, str(server.ca)) as connection:
        accounts = accounts_pb2_grpc.AccountServiceStub(connection.channel)
        try:
            sealed = connection.ask_as_nobody(
                accounts.GetRecoverySeal,
                accounts_pb2.GetRecoverySealRequest(tenant=server.tenant, username=username, recovery_key=proof),
            )
            user = UUID(sealed.user_id)
            key = recovery.open_account_key(secret, user, sealed.sealed_key)
            connection.ask_as_nobody(
                accounts.ResetPassword,
                accounts_pb2.ResetPasswordRequest(
                    tenant=server.tenant,
                    username=username,
                    recovery_key=proof,
                    credentials=passwords.new_credentials(user, new_password, key, [username]),
                ),
            )
        except Refused as refused:
            error = translate(refused.refusal, server.address)
            if isinstance(error, WrongPassword):
                raise BadRecoveryCode(detail="it is not this user's, or no code was ever made.") from None
            raise error from None


@dataclass(frozen=True, slots=True, repr=False)
class _Identity:
    device_id: UUID
    device_key: bytes


def _identity(home: Home, server: Server, username: str) -> _Identity:
    """One home is one device; another user makes it another. A server that has moved does not."""
    known = home.known_account()
    if known is not None and (known.tenant, known.username) == (server.tenant, username):
        return _Identity(known.device_id, known.device_key)
    return _new_identity()


def _new_identity() -> _Identity:
    device_id = uuid7(time.time_ns() // 1_000_000, secrets.token_bytes(10))
    return _Identity(device_id, Ed25519PrivateKey.generate().private_bytes_raw())


def _describe(identity: _Identity, *, append_only: bool) -> accounts_pb2.Device:
    public = Ed25519PrivateKey.from_private_bytes(identity.device_key).public_key()
    return accounts_pb2.Device(
        id=str(identity.device_id),
        name=socket.gethostname() or "device",
        platform=f"{platform.system()} {platform.machine()}",
        client_version=VERSION,
        public_key=public.public_bytes(Encoding.Raw, PublicFormat.Raw),
        append_only=append_only,
    )


def _stretch(
    connection: Connection, accounts: accounts_pb2_grpc.AccountServiceStub, tenant: str, username: str, password: str
) -> passwords.PasswordKeys:
    """L and R of a user, with the parameters that the server names, within bounds."""
    password = passwords.normalise(password)
    request = accounts_pb2.GetLoginParametersRequest(tenant=tenant, username=username)
    try:
        asked = connection.ask_as_nobody(accounts.GetLoginParameters, request)
    except Refused as refused:
        raise translate(refused.refusal, connection.server) from None
    return passwords.stretch(password, passwords.Stretching.from_message(asked.kdf))


def _as_nobody(
    connection: Connection, accounts: accounts_pb2_grpc.AccountServiceStub, request: accounts_pb2.LoginRequest
) -> accounts_pb2.LoginResponse:
    try:
        return connection.ask_as_nobody(accounts.Login, request)
    except Refused as refused:
        raise translate(refused.refusal, connection.server) from None
