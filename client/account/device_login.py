"""The device as it is after a login: its key opens sessions, and the account key from its home.

Kept true: K stays in this process; a device's key never leaves its home. Every command begins here, so nothing is
imported that only a login with a password needs.
"""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from oort.auth.v1 import accounts_pb2, accounts_pb2_grpc

from client.account.connection import Connection, Refused, translate
from client.account.home import Account, Home
from client.account.seals import Sealer, SealPurpose
from client.errors import NotLoggedIn, WrongPassword

_DEVICE_LOGIN = b"oort device login v1\0"


def account_key(account: Account) -> bytes:
    """K, from this device's home. Raises BrokenSeal."""
    sealer = Sealer(account.sealing_key, account.user_id)
    return sealer.open(SealPurpose.ACCOUNT_KEY_BY_DEVICE, account.sealed_account_key, str(account.device_id))


def sealer_of(account: Account) -> Sealer:
    """Seals under K."""
    return Sealer(account_key(account), account.user_id)


def connect(home: Home) -> Connection:
    """A connection as this device. Raises NotLoggedIn."""
    account = home.account()

    def renew(connection: Connection, refused: str) -> str:
        with home.lock():
            present = home.session()
            if present and present != refused:
                return present  # another process was first
            token = _log_in_by_device(connection, account)
            home.keep_session(token)
            return token

    return Connection(account.server, home.ca(), account.ca_file, token=home.session() or "none", renew=renew)


def _log_in_by_device(connection: Connection, account: Account) -> str:
    """A new session's token. Raises NotLoggedIn when the device was revoked."""
    accounts = accounts_pb2_grpc.AccountServiceStub(connection.channel)
    device = str(account.device_id)
    try:
        challenge = connection.ask_as_nobody(
            accounts.BeginDeviceLogin, accounts_pb2.BeginDeviceLoginRequest(device_id=device)
        ).challenge
        signature = Ed25519PrivateKey.from_private_bytes(account.device_key).sign(_DEVICE_LOGIN + challenge)
        answer = connection.ask_as_nobody(
            accounts.DeviceLogin,
            accounts_pb2.DeviceLoginRequest(device_id=device, challenge=challenge, signature=signature),
            repeatable=False,
        )
    except Refused as refused:
        error = translate(refused.refusal, account.server)
        raise (NotLoggedIn() if isinstance(error, WrongPassword) else error) from None
    return answer.session_token
