"""What an installation must keep secret, made once.

Kept true: nothing here is ever made a second time while its file exists: another pepper would refuse every password,
another serial would lose the lease, and other database passwords would lock the roles out.
"""

import os
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from deploy.local.folder import StackFolder
from domain.ids import uuid7

ADMIN = "admin"
TENANT = "local"
_SERIAL_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: nothing that is read as something else


@dataclass(frozen=True, slots=True)
class InstallationSecrets:
    """Files and words of `DIR/secrets`, all 0600."""

    token_key: Path  # auth signs vault tokens with it (Ed25519, PEM)
    token_public_key: Path  # storage nodes check them with it
    license_signing_key: Path
    license_public_key: Path
    pepper: Path
    serial: str = field(repr=False)
    database_owner: str = field(repr=False)
    database_app: str = field(repr=False)
    database_worker: str = field(repr=False)
    admin_password: str = field(repr=False)
    admin_id: UUID
    tenant_id: UUID


def open_secrets(folder: StackFolder) -> InstallationSecrets:
    """Load the secrets of a stack, making those that are missing."""

    def word(name: str, made: str) -> str:
        path = folder.secrets / name
        if not path.exists():
            folder.write(path, made + "\n")
        return path.read_text().strip()

    token_key, token_public_key = _key_pair(folder, "token")
    license_signing_key, license_public_key = _key_pair(folder, "license")
    pepper = folder.secrets / "pepper"
    if not pepper.exists():
        folder.write(pepper, os.urandom(32))
    return InstallationSecrets(
        token_key=token_key,
        token_public_key=token_public_key,
        license_signing_key=license_signing_key,
        license_public_key=license_public_key,
        pepper=pepper,
        serial=word("serial", _new_serial()),
        database_owner=word("database-owner", secrets.token_urlsafe(24)),
        database_app=word("database-app", secrets.token_urlsafe(24)),
        database_worker=word("database-worker", secrets.token_urlsafe(24)),
        admin_password=word("admin-password", secrets.token_urlsafe(24)),
        admin_id=UUID(word("admin-id", str(_new_id()))),
        tenant_id=UUID(word("tenant-id", str(_new_id()))),
    )


def _new_id() -> UUID:
    return uuid7(time.time_ns() // 1_000_000, os.urandom(10))


def _new_serial() -> str:
    groups = ("".join(secrets.choice(_SERIAL_ALPHABET) for _ in range(4)) for _ in range(6))
    return "-".join(groups)


def _key_pair(folder: StackFolder, name: str) -> tuple[Path, Path]:
    private, public = folder.secrets / f"{name}.key", folder.secrets / f"{name}.pub"
    if not private.exists():
        folder.write(
            private,
            Ed25519PrivateKey.generate().private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )
    key = serialization.load_pem_private_key(private.read_bytes(), password=None)
    written = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    if not public.exists() or public.read_bytes() != written:
        folder.write(public, written)
    return private, public
