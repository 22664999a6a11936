"""The data keys A of a vault, how they seal bytes, and the key files that hold A under a password.

Kept true: every sealed thing is IV (16 random bytes) | AES-256-CTR ciphertext | Poly1305-AES tag over the ciphertext,
and nothing is decrypted before its tag was found right (restic, doc/design.rst, "Keys, Encryption and MAC").

Poly1305-AES is Poly1305 under the one-time key r | AES-128(k, IV): the library masks r itself.
"""

import base64
import binascii
import hashlib
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR, ECB
from cryptography.hazmat.primitives.poly1305 import Poly1305

from client.errors import DamagedVault
from client.vault.blobs import SEAL_OVERHEAD, Buffer
from client.vault.gojson import json_string
from client.vault.times import format_time

IV_BYTES = 16
TAG_BYTES = 16
_SALT_BYTES = 64
_R_MASK = bytes.fromhex("ffffff0ffcffff0ffcffff0ffcffff0f")
# A key file is read before anything vouches for it, so what it may ask for is bounded: restic itself calibrates
# to 60 MiB and half a second, and this is four times the memory and about eight seconds.
_SCRYPT_MEMORY = 256 << 20
_SCRYPT_WORK = 1 << 24  # N * r * p
_RANDOM_PASSWORD = re.compile(r"[0-9a-f]{64}")


class _Contexts(threading.local):
    """One set of cipher contexts a thread: a new nonce costs 0.6 us, a new cipher object 7 us."""

    def __init__(self, encrypt: bytes, mac_k: bytes) -> None:
        self.ctr = Cipher(AES(encrypt), CTR(bytes(IV_BYTES))).encryptor()
        self.nonce: CipherContext = Cipher(AES(mac_k), ECB()).encryptor()  # noqa: S305 - one block, as Poly1305-AES is defined


class DataKeys:
    """The keys that seal a vault's content: `encrypt` 32 bytes, `mac_k` 16 and `mac_r` 16. Safe for any thread."""

    __slots__ = ("_contexts", "encrypt", "mac_k", "mac_r")

    def __init__(self, encrypt: bytes, mac_k: bytes, mac_r: bytes) -> None:
        if (len(encrypt), len(mac_k), len(mac_r)) != (32, 16, 16):
            raise ValueError("data keys are 32, 16 and 16 bytes long")
        if not (any(encrypt) and any(mac_k) and any(mac_r)):
            raise ValueError("data keys must not be all zero")
        self.encrypt = encrypt
        self.mac_k = mac_k
        self.mac_r = mac_r
        self._contexts = _Contexts(encrypt, mac_k)

    @classmethod
    def random(cls) -> "DataKeys":
        masked = bytes(a & b for a, b in zip(secrets.token_bytes(16), _R_MASK, strict=True))
        return cls(secrets.token_bytes(32), secrets.token_bytes(16), masked)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DataKeys):
            return NotImplemented
        return (self.encrypt, self.mac_k, self.mac_r) == (other.encrypt, other.mac_k, other.mac_r)

    def __hash__(self) -> int:
        return hash((self.encrypt, self.mac_k, self.mac_r))

    def __repr__(self) -> str:
        return "DataKeys(...)"

    def seal(self, plaintext: Buffer) -> bytes:
        """IV, ciphertext and tag of `plaintext`."""
        return bytes(self.seal_buffer(plaintext))

    def seal_buffer(self, plaintext: Buffer) -> bytearray:
        """As `seal`, without the last copy."""
        sealed = bytearray(len(plaintext) + SEAL_OVERHEAD)
        with memoryview(sealed) as room:
            self.seal_into(plaintext, room)
        return sealed

    def seal_into(self, plaintext: Buffer, room: memoryview) -> int:
        """As `seal`, into `room`, which must have SEAL_OVERHEAD bytes more than `plaintext`; answers how many it took.

        Raises ValueError if there is no room.
        """
        end = IV_BYTES + len(plaintext)
        if end + TAG_BYTES > len(room):
            raise ValueError(f"there is no room for {len(plaintext)} sealed bytes")
        iv = os.urandom(IV_BYTES)
        room[:IV_BYTES] = iv
        with room[IV_BYTES:end] as ciphertext:
            contexts = self._contexts
            contexts.ctr.reset_nonce(iv)
            contexts.ctr.update_into(plaintext, ciphertext)
            room[end : end + TAG_BYTES] = Poly1305.generate_tag(self.mac_r + contexts.nonce.update(iv), ciphertext)
        return end + TAG_BYTES

    def open(self, sealed: Buffer, name: str = "a sealed object") -> bytes:
        """The plaintext of what `seal` made. Raises DamagedVault, naming `name`, if one bit differs."""
        ciphertext = self._checked(sealed, name)
        return self._contexts.ctr.update(ciphertext)

    def open_into(self, sealed: Buffer, room: Buffer, name: str = "a sealed object") -> int:
        """As `open`, but into `room`, which must be no shorter than the plaintext; answers the length of that."""
        ciphertext = self._checked(sealed, name)
        return self._contexts.ctr.update_into(ciphertext, room)

    def _checked(self, sealed: Buffer, name: str) -> memoryview:
        """The ciphertext, of which the tag is right; this thread's cipher is ready to decrypt it."""
        if len(sealed) < SEAL_OVERHEAD:
            raise DamagedVault(name=name, detail=f"{len(sealed)} bytes are too few for anything sealed")
        view = memoryview(sealed)
        iv = bytes(view[:IV_BYTES])
        ciphertext = view[IV_BYTES:-TAG_BYTES]
        contexts = self._contexts
        try:
            Poly1305.verify_tag(self.mac_r + contexts.nonce.update(iv), ciphertext, bytes(view[-TAG_BYTES:]))
        except InvalidSignature:
            raise DamagedVault(name=name, detail="it was altered, or sealed with other keys") from None
        contexts.ctr.reset_nonce(iv)
        return ciphertext


