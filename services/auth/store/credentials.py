from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from services.common.database import Unit


@dataclass(frozen=True, slots=True)
class Proof:
    """What a secret is checked against: SHA-256(salt, pepper, secret)."""

    salt: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class StoredCredentials:
    user_id: UUID
    tenant_id: UUID
    kdf_salt: bytes
    kdf_memory_kib: int
    kdf_iterations: int
    kdf_lanes: int
    login_salt: bytes
    login_hash: bytes
    sealed_key: bytes
    password_changed: datetime
    recovery_salt: bytes | None = None
    recovery_hash: bytes | None = None
    recovery_seal: bytes | None = None

    @property
    def login(self) -> Proof:
        return Proof(self.login_salt, self.login_hash)

    @property
    def recovery(self) -> Proof | None:
        if self.recovery_salt is None or self.recovery_hash is None:
            return None
        return Proof(self.recovery_salt, self.recovery_hash)


async def insert(unit: Unit, stored: StoredCredentials) -> None:
    await unit.execute(
        "insert into credentials (user_id, tenant_id, kdf_salt, kdf_memory_kib, kdf_iterations, kdf_lanes,"
        " login_salt, login_hash, sealed_key, password_changed) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            stored.user_id,
            stored.tenant_id,
            stored.kdf_salt,
            stored.kdf_memory_kib,
            stored.kdf_iterations,
            stored.kdf_lanes,
            stored.login_salt,
            stored.login_hash,
            stored.sealed_key,
            stored.password_changed,
        ),
    )


async def get(unit: Unit, user: UUID) -> StoredCredentials | None:
    async with unit.cursor(row_factory=class_row(StoredCredentials)) as cursor:
        await cursor.execute(
            "select user_id, tenant_id, kdf_salt, kdf_memory_kib, kdf_iterations, kdf_lanes, login_salt, login_hash,"
            " sealed_key, password_changed, recovery_salt, recovery_hash, recovery_seal"
            " from credentials where user_id = %s",
            (user,),
        )
        return await cursor.fetchone()


async def replace(unit: Unit, stored: StoredCredentials, *, former: bytes) -> bool:
    """Put the new L, its parameters and the new seal in place of those whose login hash is `former`, all or none.

    False when others were put in place meanwhile.
    """
    cursor = await unit.execute(
        "update credentials set kdf_salt = %s, kdf_memory_kib = %s, kdf_iterations = %s, kdf_lanes = %s,"
        " login_salt = %s, login_hash = %s, sealed_key = %s, password_changed = %s"
        " where user_id = %s and login_hash = %s",
        (
            stored.kdf_salt,
            stored.kdf_memory_kib,
            stored.kdf_iterations,
            stored.kdf_lanes,
            stored.login_salt,
            stored.login_hash,
            stored.sealed_key,
            stored.password_changed,
            stored.user_id,
            former,
        ),
    )
    return cursor.rowcount == 1


async def set_recovery(unit: Unit, user: UUID, proof: Proof, seal: bytes) -> None:
    await unit.execute(
        "update credentials set recovery_salt = %s, recovery_hash = %s, recovery_seal = %s where user_id = %s",
        (proof.salt, proof.hash, seal, user),
    )
