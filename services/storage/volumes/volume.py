"""Where a node keeps bodies: a folder of a disk, or a prefix of an object store.

Kept true by each: what lies in a bucket under an object's name is whole and was verified before it came there; a staged
body that `staged` tells of is whole and durable too; nothing is taken from a bucket but by `remove`.
Everything here blocks, and runs in the node's disk threads. What cannot be reached now raises Unavailable, which says
nothing of what lies there.
"""

from collections.abc import Container, Iterator, Sequence
from hashlib import sha256
from typing import Protocol
from uuid import UUID

from domain.names import ObjectKind, ObjectName
from services.storage.store.nodes import NodeDisk
from services.storage.store.rescans import FoundFile
from services.storage.volumes.staging import StagedName

_HASH_BYTES = 1 << 20


class OpenObject(Protocol):
    """An object that is read. Close it."""

    def read(self, offset: int, length: int) -> bytes:
        """Bytes from `offset`; fewer than `length` only if it was cut since it was opened. Raises OSError."""

    def read_cached(self, offset: int, into: memoryview) -> bool:
        """Fill `into` from `offset` without waiting; False unless all of it is in memory."""

    def let_go(self, offset: int, length: int) -> None:
        """Have dropped from memory what was read of a part: the next reading is one of what is stored."""

    def close(self) -> None: ...


class CopiedObject(OpenObject, Protocol):
    """One that nobody has verified yet."""

    @property
    def size(self) -> int:
        """Bytes, when it was opened."""

    def is_unchanged(self) -> bool:
        """Whether it is still what was opened."""


class StagedBody(Protocol):
    """One body on its way in. Used by one put, one call after the other."""

    def write(self, frame: bytes | memoryview) -> None:
        """Hash and keep. Raises NameMismatch for more bytes than announced, DiskFull."""

    def finish(self) -> None:
        """Verify the whole body and make it durable. Raises NameMismatch, DiskFull."""

    def place(self) -> object:
        """Move the finished body into its place; its object is in the catalogue."""

    def discard(self) -> None:
        """Throw it away, in whatever state it is."""


class WaitingBody(Protocol):
    """A body that was finished and lies there, be it from an earlier run of the node."""

    @property
    def staged(self) -> StagedName: ...

    def exists(self) -> bool:
        """Whether it waits still: its own put may have settled it."""

    def is_taken(self) -> bool:
        """Whether something lies in its place."""

    def open(self) -> tuple[OpenObject, int] | None:
        """Its content and size; None if it has gone."""

    def place(self) -> object:
        """Move it into its place, durably; nothing if somebody has placed it. Raises DiskFull, OSError."""

    def discard(self) -> None: ...


class Volume(Protocol):
    @property
    def free_bytes(self) -> int:
        """Bytes that may still come, above the low-water mark."""

    @property
    def is_there(self) -> bool:
        """Whether what was opened can be reached, and is still this node's."""

    def state(self) -> NodeDisk:
        """Which it is, what it can take, and whether it is there."""

    def held(self) -> set[UUID]:
        """The buckets of which something may lie here, looked for anew. Raises OSError."""

    def has_bucket(self, bucket: UUID) -> bool: ...

    def may_hold(self, bucket: UUID) -> bool:
        """Whether it has the bucket, or, if it is away, had it when it was there."""

    def make_bucket(self, bucket: UUID) -> None:
        """Begin the bucket here. Nothing if it is complete."""

    def stage(self, staged: StagedName, size: int, *, frees: bool = False, first: bool = False) -> StagedBody:
        """Begin to take a body of `size` bytes. Raises DiskFull before the first of them.

        What room is made by (`frees`) may take half of what lies below the low-water mark. In the place of the `first`
        of its name nothing else may lie: Unentered.
        """

    def staged(self, bucket: UUID | None = None) -> Iterator[WaitingBody]:
        """Whole bodies that wait, of one bucket or of all. What has a foreign name is left alone.

        Raises Unavailable: that none can be seen does not say that none waits.
        """

    def drop_parts(self) -> int:
        """Remove what an earlier run of this node had only begun to take. Answers how many."""

    def open(self, bucket: UUID, name: ObjectName, size: int, *, cut: bool = False) -> OpenObject | None:
        """None if it is not here in that size; with `cut` it may have more, or be what is left of a longer one."""

    def lacking(self, bucket: UUID, wanted: Sequence[tuple[ObjectName, int]]) -> set[ObjectName]:
        """Those of `wanted`, names with their sizes, that do not lie here in that size."""

    def remove(self, bucket: UUID, names: Sequence[ObjectName]) -> set[ObjectName]:
        """Remove objects durably. Answers those of which nothing is left here; what resists is logged."""

    def root_files(self, bucket: UUID) -> list[FoundFile]:
        """`config` and the seal, where they lie here, hashed. Raises OSError."""

    def files(self, bucket: UUID) -> Iterator[FoundFile | str]:
        """What else lies in the bucket; the path there of what is no object at its place. Raises OSError."""

    def of_kind(self, bucket: UUID, kind: ObjectKind) -> Iterator[FoundFile | str]:
        """As `files`, of one kind."""

    def copied(self, bucket: UUID, name: ObjectName) -> CopiedObject | None:
        """Open what somebody may have put there by hand, durable from now on; None if there is nothing.

        Raises Unfit where it is not to be entered.
        """

    def sessions_of(self, bucket: UUID) -> set[UUID]:
        """Whose puts have bodies of the bucket on their way in, begun or whole. Raises Unavailable, OSError."""

    def clear(self, bucket: UUID, over: Container[UUID]) -> bool:
        """Remove the bucket, but bodies on their way in of sessions that are not `over`. Answers whether it is gone.

        What has a foreign name stays. Raises Unavailable, OSError; what has been removed by then is gone.
        """

    def is_noted(self, order: UUID) -> bool:
        """Whether an order to clear a bucket was noted as being over. Raises Unavailable, OSError."""

    def note(self, order: UUID) -> None:
        """Note durably that an order to clear a bucket is over. Raises Unavailable, OSError."""

    def close(self) -> None: ...


def hash_of(opened: OpenObject, size: int) -> bytes | None:
    """The SHA-256 of all of it; None if it has been cut. Raises OSError."""
    digest = sha256()
    offset = 0
    while offset < size and (data := opened.read(offset, min(_HASH_BYTES, size - offset))):
        digest.update(data)
        offset += len(data)
    return digest.digest() if offset == size else None
