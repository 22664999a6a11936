"""Reading JSON documents that a vault keeps: strict about what must be trusted, lenient about unknown fields.

Kept true: whatever the bytes are, reading ends in the value asked for or in DamagedVault.
"""

import json
from typing import Any, NoReturn

from client.errors import DamagedVault
from client.vault.blobs import ID_BYTES, Buffer

U32 = (1 << 32) - 1
U64 = (1 << 64) - 1


class Document:
    """One JSON object; `name` is what messages call it."""

    __slots__ = ("fields", "name")

    def __init__(self, name: str, fields: Any) -> None:
        self.name = name
        if not isinstance(fields, dict):
            self.refuse("it is no JSON object")
        self.fields: dict[str, Any] = fields

    @classmethod
    def parse(cls, body: Buffer, name: str) -> "Document":
        """Read a JSON object from UTF-8. Raises DamagedVault."""
        try:
            return cls(name, json.loads(str(body, "utf-8")))
        except (ValueError, RecursionError) as error:
            raise DamagedVault(name=name, detail=f"it is no JSON ({error})") from None

    def refuse(self, detail: str) -> NoReturn:
        raise DamagedVault(name=self.name, detail=detail)

    def text(self, field: str) -> str:
        """A string; empty if absent."""
        value = self.fields.get(field)
        if value is None:
            return ""
        if not isinstance(value, str):
            self.refuse(f"{field} is no string")
        return value

    def whole(self, field: str, limit: int = U64) -> int:
        """A number of 0 to `limit`; 0 if absent."""
        value = self.fields.get(field)
        if value is None:
            return 0
        if type(value) is not int or not 0 <= value <= limit:
            self.refuse(f"{field} is no number of 0 to {limit}")
        return value

    def items(self, field: str) -> list[Any]:
        """A list; empty if absent or null."""
        value = self.fields.get(field)
        if value is None:
            return []
        if not isinstance(value, list):
            self.refuse(f"{field} is no list")
        return value

    def texts(self, field: str) -> tuple[str, ...]:
        """A list of strings; empty if absent or null."""
        values = self.items(field)
        if not all(isinstance(value, str) for value in values):
            self.refuse(f"{field} is no list of strings")
        return tuple(values)

    def optional_id(self, field: str) -> bytes | None:
        """A SHA-256 in hex, or None if absent."""
        value = self.fields.get(field)
        return None if value is None else self.as_id(value, field)

    def id(self, field: str) -> bytes:
        """A SHA-256 in hex."""
        return self.as_id(self.fields.get(field), field)

    def as_id(self, value: Any, field: str) -> bytes:
        """The 32 bytes of `value`, 64 lower-case hex digits."""
        try:
            return id_of(value)
        except (TypeError, ValueError):
            self.refuse(f"{field} is no SHA-256 in hex")


def id_of(text: str) -> bytes:
    """The 32 bytes that 64 lower-case hex digits say. Raises TypeError, ValueError."""
    identity = bytes.fromhex(text)
    if len(identity) != ID_BYTES or identity.hex() != text:
        raise ValueError("not 64 lower-case hex digits")
    return identity
