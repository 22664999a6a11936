"""Words that client and storage nodes share about sessions on a bucket (docs/sessions.md)."""

from enum import StrEnum

MAX_SNAPSHOT_BYTES = 3 << 20  # sealed; a message has at most 4 MiB
# Metadata of an operator's call, where a device has a token: the bucket that it is about, and whose that is.
OPERATOR_METADATA = ("oort-bucket", "oort-tenant", "oort-user")


class Purpose(StrEnum):
    """What a session was opened for. Only backups and adoptions write; retention comes alone.

    A restic has no session of its own choice: its lock files make one (docs/sessions.md). Nodes alone open one to
    replicate, in a bucket that follows another cluster's.
    """

    READ = "read"
    BACKUP = "backup"
    ADOPT = "adopt"
    RETENTION = "retention"
    RESTIC = "restic"
    REPLICATE = "replicate"


class Scope(StrEnum):
    """What a vault token allows."""

    READ = "read"
    APPEND = "append"
    DELETE = "delete"


NEEDED_SCOPE = {
    Purpose.READ: Scope.READ,
    Purpose.BACKUP: Scope.APPEND,
    Purpose.ADOPT: Scope.APPEND,
    Purpose.RETENTION: Scope.DELETE,
}


def opening_statement(session: str, bucket: str, purpose: Purpose, parent: str) -> bytes:
    """The bytes that a device signs with its Ed25519 key to open a session.

    `session` and `bucket` are UUIDs as text, `parent` the pinned snapshot's id in hex or empty. A copied
    token therefore opens nothing, and the signature fits no other bucket, purpose or session.
    """
    return b"\0".join(part.encode() for part in ("oort session v1", session, bucket, purpose.value, parent))
