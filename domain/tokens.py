"""What a vault token claims: a JWT signed with Ed25519 by the auth role, checked offline by storage nodes."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import UUID

from domain.sessions import Scope

AUDIENCE = "oort-storage"
ISSUER = "oort-auth"
ALGORITHM = "EdDSA"
LIFETIME_SECONDS = 15 * 60


def key_id(public_key: bytes) -> str:
    """The token header's `kid`: which raw Ed25519 public key (32 bytes) checks the token."""
    return sha256(public_key).hexdigest()[:16]


class BadClaims(ValueError):
    """The token lacks a claim, or one is of the wrong form."""


@dataclass(frozen=True, slots=True)
class VaultClaims:
    """Who may do what to one bucket. `device_key` is the device's raw Ed25519 public key, 32 bytes."""

    tenant: UUID
    user: UUID
    device: UUID
    bucket: UUID
    cluster: str
    scopes: frozenset[Scope]
    quota_bytes: int  # 0: no limit
    device_key: bytes

    def to_payload(self) -> dict[str, Any]:
        """The JWT claims set without `iat`, `exp`, `aud` and `iss`, which the signer adds."""
        return {
            "tenant": str(self.tenant),
            "user": str(self.user),
            "device": str(self.device),
            "bucket": str(self.bucket),
            "cluster": self.cluster,
            "scopes": sorted(self.scopes),
            "quota": self.quota_bytes,
            "device_key": self.device_key.hex(),
        }

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> "VaultClaims":
        """Read what `to_payload` wrote. Raises BadClaims."""
        try:
            return cls(
                tenant=UUID(payload["tenant"]),
                user=UUID(payload["user"]),
                device=UUID(payload["device"]),
                bucket=UUID(payload["bucket"]),
                cluster=str(payload["cluster"]),
                scopes=frozenset(Scope(scope) for scope in payload["scopes"]),
                quota_bytes=int(payload["quota"]),
                device_key=bytes.fromhex(payload["device_key"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadClaims(f"vault token: {error}") from error
