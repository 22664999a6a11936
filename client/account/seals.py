"""Seals: small secrets and descriptions, closed so that servers keep them without being able to read them.

Kept true: a seal opens only with the key, user, purpose and subject that it was made for, so a server that swaps
two seals, or hands one user's seal to another, is noticed. docs/keys.md has the format.

A seal is: version (1 byte, 1) | nonce (12 bytes, random) | AES-256-GCM ciphertext and tag. Every purpose has its own
key, drawn from the sealing key by HKDF-SHA512; the associated data are version, purpose, user and subject.
"""

import secrets
from collections.abc import Callable
from enum import StrEnum
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from client.errors import BrokenSeal

KEY_BYTES = 32
VERSION = 1
_NONCE_BYTES = 12
_TAG_BYTES = 16

RandomBytes = Callable[[int], bytes]


class SealPurpose(StrEnum):
    """What a seal holds; the words are part of the format and never change."""

    ACCOUNT_KEY_BY_PASSWORD = "account key by password"  # noqa: S105 - the name of a purpose
    ACCOUNT_KEY_BY_RECOVERY_CODE = "account key by recovery code"
    ACCOUNT_KEY_BY_DEVICE = "account key by device"
    VAULT_KEY = "vault key"
    VAULT_PLACE = "vault place"
    ITEM = "protected item"
    JOB_LOG = "job log"
    JOB_PROGRESS = "job progress"
    JOB_ERROR = "job error"


class Sealer:
    """Seals and opens for one user under one key of 32 bytes. May be used from several threads."""

    def __init__(self, key: bytes, user: UUID, random: RandomBytes = secrets.token_bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a sealing key has {KEY_BYTES} bytes, not {len(key)}")
        self._key = key
        self._user = user
        self._random = random
        self._ciphers: dict[SealPurpose, AESGCM] = {}

    def seal(self, purpose: SealPurpose, plaintext: bytes, subject: str = "") -> bytes:
        """Close `plaintext`; `subject` is the id of what it belongs to (a vault, an item, a job's line)."""
        nonce = self._random(_NONCE_BYTES)
        closed = self._cipher(purpose).encrypt(nonce, plaintext, self._associated(purpose, subject))
        return bytes((VERSION,)) + nonce + closed

    def open(self, purpose: SealPurpose, sealed: bytes, subject: str = "") -> bytes:
        """What `seal` closed. Raises BrokenSeal."""
        if len(sealed) < 1 + _NONCE_BYTES + _TAG_BYTES or sealed[0] != VERSION:
            raise BrokenSeal(what=f"A seal ({purpose.value})")
        nonce, closed = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            return self._cipher(purpose).decrypt(nonce, closed, self._associated(purpose, subject))
        except InvalidTag:
            raise BrokenSeal(what=f"A seal ({purpose.value})") from None

    def _cipher(self, purpose: SealPurpose) -> AESGCM:
        cipher = self._ciphers.get(purpose)
        if cipher is None:
            cipher = AESGCM(derive(self._key, f"oort seal v1 {purpose.value}"))
            self._ciphers[purpose] = cipher
        return cipher

    def _associated(self, purpose: SealPurpose, subject: str) -> bytes:
        """Length-free but unambiguous: purpose and user hold no NUL, and the subject comes last."""
        parts = (b"oort seal", bytes((VERSION,)), purpose.value.encode(), self._user.bytes.hex().encode())
        return b"\0".join((*parts, subject.encode()))


def derive(key: bytes, label: str, length: int = KEY_BYTES) -> bytes:
    """`length` bytes for one use, from a key that is random already (HKDF-SHA512, RFC 5869, no salt)."""
    return HKDF(algorithm=SHA512(), length=length, salt=None, info=label.encode()).derive(key)
