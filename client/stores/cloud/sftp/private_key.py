"""The private key that logs in on a server of SFTP: read once, and kept without its passphrase in the seal."""

from pathlib import Path

import asyncssh

from client.errors import UsageError


def has_passphrase(path: Path) -> bool:
    """Whether it opens with one alone. Raises UsageError for what is no private key."""
    try:
        asyncssh.import_private_key(_read(path))
    except asyncssh.KeyImportError as error:
        if "assphrase" not in str(error):
            raise UsageError(detail=f"There is no private key of SSH in {path}.") from None
        return True
    return False


def private_key(path: Path, passphrase: str | None) -> str:
    """The text of the key, without a passphrase, which only one that has it needs. Raises UsageError."""
    try:
        key = asyncssh.import_private_key(_read(path), passphrase)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
        raise UsageError(detail=f"The passphrase does not open the private key in {path}.") from None
    return key.export_private_key().decode()


def _read(path: Path) -> bytes:
    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise UsageError(detail=f"{path} cannot be read: {error.strerror}.") from None
