"""Trees read one after another, as a walk needs them: neighbours come with one request to the store.

Kept true: what a read-ahead brings is opened and verified like any blob; where it fails, the pack is fetched whole
(Vault.open_at), and then the one tree that is wanted is looked for in every place that the index knows.
"""

from collections import OrderedDict
from collections.abc import Iterator

from client.errors import DamagedVault, StoreError
from client.vault.blobs import BlobId, BlobKind
from client.vault.index import Location
from client.vault.nodes import Node, decode_tree, iterate_tree
from client.vault.repository import Vault
from domain.names import ObjectName

_SEGMENT = 2 << 20  # bytes read at once
_SEGMENTS = 12  # kept, the latest used


class TreeReader:
    """Loads trees of one vault, for one thread. Holds at most 24 MiB of sealed bytes."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._segments: OrderedDict[tuple[ObjectName, int], bytes] = OrderedDict()
        self._ends: dict[ObjectName, int] = {}

    def load(self, tree: BlobId) -> list[Node]:
        """The nodes of a directory. Raises DamagedVault, StoreError."""
        return decode_tree(self.load_body(tree), f"tree {tree.hex()}")

    def nodes(self, tree: BlobId) -> Iterator[Node]:
        """As `load`, one after another, of a tree that is read at once: a folder may have a million files."""
        return iterate_tree(self.load_body(tree), f"tree {tree.hex()}")

    def load_body(self, tree: BlobId) -> bytes:
        """The blob of a directory, as it was stored. Raises DamagedVault, StoreError."""
        location = self._vault.index.find(BlobKind.TREE, tree)
        if location is not None:
            try:
                return self._vault.open_at(location, self._sealed(location))
            except (DamagedVault, StoreError):
                self._segments.clear()
        return self._vault.load_blob(BlobKind.TREE, tree)

    def _sealed(self, location: Location) -> bytes:
        start = location.entry.offset
        end = start + location.entry.length
        if location.entry.length > _SEGMENT:  # of a large folder: no neighbour comes with it
            return self._vault.session.get(location.pack, start, location.entry.length)
        parts = []
        while start < end:
            number = start // _SEGMENT
            segment = self._segment(location.pack, number)
            first = start - number * _SEGMENT
            part = segment[first : first + end - start]
            if not part:
                break
            parts.append(part)
            start += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _segment(self, pack: ObjectName, number: int) -> bytes:
        key = (pack, number)
        segment = self._segments.get(key)
        if segment is None:
            start = number * _SEGMENT
            length = min(_SEGMENT, self._end(pack) - start)
            segment = self._segments[key] = self._vault.session.get(pack, start, length)
            if len(self._segments) > _SEGMENTS:
                self._segments.popitem(last=False)
        else:
            self._segments.move_to_end(key)
        return segment

    def _end(self, pack: ObjectName) -> int:
        """Where a pack's last blob ends."""
        end = self._ends.get(pack)
        if end is None:
            last = self._vault.index.entries_of_pack(pack)[-1]
            end = self._ends[pack] = last.offset + last.length
        return end
