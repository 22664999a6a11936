"""A set of blobs' places, a bit for each 32 bytes of a pack, which no two blobs share, as none is shorter."""

from typing import TYPE_CHECKING

from client.vault.blobs import SEAL_OVERHEAD
from client.vault.index import Location

if TYPE_CHECKING:
    from domain.names import ObjectName


class PlaceSet:
    """Places, for trees a few bits each."""

    def __init__(self) -> None:
        self._packs: dict[ObjectName, bytearray] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, location: Location) -> bool:
        bits = self._packs.get(location.pack, b"")
        at, bit = divmod(location.entry.offset // SEAL_OVERHEAD, 8)
        return at < len(bits) and bool(bits[at] >> bit & 1)

    def add(self, location: Location) -> bool:
        """False if it was there."""
        bits = self._packs.setdefault(location.pack, bytearray())
        at, bit = divmod(location.entry.offset // SEAL_OVERHEAD, 8)
        if at >= len(bits):
            bits.extend(bytes(at + 1 - len(bits)))
        if bits[at] >> bit & 1:
            return False
        bits[at] |= 1 << bit
        self._count += 1
        return True
