"""The device's folder: who this device is, its key, the sealed account key, the login session and caches.

Kept true: a file is replaced whole or not at all, and is on the disk before anything relies on it; folders are open
to their owner alone (0700, files 0600); processes that change several files at once do so one after the other.

    account.json   server, user, device and its keys      session        the login session's token
    ca.pem         what the server's certificate must be signed by
    *.cache        what auth last said, for when it cannot be reached
    limits.json    the rates of this device's line, if any are set
    jobs/          jobs that auth has not heard of in full  vaults/      caches; may be deleted at any time
    logs/          reports of unexpected errors            cuts/        for which vault files are cut, by vault
"""

import errno
import fcntl
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from client.disk import private, sync_folder
from client.errors import DamagedHome, HomeFull, HomeUnusable, NotLoggedIn, reason_of

FOLDER_VARIABLE = "BACKUP_TOOL_HOME"
_ACCOUNT = "account.json"
_CA = "ca.pem"
_SESSION = "session"
_LOCK = "lock"
_VERSION = 1
_KEY_BYTES = 32
_TOKEN = re.compile(rb"[\x21-\x7e]{1,4096}")  # what may stand in a call's metadata


@dataclass(frozen=True, slots=True, repr=False)
class Account:
    """This device and whose it is. Keys are 32 bytes; `device_key` is the raw Ed25519 private key.

    `sealed_account_key` is K under `sealing_key`, which belongs to this device alone; both are empty after a logout.
    """

    server: str
    ca_file: str
    tenant: str
    username: str
    user_id: UUID
    device_id: UUID
    device_key: bytes
    sealing_key: bytes
    sealed_account_key: bytes

    @property
    def is_logged_in(self) -> bool:
        return bool(self.sealed_account_key)

    def to_json(self) -> bytes:
        return json.dumps(
            {
                "version": _VERSION,
                "server": self.server,
                "ca_file": self.ca_file,
                "tenant": self.tenant,
                "username": self.username,
                "user_id": str(self.user_id),
                "device_id": str(self.device_id),
                "device_key": self.device_key.hex(),
                "sealing_key": self.sealing_key.hex(),
                "sealed_account_key": self.sealed_account_key.hex(),
            },
            indent=1,
        ).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "Account":
        """Read what `to_json` wrote. Raises ValueError."""
        try:
            return cls._from_fields(json.loads(text))
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"no account: {error}") from None

    @classmethod
    def _from_fields(cls, fields: dict[str, Any]) -> "Account":
        if fields["version"] != _VERSION:
            raise ValueError("written by another version")
        if not all(isinstance(fields[name], str) for name in ("server", "ca_file", "tenant", "username")):
            raise TypeError("text expected")
        if len(fields["device_key"]) != 2 * _KEY_BYTES or len(fields["sealing_key"]) not in (0, 2 * _KEY_BYTES):
            raise ValueError("keys of another length")
        return cls(
            server=fields["server"],
            ca_file=fields["ca_file"],
            tenant=fields["tenant"],
            username=fields["username"],
            user_id=UUID(fields["user_id"]),
            device_id=UUID(fields["device_id"]),
            device_key=bytes.fromhex(fields["device_key"]),
            sealing_key=bytes.fromhex(fields["sealing_key"]),
            sealed_account_key=bytes.fromhex(fields["sealed_account_key"]),
        )


def locate(option: Path | None, environment: Mapping[str, str]) -> Path:
    """The folder to use: the option, else the variable, else the user's data folder (XDG base directories)."""
    if option is not None:
        return option.absolute()
    if environment.get(FOLDER_VARIABLE):
        return Path(environment[FOLDER_VARIABLE]).absolute()
    data = environment.get("XDG_DATA_HOME", "")
    base = Path(data) if data.startswith("/") else Path(environment.get("HOME") or "/").absolute() / ".local/share"
    return base / "oort"


