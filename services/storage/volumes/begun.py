"""Which buckets have begun on a disk, as all workers of the node know it also while the disk is away.

Kept true: a bucket is noted before its folder is made, and when a folder is found that somebody else has made; so what
is not noted has nothing on the disk. What was noted stays so for as long as the node runs, but where there is one
worker alone: no other one can have begun it again.

In a file in memory (memfd) that all workers have, 16 bytes each: the disk's id, then those of buckets. A process that
is killed leaves a whole note or none.
"""

import fcntl
import os
import threading
from collections.abc import Iterable
from uuid import UUID

_BYTES = 16
_AT_ONCE = 4096 * _BYTES


class Begun:
    """Those of one disk. For any thread."""

    def __init__(self, descriptor: int) -> None:
        """What another worker has made. Close it."""
        self.descriptor = descriptor
        self._known: set[UUID] = set()
        self._read = _BYTES
        self._turn = threading.Lock()

    @classmethod
    def make(cls, disk: UUID, buckets: Iterable[UUID]) -> "Begun":
        """Raises OSError."""
        descriptor = os.memfd_create("oort-begun", os.MFD_CLOEXEC)
        with open(descriptor, "wb", closefd=False) as file:
            file.write(b"".join(one.bytes for one in (disk, *buckets)))
        fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_APPEND)
        return cls(descriptor)

    @property
    def disk(self) -> UUID:
        return UUID(bytes=os.pread(self.descriptor, _BYTES, 0))

    def close(self) -> None:
        os.close(self.descriptor)

    def add(self, bucket: UUID) -> None:
        """Tell all workers. Raises OSError when no memory is left."""
        if bucket not in self:
            os.write(self.descriptor, bucket.bytes)  # appended, and no other one's is in between

    def forget(self, bucket: UUID) -> None:
        """By the only worker of a node."""
        with self._turn:
            self._catch_up()
            self._known.discard(bucket)

    def __contains__(self, bucket: UUID) -> bool:
        if bucket in self._known:
            return True
        with self._turn:
            self._catch_up()
            return bucket in self._known

    def _catch_up(self) -> None:
        """Read what workers have noted since."""
        while found := os.pread(self.descriptor, _AT_ONCE, self._read):
            self._read += len(found)
            self._known.update(UUID(bytes=found[at : at + _BYTES]) for at in range(0, len(found), _BYTES))
