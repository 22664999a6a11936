"""The packs of a listing with their sizes, 49 bytes each: a vault of ten terabytes has 600,000.

Kept true: each pack of the listing is either taken or among the rest, and none is both, for a listing that names one
twice is refused.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator

from client.errors import StoreError
from client.stores.abc import ObjectInfo
from client.vault.blobs import ID_BYTES
from domain.names import ObjectKind, ObjectName

_PREFIX = 8


class PackSizes:
    """Packs by id, to be taken one by one."""

    def __init__(self, listing: Iterable[ObjectInfo]) -> None:
        """`listing` is in the order of names, as `StoreSession.list` gives it. Raises StoreError if it is not."""
        self._ids = bytearray()
        self._prefixes = array("Q")  # numbers made of the ids' first eight bytes
        self._sizes = array("Q")
        for info in listing:
            identity = bytes.fromhex(info.name.id)
            if identity <= self._ids[-ID_BYTES:]:
                detail = f"its list of packs names {info.name} twice or out of order: nothing can be decided by it"
                raise StoreError(place="The vault", detail=detail)
            self._ids += identity
            self._prefixes.append(int.from_bytes(identity[:_PREFIX]))
            self._sizes.append(info.size)
        self._taken = bytearray(len(self._sizes))

    def __len__(self) -> int:
        return len(self._sizes)

    def find(self, pack: bytes) -> int | None:
        """The position of a pack in the listing, from 0 on; None if it is not listed."""
        prefix = int.from_bytes(pack[:_PREFIX])
        at = bisect_left(self._prefixes, prefix)
        while at < len(self._prefixes) and self._prefixes[at] == prefix:
            if self._id(at) == pack:
                return at
            at += 1
        return None

    def take(self, pack: bytes) -> int | None:
        """The size of a pack in bytes; None if it is not listed."""
        at = self.find(pack)
        if at is None:
            return None
        self._taken[at] = 1
        return self._sizes[at]

    def name(self, at: int) -> ObjectName:
        """The pack at a position."""
        return ObjectName(ObjectKind.PACK, self._id(at).hex())

    def size(self, at: int) -> int:
        """The size in bytes of the pack at a position."""
        return self._sizes[at]

    def all(self) -> Iterator[tuple[bytes, int]]:
        """Every pack's id and size, by id."""
        return ((self._id(at), size) for at, size in enumerate(self._sizes))

    def rest(self) -> Iterator[tuple[ObjectName, int]]:
        """The packs that were not taken, and their sizes, by name."""
        at = self._taken.find(0)
        while at >= 0:
            yield self.name(at), self._sizes[at]
            at = self._taken.find(0, at + 1)

    def _id(self, at: int) -> bytes:
        return bytes(self._ids[at * ID_BYTES : (at + 1) * ID_BYTES])
