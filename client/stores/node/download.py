"""One object, or a part of it, on its way from a node: gone on with elsewhere when a node dies, and checked.

Kept true: what is returned has the length that was asked for; a whole object has the SHA-256 of its name; a node that
sends without an end fills no memory. What has come is in memory once: each frame is copied behind the one before it.
"""

import io
from collections.abc import Iterable
from hashlib import sha256

from oort.storage.v1 import objects_pb2

from client.errors import DamagedVault, OortError, TruncatedObject
from client.stores.node.nodes import BadCopy
from client.stores.node.stalls import Progress
from domain.names import ObjectKind, ObjectName

_SMALL = 1 << 20
# Bytes that come at most where no length is asked for. A pack holds one blob at least: the tree of a large folder.
_LARGEST = {
    ObjectKind.CONFIG: _SMALL,
    ObjectKind.SEAL: _SMALL,
    ObjectKind.KEY: _SMALL,
    ObjectKind.LOCK: _SMALL,
    ObjectKind.SNAPSHOT: 256 << 20,
    ObjectKind.INDEX: 256 << 20,
    ObjectKind.PACK: 4 << 30,
}


class Download:
    """Bytes `offset` to `offset + length` of an object, or to its end when `length` is None."""

    def __init__(self, name: ObjectName, offset: int, length: int | None) -> None:
        self._name = name
        self._offset = offset
        self._length = length
        self._body = io.BytesIO()

    @property
    def is_full(self) -> bool:
        return self._length is not None and self._body.tell() >= self._length

    def request(self, session_id: str) -> objects_pb2.GetRequest:
        """Ask for what is missing yet."""
        if self._length is None:
            # The end is not known: what came may have been all of it, and nothing after the end can be asked for.
            self._drop()
            return objects_pb2.GetRequest(session_id=session_id, name=str(self._name), offset=self._offset)
        have = self._body.tell()
        return objects_pb2.GetRequest(
            session_id=session_id, name=str(self._name), offset=self._offset + have, length=self._length - have
        )

    def receive(self, frames: Iterable[memoryview], progress: Progress) -> None:
        """Take what comes. Raises BadCopy if it is more than there can be."""
        limit = _LARGEST[self._name.kind] if self._length is None else self._length
        for frame in frames:
            if self._body.tell() + len(frame) > limit:
                self._drop()
                raise BadCopy(DamagedVault(name=self._name, detail=f"more than {limit} bytes came"))
            self._body.write(frame)
            progress.moved()

    def whole(self) -> bytes:
        """Check, and answer all. Raises BadCopy; what is wrong is thrown away, so that another node sends it afresh."""
        body = self._body.getvalue()  # no copy, unless more is written
        error = self._fault(body)
        if error is not None:
            self._drop()
            raise BadCopy(error)
        return body

    def _drop(self) -> None:
        self._body = io.BytesIO()

    def _fault(self, body: bytes) -> OortError | None:
        if self._length is None:
            if self._offset == 0 and self._name.id and sha256(body).hexdigest() != self._name.id:
                return DamagedVault(name=self._name, detail="its bytes have another SHA-256 than its name")
        elif len(body) < self._length:
            detail = f"{len(body)} bytes came from {self._offset} in place of {self._length}"
            return TruncatedObject(name=self._name, detail=detail)
        return None
