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
_KEY_BYTES = 32
_LARGEST_QUOTA = (1 << 63) - 1  # what the catalogue can count


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
            claims = cls(
                tenant=UUID(payload["tenant"]),
                user=UUID(payload["user"]),
                device=UUID(payload["device"]),
                bucket=UUID(payload["bucket"]),
                cluster=payload["cluster"],
                scopes=frozenset(Scope(scope) for scope in payload["scopes"]),
                quota_bytes=payload["quota"],
                device_key=bytes.fromhex(payload["device_key"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadClaims(f"vault token: {error}") from error
        if not isinstance(claims.cluster, str) or len(claims.device_key) != _KEY_BYTES:
            raise BadClaims("vault token: a cluster or a key that can be none")
        if type(claims.quota_bytes) is not int or not 0 <= claims.quota_bytes <= _LARGEST_QUOTA:
            raise BadClaims("vault token: a quota that can be none")
        return claims
