"""Proofs of who someone is, kept so that a stolen database proves nothing.

Kept true: of L and of the recovery key only SHA-256(salt, pepper, secret) is stored, and the pepper is not in the
database; comparisons take the same time whatever differs; a name that does not exist answers as one that does:
with parameters that stay the same, made from the name and the pepper.
"""

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from uuid import UUID

from services.auth.names import bounded, exactly, opaque
from services.auth.store.credentials import Proof, StoredCredentials

SECRET_BYTES = 32
SALT_BYTES = 16
LONGEST_SEAL = 1024

RandomBytes = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Kdf:
    """Argon2id (RFC 9106). Bounds are those between which clients follow a server."""

    salt: bytes
    memory_kib: int = 64 * 1024
    iterations: int = 3
    lanes: int = 4

    def checked(self) -> "Kdf":
        """Raises InvalidArgument."""
        exactly(self.salt, "kdf.salt", SALT_BYTES)
        bounded(self.memory_kib, "kdf.memory_kib", 64 * 1024, 1024 * 1024)
        bounded(self.iterations, "kdf.iterations", 3, 16)
        bounded(self.lanes, "kdf.lanes", 1, 16)
        return self


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client sends with a new password; login_key is L."""

    kdf: Kdf
    login_key: bytes = field(repr=False)
    sealed_key: bytes = field(repr=False)

    def checked(self) -> "Credentials":
        """Raises InvalidArgument."""
        self.kdf.checked()
        exactly(self.login_key, "login_key", SECRET_BYTES)
        opaque(self.sealed_key, "sealed_key", LONGEST_SEAL, least=1)
        return self


class Prover:
    """Makes and checks proofs under this installation's pepper, 32 bytes."""

    def __init__(self, pepper: bytes, random: RandomBytes = secrets.token_bytes) -> None:
        self._pepper = pepper
        self._random = random

    def prove(self, secret: bytes) -> Proof:
        salt = self._random(SALT_BYTES)
        return Proof(salt, self._hash(salt, secret))

    def matches(self, proof: Proof | None, secret: bytes) -> bool:
        """Whether `secret` is the one that was proved. Without a proof the same work is done for nothing."""
        salt, expected = (proof.salt, proof.hash) if proof else (bytes(SALT_BYTES), bytes(32))
        same = hmac.compare_digest(self._hash(salt, secret), expected)
        return same and proof is not None

    def kdf_of(self, stored: StoredCredentials | None, *name: str) -> Kdf:
        """How `name` stretches its password; stable false parameters when there is no such user."""
        false = Kdf(self.keyed("kdf salt v1", *name)[:SALT_BYTES])
        if stored is None:
            return false
        return Kdf(stored.kdf_salt, stored.kdf_memory_kib, stored.kdf_iterations, stored.kdf_lanes)

    def keyed(self, purpose: str, *parts: str) -> bytes:
        """32 bytes that only this installation can compute from `parts`."""
        message = "\0".join(("oort auth", purpose, *parts)).encode("utf-8", "surrogatepass")
        return hmac.digest(self._pepper, message, "sha256")

    def stored(self, user: UUID, tenant: UUID, given: Credentials, now: datetime) -> StoredCredentials:
        """The row that keeps `given`; a recovery code is set apart."""
        login = self.prove(given.login_key)
        return StoredCredentials(
            user_id=user,
            tenant_id=tenant,
            kdf_salt=given.kdf.salt,
            kdf_memory_kib=given.kdf.memory_kib,
            kdf_iterations=given.kdf.iterations,
            kdf_lanes=given.kdf.lanes,
            login_salt=login.salt,
            login_hash=login.hash,
            sealed_key=given.sealed_key,
            password_changed=now,
        )

    def keeps(self, stored: StoredCredentials, given: Credentials) -> bool:
        """Whether `stored` is what `given` was stored as: the call is a repeated one."""
        same_seal = hmac.compare_digest(stored.sealed_key, given.sealed_key)
        same_key = self.matches(stored.login, given.login_key)
        return same_seal and same_key and self.kdf_of(stored) == given.kdf

    def _hash(self, salt: bytes, secret: bytes) -> bytes:
        # The three parts have fixed lengths, so no two triples give the same bytes.
        return sha256(salt + self._pepper + secret).digest()
