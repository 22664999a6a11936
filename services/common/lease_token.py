"""A lease as the licence server signs it: a JWT (RFC 7519) with Ed25519.

Kept true: a lease says everything that it is bound to, so that an instance can judge it alone.
"""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_ALGORITHM = "EdDSA"
_ISSUER = "oort-license"


class BadLease(ValueError):
    """Not a lease that the pinned licence server signed, or one that lacks something."""


@dataclass(frozen=True, slots=True)
class Bond:
    """What a lease is bound to; it is worth nothing anywhere else."""

    serial: str
    installation: str  # SHA-256 of the CA's public key, hex
    role: str
    instance: str
    fingerprint: str  # of the hardware, hex SHA-256
    address: str  # host:port at which others reach the instance

    def difference(self, other: "Bond") -> str:
        """The names of what differs, for a person; the serial's value is never shown."""
        mine, theirs = asdict(self), asdict(other)
        return ", ".join(name for name in mine if mine[name] != theirs[name])


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run one instance until `expires`, and to `grace_ends` while the licence server is out of reach."""

    bond: Bond
    nonce: str  # of the request that it answers, hex
    issued: datetime
    expires: datetime
    grace_ends: datetime

    @property
    def renew_at(self) -> datetime:
        """A third of its life after it was issued."""
        return self.issued + (self.expires - self.issued) / 3

    def to_token(self, key: Ed25519PrivateKey) -> str:
        """Sign it. Times have whole seconds."""
        claims = {
            "iss": _ISSUER,
            **asdict(self.bond),
            "nonce": self.nonce,
            "iat": _seconds(self.issued),
            "exp": _seconds(self.expires),
            "grace": _seconds(self.grace_ends),
        }
        return jwt.encode(claims, key, algorithm=_ALGORITHM)

    @classmethod
    def from_token(cls, token: str, key: Ed25519PublicKey) -> "Lease":
        """Read what `to_token` wrote, whenever that was: who holds the clock judges the times. Raises BadLease."""
        unjudged = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}
        try:
            claims: dict[str, Any] = jwt.decode(token, key, algorithms=[_ALGORITHM], issuer=_ISSUER, options=unjudged)  # type: ignore[arg-type] # a TypedDict of PyJWT's own
            return cls(
                bond=Bond(**{name: str(claims[name]) for name in Bond.__slots__}),
                nonce=str(claims["nonce"]),
                issued=_moment(claims["iat"]),
                expires=_moment(claims["exp"]),
                grace_ends=_moment(claims["grace"]),
            )
        except (jwt.PyJWTError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise BadLease(f"not a lease of the pinned licence server: {error}") from error


def whole_seconds(moment: datetime) -> datetime:
    """As a token keeps it."""
    return moment.astimezone(UTC).replace(microsecond=0)


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _moment(seconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
