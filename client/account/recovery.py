"""Recovery codes: 256 random bits on paper that open the account key when the password is lost.

Kept true: every mistyped character and every swapped pair of neighbours or groups is found before anything is
sent, and the message names the group.

A code is 13 groups of five characters in Crockford's base 32 (no I, L, O, U; those typed for 1 and 0 are understood).
Four characters of a group carry data, the fifth checks them and the group's place. The 52 data characters are the
256 bits and four bits of their SHA-256.
"""

import secrets
from hashlib import sha256
from uuid import UUID

from client.account.seals import KEY_BYTES, RandomBytes, Sealer, SealPurpose, derive
from client.errors import BadRecoveryCode

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES = {character: value for value, character in enumerate(_ALPHABET)} | {"O": 0, "I": 1, "L": 1}
_GROUPS = 13
_DATA_IN_GROUP = 4
_FIELD_POLYNOMIAL = 0b100101  # x^5 + x^2 + 1, primitive over GF(2)


def new_code(random: RandomBytes = secrets.token_bytes) -> str:
    """A fresh code, as it is printed."""
    return write_code(random(KEY_BYTES))


def write_code(secret: bytes) -> str:
    """The printed form of 32 bytes."""
    if len(secret) != KEY_BYTES:
        raise ValueError(f"a recovery code holds {KEY_BYTES} bytes")
    number = int.from_bytes(secret, "big") << 4 | sha256(secret).digest()[0] >> 4
    values = [number >> 5 * place & 31 for place in reversed(range(_GROUPS * _DATA_IN_GROUP))]
    groups = [values[start : start + _DATA_IN_GROUP] for start in range(0, len(values), _DATA_IN_GROUP)]
    return "-".join(
        "".join(_ALPHABET[value] for value in (*group, _check(place, group))) for place, group in enumerate(groups)
    )


def read_code(text: str) -> bytes:
    """The 32 bytes of a typed code; case, blanks and dashes do not matter. Raises BadRecoveryCode."""
    typed = [character for character in text.upper() if not character.isspace() and character not in "-\u2010\u2013"]
    expected = _GROUPS * (_DATA_IN_GROUP + 1)
    for character in typed:
        if character not in _VALUES:
            raise BadRecoveryCode(detail=f"it has no character {character!r}.")
    if len(typed) != expected:
        raise BadRecoveryCode(detail=f"it has {expected} characters, these are {len(typed)}.")
    number = 0
    for place in range(_GROUPS):
        start = place * (_DATA_IN_GROUP + 1)
        *group, check = (_VALUES[character] for character in typed[start : start + _DATA_IN_GROUP + 1])
        if check != _check(place, group):
            written = "".join(typed[start : start + _DATA_IN_GROUP + 1])
            raise BadRecoveryCode(detail=f"group {place + 1} of {_GROUPS}, {written}, is mistyped.")
        for value in group:
            number = number << 5 | value
    secret = (number >> 4).to_bytes(KEY_BYTES, "big")
    if number & 15 != sha256(secret).digest()[0] >> 4:
        raise BadRecoveryCode(detail="several characters are mistyped.")
    return secret


def proof(secret: bytes) -> bytes:
    """What is shown to the server, which keeps a hash of it; it opens nothing."""
    return derive(secret, "oort recovery proof v1")


def seal_account_key(secret: bytes, user: UUID, account_key: bytes, random: RandomBytes = secrets.token_bytes) -> bytes:
    """K sealed under the code."""
    sealer = Sealer(derive(secret, "oort recovery seal v1"), user, random)
    return sealer.seal(SealPurpose.ACCOUNT_KEY_BY_RECOVERY_CODE, account_key)


def open_account_key(secret: bytes, user: UUID, sealed: bytes) -> bytes:
    """K from its seal under the code. Raises BrokenSeal."""
    sealer = Sealer(derive(secret, "oort recovery seal v1"), user)
    return sealer.open(SealPurpose.ACCOUNT_KEY_BY_RECOVERY_CODE, sealed)


def _check(place: int, group: list[int]) -> int:
    """Weighted sum in GF(32): all weights differ, so one wrong value, a swap, or a wrong place changes it."""
    total, weight = 0, 1
    for value in (*group, place):
        weight = _times(weight, 2)
        total ^= _times(value, weight)
    return total


def _times(left: int, right: int) -> int:
    product = 0
    while right:
        if right & 1:
            product ^= left
        left <<= 1
        if left & 32:
            left ^= _FIELD_POLYNOMIAL
        right >>= 1
    return product
