"""Who may do what to a bucket: the vault token, checked offline against auth's public keys.

Kept true: a token is taken only if it is signed by one of the keys in the settings, is of this cluster, and has not
expired; and a session is opened only by who holds the private key of the device that the token names. An operator
reads and adds without one, by certificate and in sessions of no device, and removes nothing.
"""

from collections import OrderedDict
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import grpc
import jwt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from domain.sessions import OPERATOR_METADATA, Scope
from domain.tokens import ALGORITHM, AUDIENCE, ISSUER, BadClaims, VaultClaims, key_id
from services.common.clock import Clock
from services.common.errors import NotAllowed, StartError
from services.common.identity import OPERATOR, bearer, require_peer
from services.common.messages import uuid_of
from services.common.settings import BAD_SETTINGS
from services.storage.errors import BadSignature, BadToken, ExpiredToken, ForeignToken, MissingScope
from services.storage.store.sessions import NOBODY

Context = grpc.aio.ServicerContext[Any, Any]
# Clocks of auth and a node may be this far apart.
_LEEWAY_SECONDS = 5
# Tokens whose signature is remembered. A client shows one for as long as it holds, with every call.
_KNOWN_TOKENS = 1024


class Gate(Protocol):
    """What every call of the public listener passes."""

    def require(self, context: Context, scope: Scope) -> VaultClaims:
        """The claims of the caller's token, if they allow `scope`. Raises NotSignedIn, BadToken, NotAllowed."""

    def read(self, token: str) -> VaultClaims:
        """The claims of a token. Raises BadToken, which says what is wrong with it."""

    def require_signature(self, claims: VaultClaims, statement: bytes, signature: bytes) -> None:
        """Raises BadSignature unless the token's device signed the statement."""


class _Signed(NamedTuple):
    """What a token with a good signature says, and until when, in seconds since 1970."""

    claims: VaultClaims
    expires: float


class TokenGate:
    """The gate of a running node; `keys` by their `kid` (domain/tokens.py)."""

    def __init__(self, keys: dict[str, Ed25519PublicKey], cluster: str, clock: Clock) -> None:
        self._keys = keys
        self._cluster = cluster
        self._clock = clock
        self._known: OrderedDict[str, _Signed] = OrderedDict()

    def require(self, context: Context, scope: Scope) -> VaultClaims:
        claims = self.read(bearer(context))
        if scope not in claims.scopes:
            raise MissingScope(shown="vault token does", scope=scope.value)
        return claims

    def require_signature(self, claims: VaultClaims, statement: bytes, signature: bytes) -> None:
        try:
            Ed25519PublicKey.from_public_bytes(claims.device_key).verify(signature, statement)
        except (InvalidSignature, ValueError):
            raise BadSignature from None

    def read(self, token: str) -> VaultClaims:
        """The claims of a token. Raises BadToken, which says what is wrong with it."""
        signed = self._known.get(token)
        if signed is None:
            signed = self._signed(token)
            self._known[token] = signed
            if len(self._known) > _KNOWN_TOKENS:
                self._known.popitem(last=False)
        if self._clock.now().timestamp() > signed.expires + _LEEWAY_SECONDS:
            raise ExpiredToken(signed.claims.device)
        return signed.claims

    def _signed(self, token: str) -> _Signed:
        """What a token says, if auth signed it, for this cluster. Raises BadToken."""
        try:
            key = self._keys.get(str(jwt.get_unverified_header(token).get("kid", "")))
            if key is None:
                raise BadToken(detail="it is signed with a key that this node does not know")
            payload = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                # Expiry is judged below, by the node's own clock as it was given to us.
                options={
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                    "require": ["exp", "aud", "iss"],
                },
            )
            claims = VaultClaims.from_payload(payload)
            expires = float(payload["exp"])
        except jwt.InvalidAudienceError:
            raise ForeignToken(what="another kind of server") from None
        except (jwt.PyJWTError, BadClaims, TypeError, ValueError, OverflowError, RecursionError):
            raise BadToken(detail="it is not one that auth signed") from None
        if claims.cluster != self._cluster:
            raise ForeignToken(what=f"cluster {claims.cluster}, and this node is of {self._cluster}")
        return _Signed(claims, expires)


class OperatorGate:
    """The gate of the internal listener: for whom moves vaults in and out on disks, and for nodes of other clusters.

    An operator reads and adds, a node reads, both in sessions of no device.
    """

    _SCOPES: ClassVar = {OPERATOR: frozenset({Scope.READ, Scope.APPEND}), "storage": frozenset({Scope.READ})}

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster

    def require(self, context: Context, scope: Scope) -> VaultClaims:
        """Claims on the bucket that the call's metadata names; whose it is not finds none."""
        caller = require_peer(context, *self._SCOPES)
        scopes = self._SCOPES[caller.role]
        if scope not in scopes:
            raise NotAllowed(detail=f"{caller} may not {scope.value} in a vault.")
        told = dict(context.invocation_metadata() or ())
        bucket, tenant, user = (uuid_of(str(told.get(key, "")), key) for key in OPERATOR_METADATA)
        return VaultClaims(tenant, user, NOBODY, bucket, self._cluster, scopes, 0, b"")

    def read(self, token: str) -> VaultClaims:  # noqa: ARG002 - there is none that would do
        raise BadToken(detail="an operator has none")

    def require_signature(self, claims: VaultClaims, statement: bytes, signature: bytes) -> None:
        """The certificate says who calls: no device signs."""


def load_keys(place: Path) -> dict[str, Ed25519PublicKey]:
    """Auth's public keys from a PEM file or all *.pem files of a folder. Raises StartError."""
    files = sorted(place.glob("*.pem")) if place.is_dir() else [place]
    keys: dict[str, Ed25519PublicKey] = {}
    for file in files:
        try:
            key = load_pem_public_key(file.read_bytes())
        except (OSError, ValueError) as error:
            raise StartError(f"OORT_TOKEN_KEYS: cannot read a public key from {file}: {error}", BAD_SETTINGS) from error
        if not isinstance(key, Ed25519PublicKey):
            raise StartError(f"OORT_TOKEN_KEYS: {file} is no Ed25519 key", BAD_SETTINGS)
        keys[key_id(key.public_bytes(Encoding.Raw, PublicFormat.Raw))] = key
    if not keys:
        raise StartError(f"OORT_TOKEN_KEYS: there is no *.pem file in {place}", BAD_SETTINGS)
    return keys
