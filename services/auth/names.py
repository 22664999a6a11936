"""What callers send, held within bounds: names, opaque bytes, numbers."""

import re
from uuid import UUID

from services.auth.errors import BadName
from services.common.errors import InvalidArgument
from services.common.messages import uuid_of

# reference: 1 to 255 of these, case-sensitive.
_USERNAME = re.compile(r"[a-zA-Z0-9_.@-]{1,255}")
_LONGEST_NAME = 255
_MAX_BIGINT = (1 << 63) - 1
_VERSION_7 = 7


def username(text: str) -> str:
    """A user name. Raises BadName."""
    if not _USERNAME.fullmatch(text):
        raise BadName(what="A user name", rule="has 1 to 255 of the characters a-z A-Z 0-9 _ . @ -")
    return text


def printable(text: str, what: str) -> str:
    """A name that a person gave, without the spaces around it. Raises BadName."""
    name = text.strip()
    if not 1 <= len(name) <= _LONGEST_NAME or not name.isprintable():
        raise BadName(what=what, rule=f"has 1 to {_LONGEST_NAME} printable characters")
    return name


def short_text(text: str, field: str, longest: int = 255) -> str:
    """Text that may be empty. Raises InvalidArgument when it is too long or holds control characters."""
    if len(text) > longest or not text.isprintable():
        raise InvalidArgument(detail=f"{field} has at most {longest} printable characters.")
    return text


def opaque(value: bytes, field: str, longest: int, *, least: int = 0) -> bytes:
    """Bytes that only clients understand, within bounds. Raises InvalidArgument."""
    if not least <= len(value) <= longest:
        raise InvalidArgument(detail=f"{field} has {least} to {longest} bytes, not {len(value)}.")
    return value


def exactly(value: bytes, field: str, length: int) -> bytes:
    return opaque(value, field, length, least=length)


def bounded(value: int, field: str, least: int = 0, most: int = _MAX_BIGINT) -> int:
    """A number within bounds. Raises InvalidArgument."""
    if not least <= value <= most:
        raise InvalidArgument(detail=f"{field} is between {least} and {most}, not {value}.")
    return value


def new_id(text: str, field: str) -> UUID:
    """The id of something to be created: UUID version 7 (RFC 9562). Raises InvalidArgument."""
    value = uuid_of(text, field)
    if value.version != _VERSION_7:
        raise InvalidArgument(detail=f"{field} is not a UUID of version 7.")
    return value
