"""Signs vault tokens (domain/tokens.py), which storage nodes check without asking anyone."""

from datetime import datetime, timedelta
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from domain.tokens import ALGORITHM, AUDIENCE, ISSUER, LIFETIME_SECONDS, VaultClaims, key_id
from services.common.errors import StartError


class TokenSigner:
    """Holds the installation's signing key; its `kid` tells nodes which public key to check with."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self._headers = {"kid": key_id(key.public_key().public_bytes_raw())}

    @classmethod
    def from_file(cls, path: Path) -> "TokenSigner":
        """Read a PEM file. Raises StartError when it holds no unencrypted Ed25519 private key."""
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise StartError(f"OORT_TOKEN_KEY {path}: no Ed25519 private key in PEM: {error}") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise StartError(f"OORT_TOKEN_KEY {path}: no Ed25519 private key in PEM: another kind of key")
        return cls(key)

    def sign(self, claims: VaultClaims, now: datetime) -> tuple[str, datetime]:
        """The token, and when it ends."""
        expires = now.replace(microsecond=0) + timedelta(seconds=LIFETIME_SECONDS)
        payload = claims.to_payload() | {"iss": ISSUER, "aud": AUDIENCE, "iat": int(now.timestamp()), "exp": expires}
        return jwt.encode(payload, self._key, algorithm=ALGORITHM, headers=self._headers), expires
