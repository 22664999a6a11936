"""Names of the objects in a vault.

Kept true: a name parsed here holds no path separator, so it may be joined to a folder on any machine;
the name of every object but `config` and `oort-vault` is the SHA-256 of its stored bytes, in lower-case hex
(restic, doc/design.rst, "Repository Layout").
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

_HEX_NAME = re.compile(r"[0-9a-f]{64}")


class ObjectKind(StrEnum):
    """Where in a vault an object lies; the value is the folder, or the file itself for the two root files."""

    CONFIG = "config"
    SEAL = "oort-vault"  # E sealed under K; restic ignores the file
    KEY = "keys"
    PACK = "data"
    INDEX = "index"
    SNAPSHOT = "snapshots"
    LOCK = "locks"

    @property
    def is_root_file(self) -> bool:
        return self in (ObjectKind.CONFIG, ObjectKind.SEAL)


class BadName(ValueError):
    """Not the name of a vault's object: use KIND/SHA-256-HEX, `config` or `oort-vault`."""


@dataclass(frozen=True, slots=True, order=True)
class ObjectName:
    """One object of a vault; `id` is 64 hex digits, or empty for the two root files."""

    kind: ObjectKind
    id: str = ""

    def __post_init__(self) -> None:
        if self.kind.is_root_file:
            if self.id:
                raise BadName(f"{self.kind}/{self.id}")
        elif not _HEX_NAME.fullmatch(self.id):
            raise BadName(f"{self.kind}/{self.id}")

    def __str__(self) -> str:
        return f"{self.kind.value}/{self.id}" if self.id else self.kind.value

    @property
    def path(self) -> str:
        """Place below the bucket's folder, with `/`; packs lie in one of 256 sub-folders."""
        if self.kind is ObjectKind.PACK:
            return f"data/{self.id[:2]}/{self.id}"
        return str(self)

    @classmethod
    def parse(cls, text: str) -> "ObjectName":
        """Read what `str` wrote. Raises BadName."""
        folder, _, name = text.partition("/")
        try:
            kind = ObjectKind(folder)
        except ValueError:
            raise BadName(text) from None
        return cls(kind, name)

    @classmethod
    def of(cls, kind: ObjectKind, body: bytes) -> "ObjectName":
        """The name that `body` must have."""
        return cls(kind, sha256(body).hexdigest())


CONFIG = ObjectName(ObjectKind.CONFIG)
SEAL = ObjectName(ObjectKind.SEAL)
