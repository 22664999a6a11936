import asyncio
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from services.auth.__main__ import ROLE, read_pepper
from services.auth.settings import AuthSettings
from services.auth.tests.kit import Ground
from services.auth.tokens import TokenSigner
from services.common.clock import SystemClock
from services.common.database import Database
from services.common.errors import StartError
from services.common.metrics import Metrics
from services.common.process import Runtime
from services.common.testing.server import some_settings


def write_key(path: Path, key: Any) -> Path:
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


def settings_in(folder: Path, ground: Ground, **others: object) -> AuthSettings:
    pepper = folder / "pepper"
    pepper.write_bytes(bytes(32))
    values: dict[str, Any] = {
        "license_server": "localhost:1",
        "license_key": ground.certificates.ca,
        "license_file": folder / "oort-license.db",
        "serial": "none",
        "redis_url": ground.redis_url,
        "pepper": pepper,
        "token_key": write_key(folder / "token.pem", Ed25519PrivateKey.generate()),
        **others,
    }
    return some_settings(AuthSettings, "auth", ground.certificates, ground.database, **values)


async def wired(settings: AuthSettings) -> tuple[list[str], list[str]]:
    """The names of what the process would serve in public and inside."""
    db = await Database.open(settings.database_url, settings.database_worker_url, wait_seconds=60)
    try:
        runtime = Runtime(
            "auth", settings, db, SystemClock(), Metrics("auth", settings.instance, "test"), asyncio.Event()
        )
        async with ROLE.wire(runtime) as parts:
            return [served.name for served in parts.public], [served.name for served in parts.internal]
    finally:
        await db.close()


async def test_the_process_serves_its_contracts(ground: Ground, tmp_path: Path) -> None:
    public, internal = await wired(settings_in(tmp_path, ground))
    services = ("AccountService", "DeviceService", "ProfileService", "JobService", "AdminService", "BucketAdminService")
    assert public == [f"oort.auth.v1.{name}" for name in services]
    assert internal == [f"oort.auth.v1.{name}" for name in ("SetupService", "RestAccessService", "OwnerService")]


async def test_without_redis_it_does_not_start(ground: Ground, tmp_path: Path) -> None:
    with pytest.raises(StartError, match="OORT_REDIS_URL"):
        await wired(settings_in(tmp_path, ground, redis_url=None))


def test_a_pepper_of_another_length_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pepper"
    path.write_bytes(bytes(31))
    with pytest.raises(StartError, match="31 bytes"):
        read_pepper(path)


def test_a_signing_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="another kind of key"):
        TokenSigner.from_file(write_key(tmp_path / "key.pem", generate_private_key(SECP256R1())))
    (tmp_path / "key.pem").write_bytes(b"no key")
    with pytest.raises(StartError, match="no Ed25519 private key"):
        TokenSigner.from_file(tmp_path / "key.pem")