@dataclass(frozen=True, slots=True)
class ScryptCost:
    """Parameters of scrypt (RFC 7914)."""

    n: int
    r: int
    p: int

    @property
    def memory(self) -> int:
        """Bytes that stretching holds at once."""
        return 128 * self.r * (self.n + self.p + 2)


# The repository password of our own vaults is 256 random bits in hex: stretching adds nothing to it, so opening a
# vault need not cost half a second. A password that a person chose gets what restic calibrates to on a desktop.
COST_OF_RANDOM = ScryptCost(1 << 10, 8, 1)
COST_OF_CHOSEN = ScryptCost(1 << 16, 8, 2)


def scrypt_cost(password: str) -> ScryptCost:
    """What stretching `password` needs."""
    return COST_OF_RANDOM if _RANDOM_PASSWORD.fullmatch(password) else COST_OF_CHOSEN


def create_key_file(
    password: str,
    keys: DataKeys,
    *,
    hostname: str = "",
    username: str = "",
    cost: ScryptCost | None = None,
    now_ns: Callable[[], int] = time.time_ns,
) -> bytes:
    """The body of a file in `keys/` from which `password` opens `keys`.

    Host and user name are only for information, and readable by whoever reads the store: empty by default.
    """
    cost = cost or scrypt_cost(password)
    salt = os.urandom(_SALT_BYTES)
    master = json.dumps(
        {"mac": {"k": _b64(keys.mac_k), "r": _b64(keys.mac_r)}, "encrypt": _b64(keys.encrypt)}, separators=(",", ":")
    )
    sealed = _stretch(password, salt, cost).seal(master.encode())
    created = format_time(now_ns())
    return (
        f'{{"created":"{created}","username":{json_string(username)},"hostname":{json_string(hostname)},'
        f'"kdf":"scrypt","N":{cost.n},"r":{cost.r},"p":{cost.p},"salt":"{_b64(salt)}","data":"{_b64(sealed)}"}}'
    ).encode()


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key file as it was read: `sealed` are the data keys under what scrypt makes of the password.

    When and on which machine it was made is for information only, and empty if the file does not say.
    """

    name: str
    cost: ScryptCost
    salt: bytes
    sealed: bytes
    created: str = ""
    hostname: str = ""
    username: str = ""

    def open(self, password: str) -> DataKeys | None:
        """The data keys, or None if `password` is not the file's. Raises DamagedVault."""
        try:
            user = _stretch(password, self.salt, self.cost)
        except ValueError as error:
            raise DamagedVault(name=self.name, detail=f"its scrypt parameters do not work: {error}") from None
        try:
            plaintext = user.open(self.sealed, self.name)
        except DamagedVault:
            return None
        return parse_master(plaintext, self.name)


def open_key_file(password: str, body: Buffer, name: str = "key file") -> DataKeys | None:
    """The data keys in a key file, or None if `password` is not its password. Raises DamagedVault."""
    return read_key_file(body, name).open(password)


def read_key_file(body: Buffer, name: str = "key file") -> KeyFile:
    """What a key file says, before any work is spent on it. Raises DamagedVault."""
    try:
        document = json.loads(str(body, "utf-8"))
        if not isinstance(document, dict) or document.get("kdf") != "scrypt":
            raise DamagedVault(name=name, detail="it is not a scrypt key file")
        cost = ScryptCost(*(_whole(document.get(field)) for field in ("N", "r", "p")))
        salt, sealed = _unb64(document.get("salt")), _unb64(document.get("data"))
    except (ValueError, TypeError, RecursionError) as error:
        raise DamagedVault(name=name, detail=f"it cannot be read: {error}") from None
    if cost.n & (cost.n - 1) or cost.memory > _SCRYPT_MEMORY or cost.n * cost.r * cost.p > _SCRYPT_WORK:
        raise DamagedVault(name=name, detail=f"scrypt parameters {cost.n}, {cost.r}, {cost.p} are not allowed")
    if len(sealed) < SEAL_OVERHEAD:
        raise DamagedVault(name=name, detail="its data is too short")
    told = (str(document.get(field) or "") for field in ("created", "hostname", "username"))
    return KeyFile(name, cost, salt, sealed, *told)


def parse_master(plaintext: Buffer, name: str = "key file") -> DataKeys:
    """The data keys in the document that a key file seals. Raises DamagedVault."""
    try:
        master = json.loads(str(plaintext, "utf-8"))
        return DataKeys(_unb64(master["encrypt"]), _unb64(master["mac"]["k"]), _unb64(master["mac"]["r"]))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DamagedVault(name=name, detail=f"its data keys cannot be read: {error}") from None


def _stretch(password: str, salt: bytes, cost: ScryptCost) -> DataKeys:
    memory = cost.memory + (1 << 20)
    key = hashlib.scrypt(password.encode(), salt=salt, n=cost.n, r=cost.r, p=cost.p, maxmem=memory, dklen=64)
    return DataKeys(key[:32], key[32:48], key[48:])


def _whole(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError("a scrypt parameter is no positive number")
    return value


def _b64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _unb64(value: Any) -> bytes:
    if not isinstance(value, str):
        raise TypeError("a field is missing")
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError(f"bad base64: {error}") from None
