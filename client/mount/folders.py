"""Numbers by which the kernel knows what it has seen.

Kept true: a number names one thing for as long as the kernel remembers it, and is never given again; what this costs
grows with the folders of which the kernel remembers anything, not with the files in them: a file's number is that of
its folder and its place in it.
"""

import struct
import threading
from dataclasses import dataclass
from hashlib import blake2b

from client.mount import kernel
from client.mount.listing import Listing
from client.vault.blobs import BlobId

_PLACE_BITS = 32
_PLACE = (1 << _PLACE_BITS) - 1


@dataclass(slots=True, eq=False)
class Folder:
    """A folder of a snapshot.

    `node` is its own number, `number` the upper half of the numbers of what is in it, `inode` its own inode number,
    `known` how often the kernel was told of what is in it, `handles` how often it is open.
    """

    number: int
    node: int
    inode: int
    tree: BlobId
    snapshot: str
    parent: "Folder | bytes"  # bytes are the path of a snapshot's root
    name: bytes = b""
    known: int = 0
    handles: int = 0

    @property
    def path(self) -> bytes:
        """From the mount point on."""
        names: list[bytes] = []
        folder: Folder | bytes = self
        while isinstance(folder, Folder):
            if folder.name:
                names.append(folder.name)
            folder = folder.parent
        return b"/".join((folder, *reversed(names)))

    def node_of(self, place: int) -> int:
        return self.number << _PLACE_BITS | place

    def inode_of(self, listing: Listing, place: int) -> int:
        """The same whenever it is asked for; that of a file with several names is the same for all of a snapshot."""
        link = listing.links.get(place)
        if link is None:
            return kernel.hashed(self.inode * 0x9E3779B97F4A7C15 + place + 1)
        body = struct.pack("=QQ", *link) + self.snapshot.encode()
        return kernel.hashed(int.from_bytes(blake2b(body, digest_size=8).digest()))


class Folders:
    """All that the kernel remembers. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbered: dict[int, Folder] = {}
        self._by_node: dict[int, Folder] = {}
        self._last = 0

    def root(self, node: int, snapshot: str, tree: BlobId, path: bytes) -> Folder:
        """The root of a snapshot, which is at `path` of the mount."""
        with self._lock:
            found = self._by_node.get(node)
            if found is None or found.snapshot != snapshot:
                inode = int.from_bytes(blake2b(path + b"/" + snapshot.encode(), digest_size=8).digest())
                found = self._new(node, kernel.hashed(inode), tree, snapshot, path)
            return found

    def holding(self, node: int) -> tuple[Folder, int] | None:
        """The folder that something lies in, and its place there."""
        folder = self._numbered.get(node >> _PLACE_BITS)
        return None if folder is None else (folder, node & _PLACE)

    def known(self, node: int) -> Folder | None:
        """The folder of that number, if it was looked into."""
        return self._by_node.get(node)

    def inside(self, parent: Folder, listing: Listing, place: int) -> Folder:
        """The folder at a place of another one."""
        node = parent.node_of(place)
        with self._lock:
            found = self._by_node.get(node)
            if found is None:
                inode = parent.inode_of(listing, place)
                tree = listing.content[place]
                found = self._new(node, inode, tree, parent.snapshot, parent, listing.names[place])
            return found

    def _new(  # noqa: PLR0917 - as Folder has them
        self, node: int, inode: int, tree: BlobId, snapshot: str, parent: Folder | bytes, name: bytes = b""
    ) -> Folder:
        self._last += 1
        folder = Folder(self._last, node, inode, tree, snapshot, parent, name)
        self._numbered[folder.number] = folder
        self._by_node[node] = folder
        return folder

    def told(self, folder: Folder, count: int) -> None:
        """The kernel is about to be told of so many things in a folder."""
        with self._lock:
            folder.known += count
            self._numbered[folder.number] = folder

    def opened(self, folder: Folder, count: int) -> None:
        """A folder was opened once more, or closed once (-1)."""
        with self._lock:
            folder.handles += count
            self._drop_unneeded(folder)

    def forget(self, node: int, count: int) -> None:
        """The kernel has forgotten that it was told so often of something."""
        with self._lock:
            holding = self._numbered.get(node >> _PLACE_BITS)
            if holding is not None:
                holding.known -= count
                self._drop_unneeded(holding)
            own = self._by_node.get(node)
            if own is not None:
                self._drop_unneeded(own)

    def __len__(self) -> int:
        return len(self._numbered)

    def _drop_unneeded(self, folder: Folder) -> None:
        if folder.known > 0 or folder.handles:
            return
        if self._numbered.get(folder.number) is folder:
            del self._numbered[folder.number]
        if self._by_node.get(folder.node) is folder:
            del self._by_node[folder.node]
