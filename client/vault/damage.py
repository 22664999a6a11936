"""Which places of a vault's blobs are bad, and which blobs are lost by that: those of which no place is whole.

Kept true: memory grows with the damage and not with the vault: some 100 bytes for a pack that is bad as a whole, and
for a blob that is bad in a pack of which others are whole.
"""

from collections.abc import Iterable

from client.vault.blobs import ID_BYTES, BlobId, BlobKind
from client.vault.index import Index, Location
from domain.names import ObjectKind, ObjectName


class Damage:
    """What is known to be bad among the places that an index has."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._packs: set[bytes] = set()
        self._blobs: set[bytes] = set()  # ids of pack and blob
        self._index_files: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._packs or self._blobs)

    def add_pack(self, pack: ObjectName) -> None:
        """Nothing in the pack can be had."""
        self._packs.add(bytes.fromhex(pack.id))

    def add_blobs(self, pack: ObjectName, blobs: Iterable[BlobId]) -> None:
        """These blobs of the pack cannot be had."""
        identity = bytes.fromhex(pack.id)
        self._blobs.update(identity + blob for blob in blobs)

    def packs(self) -> list[ObjectName]:
        """The packs from which something cannot be had."""
        found = self._packs | {key[:ID_BYTES] for key in self._blobs}
        return [ObjectName(ObjectKind.PACK, pack.hex()) for pack in sorted(found)]

    def add_index_file(self, name: ObjectName) -> None:
        """An index file cannot be read: what it alone lists is in no index file."""
        self._index_files.add(str(name))

    def is_bad(self, location: Location) -> bool:
        """Whether the blob cannot be had from that place."""
        pack = bytes.fromhex(location.pack.id)
        return pack in self._packs or pack + location.entry.id in self._blobs

    def is_lost(self, kind: BlobKind, blob: BlobId) -> bool:
        """Whether the blob can be had from no place, or is in no index file."""
        location = self._index.find(kind, blob)
        if location is None:
            return True
        return self.is_bad(location) and all(map(self.is_bad, self._index.find_all(kind, blob)))

    def objects_of(self, kind: BlobKind, blob: BlobId) -> tuple[str, ...]:
        """What a lost blob is lost with: its packs, else the index files that cannot be read, else itself."""
        packs = dict.fromkeys(str(location.pack) for location in self._index.find_all(kind, blob))
        return tuple(packs) or tuple(sorted(self._index_files)) or (f"{kind} blob {blob.hex()}",)
