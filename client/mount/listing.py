"""Folders of snapshots as the kernel asks for them: by number and by name.

Kept true: what is kept of folders is bounded in bytes, the largest folder that is looked at excepted; a tree is opened,
and verified, before anything of it is told.
"""

import stat
import threading
from array import array
from bisect import bisect_left
from collections import OrderedDict
from dataclasses import dataclass, field

from client.errors import DamagedVault, ObjectMissing
from client.mount import kernel
from client.vault.blobs import BlobId
from client.vault.modes import NodeType, unix_mode
from client.vault.nodes import Node
from client.vault.repository import Vault
from client.vault.trees import TreeReader

_KEPT = 48 << 20  # bytes
_AN_ENTRY = 300  # bytes of one in memory, beside its name and the ids of its blobs
_FORMATS = {
    NodeType.DIR: stat.S_IFDIR,
    NodeType.SYMLINK: stat.S_IFLNK,
    NodeType.DEV: stat.S_IFBLK,
    NodeType.CHARDEV: stat.S_IFCHR,
    NodeType.FIFO: stat.S_IFIFO,
    NodeType.SOCKET: stat.S_IFSOCK,
}

Attributes = tuple[tuple[str, bytes], ...]


@dataclass(slots=True)
class Listing:
    """What a folder holds, in the order of its tree.

    `attributes` are laid out for the kernel, `content` is a file's blob ids one after another, a folder's tree (empty
    if its node has none) or a link's target; `links` says of files with several names which file each is.
    """

    names: list[bytes] = field(default_factory=list)
    attributes: list[bytes] = field(default_factory=list)
    content: list[bytes] = field(default_factory=list)
    sizes: "array[int]" = field(default_factory=lambda: array("Q"))
    extended: dict[int, Attributes] = field(default_factory=dict)
    links: dict[int, tuple[int, int]] = field(default_factory=dict)
    is_sorted: bool = True
    held: int = 0  # bytes in memory, about

    def add(self, node: Node) -> None:
        number = len(self.names)
        if number and node.name <= self.names[-1]:
            self.is_sorted = False
        content = node.subtree or node.linktarget or b"".join(node.content or ())
        is_file = node.type is NodeType.FILE
        size = node.size if is_file else len(node.linktarget)
        mode = stat.S_IMODE(unix_mode(node.mode)) | _FORMATS.get(node.type, stat.S_IFREG)
        self.names.append(node.name)
        self.content.append(content)
        self.sizes.append(size)
        self.attributes.append(
            kernel.attributes(
                *(mode, size, max(node.links, 1), node.uid, node.gid, node.atime_ns, node.mtime_ns, node.ctime_ns),
                node.device,
            )
        )
        if node.extended_attributes:
            self.extended[number] = node.extended_attributes
            self.held += sum(len(name) + len(value) + _AN_ENTRY for name, value in node.extended_attributes)
        if node.links > 1 and is_file:
            self.links[number] = (node.device_id, node.inode)
        self.held += _AN_ENTRY + len(node.name) + len(content)

    def find(self, name: bytes) -> int | None:
        """The number of a name."""
        if not self.is_sorted:
            return self.names.index(name) if name in self.names else None
        number = bisect_left(self.names, name)
        return number if number < len(self.names) and self.names[number] == name else None


class Listings:
    """The folders read last. Safe for several threads; one reads from the vault at a time."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._trees = TreeReader(vault)
        self._reading = threading.Lock()
        self._lock = threading.Lock()
        self._held: OrderedDict[BlobId, Listing] = OrderedDict()
        self._size = 0

    def at_hand(self, tree: BlobId) -> Listing | None:
        """A folder that need not be read."""
        with self._lock:
            found = self._held.get(tree)
            if found is not None:
                self._held.move_to_end(tree)
            return found

    def load(self, tree: BlobId) -> Listing:
        """Raises DamagedVault, StoreError."""
        with self._reading:
            found = self.at_hand(tree)
            if found is not None:
                return found
            try:
                listing = self._read(tree)
            except (DamagedVault, ObjectMissing):
                self._vault.index.list_anew()  # whoever pruned meanwhile may have stored it elsewhere
                listing = self._read(tree)
            if not listing.is_sorted and len(set(listing.names)) < len(listing.names):
                raise DamagedVault(name=f"tree {tree.hex()}", detail="it has two nodes of one name")
        with self._lock:
            self._held[tree] = listing
            self._size += listing.held
            while self._size > _KEPT and len(self._held) > 1:
                _, dropped = self._held.popitem(last=False)
                self._size -= dropped.held
        return listing

    def _read(self, tree: BlobId) -> Listing:
        listing = Listing()
        for node in self._trees.nodes(tree):
            listing.add(node)
        return listing