class Home:
    """One device's folder. Raises HomeUnusable, HomeFull when the disk does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def account(self) -> Account:
        """Raises NotLoggedIn when this device was never logged in, or is logged out."""
        account = self.known_account()
        if account is None or not account.is_logged_in:
            raise NotLoggedIn
        return account

    def known_account(self) -> Account | None:
        """Whose this device was last, logged in or not."""
        text = self.read(_ACCOUNT)
        if text is None:
            return None
        try:
            return Account.from_json(text)
        except ValueError:
            raise DamagedHome(file=self.folder / _ACCOUNT) from None

    def ca(self) -> bytes:
        """In PEM. Raises DamagedHome."""
        from client.rpc import trusting

        pem = self.read(_CA)
        try:
            trusting(pem or b"")
        except (ValueError, OSError):  # an ssl.SSLError is an OSError
            raise DamagedHome(file=self.folder / _CA) from None
        return pem or b""

    @property
    def ca_file(self) -> Path:
        """Where that PEM lies, for other programs."""
        return self.folder / _CA

    def session(self) -> str:
        """The login session's token, or nothing: also for what cannot be one, as the device's key gets another."""
        text = (self.read(_SESSION) or b"").strip()
        return text.decode("ascii") if _TOKEN.fullmatch(text) else ""

    def keep_session(self, token: str) -> None:
        self.write(_SESSION, token.encode())

    def keep_login(self, account: Account, ca_pem: bytes, token: str) -> None:
        """Everything of a login; the account comes last, so that half of it is no login."""
        with self.lock():
            self.write(_CA, ca_pem)
            self.write(_SESSION, token.encode())
            self.write(_ACCOUNT, account.to_json())

    def keep_account(self, account: Account) -> None:
        self.write(_ACCOUNT, account.to_json())

    def forget(self, *names: str) -> None:
        for name in names:
            with _explained(self.folder), suppress(FileNotFoundError):
                (self.folder / name).unlink()

    def forget_session(self) -> None:
        self.forget(_SESSION)

    def read(self, name: str) -> bytes | None:
        """A file's bytes, or None if there is none."""
        with _explained(self.folder):
            try:
                return (self.folder / name).read_bytes()
            except FileNotFoundError:
                return None

    def write(self, name: str, body: bytes) -> None:
        """Replace a file: the new one is on the disk before it takes the name, and the name before this returns."""
        target = self.folder / name
        with _explained(self.folder):
            self.subfolder(target.parent)
            beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
            try:
                with open(beside, "xb", opener=private) as file:
                    file.write(body)
                    file.flush()
                    os.fsync(file.fileno())
                beside.replace(target)
            except BaseException:
                beside.unlink(missing_ok=True)
                raise
            sync_folder(target.parent)

    def subfolder(self, folder: Path) -> Path:
        """Make a folder of the home, and the home itself, closed to others."""
        with _explained(self.folder):
            if folder.is_dir():
                return folder
            missing = [folder, *folder.parents]
            for path in reversed(missing[: missing.index(self.folder) + 1] if self.folder in missing else [folder]):
                # The home's own parents are the user's: they get the usual mode.
                path.parent.mkdir(parents=True, exist_ok=True)
                path.mkdir(mode=0o700, exist_ok=True)
        return folder

    def vault_cache(self, vault_id: str) -> Path:
        return self.subfolder(self.folder / "vaults" / str(UUID(vault_id)))

    @contextmanager
    def lock(self, name: str = _LOCK) -> Iterator[None]:
        """Wait for other processes that change this home."""
        with _explained(self.folder):
            self.subfolder(self.folder)
            file = open(self.folder / name, "ab", opener=private)  # noqa: SIM115 - closed below
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            file.close()

    def read_json(self, name: str) -> Any:
        """A JSON file's content; None if there is none or it is damaged, for what can be made anew."""
        text = self.read(name)
        try:
            return None if text is None else json.loads(text)
        except (ValueError, RecursionError):
            return None


@contextmanager
def _explained(home: Path) -> Iterator[None]:
    """Turn what the disk says into an error for a person."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise HomeFull(home=home) from None
        if isinstance(error, (FileExistsError, NotADirectoryError)):
            raise HomeUnusable(home=home, reason="it is a file, not a folder") from None
        raise HomeUnusable(home=home, reason=reason_of(error)) from None
