"""From a password to keys, on the user's machine alone.

Kept true: the password and R never leave the process; only L is sent. Parameters that the server names are
used between fixed bounds, so that it can neither weaken the stretching nor exhaust the machine; for a new
password this client chooses salt and parameters itself. docs/keys.md has the derivation and its vectors.

    NFC password -> Argon2id (RFC 9106, 64 bytes out) -> HKDF-SHA512 -> L, R;  R seals K.
"""

import secrets
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from oort.auth.v1 import accounts_pb2

from client.account.seals import KEY_BYTES, RandomBytes, Sealer, SealPurpose, derive
from client.errors import UnsafeServer, UsageError, WeakPassword

SHORTEST_PASSWORD = 8
_LONGEST_PASSWORD = 1024  # characters; a bound against a wrong file on standard input
_LEAST_SCORE = 3  # zxcvbn: "safely unguessable" behind a slow hash
_ZXCVBN_LONGEST = 72  # characters it looks at

SALT_BYTES = 16
_MEMORY_KIB = (64 * 1024, 1024 * 1024)
_ITERATIONS = (3, 16)
_LANES = (1, 16)
_SALT_LENGTHS = (16, 64)


@dataclass(frozen=True, slots=True)
class Stretching:
    """Parameters of Argon2id; memory in KiB."""

    salt: bytes
    memory_kib: int = 64 * 1024
    iterations: int = 3
    lanes: int = 4

    @classmethod
    def from_message(cls, message: accounts_pb2.KdfParameters) -> "Stretching":
        """Read what a server asks for. Raises UnsafeServer outside the bounds."""
        asked = cls(message.salt, message.memory_kib, message.iterations, message.lanes)
        for name, value, (least, most) in (
            ("salt length", len(asked.salt), _SALT_LENGTHS),
            ("memory", asked.memory_kib, _MEMORY_KIB),
            ("iterations", asked.iterations, _ITERATIONS),
            ("lanes", asked.lanes, _LANES),
        ):
            if not least <= value <= most:
                raise UnsafeServer(detail=f"{name} {value}, allowed are {least} to {most}")
        return asked

    def to_message(self) -> accounts_pb2.KdfParameters:
        return accounts_pb2.KdfParameters(
            salt=self.salt, memory_kib=self.memory_kib, iterations=self.iterations, lanes=self.lanes
        )


@dataclass(frozen=True, slots=True, repr=False)
class PasswordKeys:
    """L, which proves the password to the server, and R, which opens K and is never sent; 32 bytes each."""

    login: bytes
    root: bytes


def normalise(password: str) -> str:
    """The form that is stretched: NFC (Unicode Annex 15), so that every keyboard gives the same keys.

    Raises UsageError for what cannot be a password: nothing, several lines, broken text.
    """
    if not password:
        raise UsageError(detail="The password is empty.")
    if len(password) > _LONGEST_PASSWORD:
        raise UsageError(detail=f"The password is longer than {_LONGEST_PASSWORD} characters.")
    if len(password.splitlines()) > 1 or password.splitlines()[0] != password or "\0" in password:
        raise UsageError(detail="The password must be a single line.")
    try:
        password.encode()
    except UnicodeEncodeError:
        raise UsageError(detail="The password is not valid UTF-8 text.") from None
    return unicodedata.normalize("NFC", password)


def require_strong(password: str, known: Sequence[str] = ()) -> str:
    """The normalised password if it may protect an account. Raises WeakPassword with the reason.

    `known` are words that an attacker tries first: the user's and the product's name.
    """
    password = normalise(password)
    if len(password) < SHORTEST_PASSWORD:
        raise WeakPassword(reason=f"use at least {SHORTEST_PASSWORD} characters.")
    from zxcvbn import zxcvbn  # half a megabyte of word lists, needed by this alone

    found = zxcvbn(password[:_ZXCVBN_LONGEST], user_inputs=["oort", "backup", *known])
    if found["score"] < _LEAST_SCORE:
        feedback = found["feedback"]
        said = [feedback["warning"] or "it can be guessed quickly.", *feedback["suggestions"]]
        raise WeakPassword(reason=" ".join(said))
    return password


def stretch(password: str, parameters: Stretching) -> PasswordKeys:
    """Derive L and R. Takes about 0.2 s and 64 MiB on purpose."""
    kdf = Argon2id(
        salt=parameters.salt,
        length=64,
        iterations=parameters.iterations,
        lanes=parameters.lanes,
        memory_cost=parameters.memory_kib,
    )
    stretched = kdf.derive(normalise(password).encode())
    return PasswordKeys(derive(stretched, "oort login key v1"), derive(stretched, "oort root key v1"))


def new_credentials(
    user: UUID,
    password: str,
    account_key: bytes,
    known: Sequence[str] = (),
    random: RandomBytes = secrets.token_bytes,
) -> accounts_pb2.Credentials:
    """Everything that a new password changes: fresh salt, L, and K sealed under R. Raises WeakPassword."""
    password = require_strong(password, known)
    parameters = Stretching(random(SALT_BYTES))
    keys = stretch(password, parameters)
    sealed = Sealer(keys.root, user, random).seal(SealPurpose.ACCOUNT_KEY_BY_PASSWORD, account_key)
    return accounts_pb2.Credentials(kdf=parameters.to_message(), login_key=keys.login, sealed_key=sealed)


def new_account(
    user: UUID, password: str, known: Sequence[str] = (), random: RandomBytes = secrets.token_bytes
) -> tuple[accounts_pb2.Credentials, bytes]:
    """Credentials and account key K of a new user. `user` is the id that the user will have.

    Raises WeakPassword, and UsageError for what cannot be a password at all.
    """
    account_key = random(KEY_BYTES)
    return new_credentials(user, password, account_key, known, random), account_key


def open_account_key(user: UUID, keys: PasswordKeys, sealed: bytes) -> bytes:
    """K from its seal under R. Raises BrokenSeal."""
    return Sealer(keys.root, user).open(SealPurpose.ACCOUNT_KEY_BY_PASSWORD, sealed)
