"""Objects that cost their maker next to nothing, so that what is measured is the server.

Kept true: no two are alike, none compresses, each has the SHA-256 that it is named by, and what comes back is compared
with what was sent. All share their bytes but for the last ones, so any number of them takes the memory of one.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from bench.measure import NotMeasured

FRAME = 512 << 10  # as backup-tool sends them
_TAIL = 32


@dataclass(frozen=True, slots=True)
class Body:
    """One object: its SHA-256 in hex, and the bytes in which it differs from the others."""

    id: str
    tail: bytes


class Bodies:
    """Objects of `size` bytes each."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._head = memoryview(os.urandom(size - _TAIL))
        self._hash = sha256(self._head)

    def make(self) -> Body:
        tail = os.urandom(_TAIL)
        whole = self._hash.copy()
        whole.update(tail)
        return Body(whole.hexdigest(), tail)

    def frames(self, body: Body) -> Iterator[memoryview]:
        """The object in order, in pieces of at most FRAME bytes."""
        for start in range(0, len(self._head), FRAME):
            yield self._head[start : start + FRAME]
        yield memoryview(body.tail)

    def returned(self, body: Body) -> "Returned":
        return Returned(self._head, body)


class Returned:
    """An object on its way back."""

    def __init__(self, head: memoryview, body: Body) -> None:
        self._head = head
        self._body = body
        self._at = 0

    def take(self, frame: memoryview) -> None:
        """The next bytes of it. Raises NotMeasured when they are not those that were sent."""
        in_head = self._head[self._at : self._at + len(frame)]
        in_tail = frame[len(in_head) :]
        start = max(0, self._at - len(self._head))
        self._at += len(frame)
        if frame[: len(in_head)] != in_head or self._body.tail[start : start + len(in_tail)] != in_tail:
            raise NotMeasured(f"object {self._body.id} came back with other bytes than it was sent with")

    def end(self) -> None:
        """Raises NotMeasured unless all of it has come."""
        if self._at != len(self._head) + len(self._body.tail):
            raise NotMeasured(f"object {self._body.id} came back with {self._at} bytes")
