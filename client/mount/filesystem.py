"""What the kernel is answered: the views of a vault's snapshots, and what lies in them.

Kept true: nothing is ever written; what lies in a snapshot never changes, so the kernel may keep all that it is told of
it, content too; only the views above are asked for again.
"""

import errno
import itertools
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from client.errors import DamagedVault
from client.mount import kernel
from client.mount.contents import Blobs, OpenFile
from client.mount.folders import Folder, Folders
from client.mount.kernel import Opcode
from client.mount.listing import Listing, Listings
from client.mount.neighbours import Neighbours
from client.mount.server import Answer, Operation
from client.mount.views import View
from client.vault.repository import Vault
from client.vault.snapshots import Snapshot

_FOLDER_MODE = stat.S_IFDIR | 0o555
_LINK_MODE = stat.S_IFLNK | 0o777

Thing = View | Snapshot | bytes
Views = Callable[[], View]
Identity = str | bytes | None  # of a snapshot its id, of a link where it leads to; a view has none


def _identity(thing: Thing) -> Identity:
    return thing.id if isinstance(thing, Snapshot) else thing if isinstance(thing, bytes) else None


@dataclass(frozen=True, slots=True)
class _OpenFolder:
    """A folder that is being listed: of a snapshot, or the entries of a view as they were."""

    node: int
    folder: Folder | None = None
    listing: Listing | None = None
    entries: tuple[tuple[bytes, Thing], ...] = ()


class Filesystem:
    """Answers of one vault. `views` gives the present ones, and may take its time."""

    def __init__(self, vault: Vault, views: Views) -> None:
        self._views = views
        self._listings = Listings(vault)
        self.blobs = Blobs(vault)
        self.folders = Folders()
        self._neighbours = Neighbours()
        self._paths = [b"", b""]  # of views, by node; the root is 1
        self._identities: list[Identity] = [None, None]
        self._nodes: dict[tuple[bytes, Identity], int] = {(b"", None): kernel.ROOT}
        self._lock = threading.Lock()
        self._handles = itertools.count(1)
        self._open_files: dict[int, OpenFile] = {}
        self._open_folders: dict[int, _OpenFolder] = {}
        self._owner = (os.getuid(), os.getgid())
        self.operations: dict[int, Operation] = {
            Opcode.LOOKUP: self._lookup,
            Opcode.FORGET: self._forget,
            Opcode.BATCH_FORGET: self._forget_many,
            Opcode.GETATTR: self._getattr,
            Opcode.READLINK: self._readlink,
            Opcode.OPEN: self._open,
            Opcode.READ: self._read,
            Opcode.RELEASE: self._release,
            Opcode.OPENDIR: self._opendir,
            Opcode.READDIR: self._readdir,
            Opcode.READDIRPLUS: self._readdirplus,
            Opcode.RELEASEDIR: self._releasedir,
            Opcode.GETXATTR: self._getxattr,
            Opcode.LISTXATTR: self._listxattr,
            Opcode.STATFS: self._statfs,
        }

        self.undoing: dict[int, Callable[[bytes], None]] = {
            Opcode.LOOKUP: lambda answer: self._untell(kernel.ONE.unpack_from(answer)),
            Opcode.OPEN: lambda answer: self._close(kernel.ONE.unpack_from(answer)[0]),
            Opcode.OPENDIR: lambda answer: self._close_folder(kernel.ONE.unpack_from(answer)[0]),
            Opcode.READDIRPLUS: lambda answer: self._untell(kernel.nodes_of(answer)),
        }

    def path(self, node: int) -> bytes:
        """What a number names, from the mount point on, for a person."""
        own = self.folders.known(node)
        if own is not None:
            return own.path
        holding = self.folders.holding(node)
        if holding is None:
            return self._paths[node] if node < len(self._paths) else b"?"
        folder, place = holding
        listing = self._listings.at_hand(folder.tree)
        return folder.path + b"/" + (listing.names[place] if listing else b"?")

    # Folders of snapshots: by numbers that `Folders` gives, each with its place in a listing

    def _with_listing(self, node: int, found: Callable[[Folder, Listing, int], Answer]) -> Answer:
        """Answer of what lies in a folder."""
        holding = self.folders.holding(node)
        if holding is None:
            return -errno.ESTALE
        folder, place = holding
        return found(folder, self._load(folder), place)

    def _load(self, folder: Folder) -> Listing:
        """What a folder holds. Raises DamagedVault, StoreError."""
        if not folder.tree:
            raise DamagedVault(name=os.fsdecode(folder.path), detail="its list of files is missing")
        return self._listings.at_hand(folder.tree) or self._listings.load(folder.tree)

    def _folder(self, node: int) -> Folder | None:
        """The folder of a snapshot that a number names; None for a view. Raises OSError."""
        known = self.folders.known(node)
        if known is not None and not self._is_view(node):
            return known
        if self._is_view(node):
            thing = self._thing(node)
            if isinstance(thing, Snapshot):
                return self.folders.root(node, thing.id, thing.tree, self._paths[node])
            if isinstance(thing, bytes):
                raise NotADirectoryError(errno.ENOTDIR, "")
            return None
        holding = self.folders.holding(node)
        if holding is None:
            raise OSError(errno.ESTALE, "")
        folder, place = holding
        listing = self._load(folder)
        if not stat.S_ISDIR(kernel.mode_of(listing.attributes[place])):
            raise NotADirectoryError(errno.ENOTDIR, "")
        return self.folders.inside(folder, listing, place)

    # Views

    def _is_view(self, node: int) -> bool:
        return node < len(self._paths)

    def _thing(self, node: int) -> Thing:
        """What a view's number names now. Raises FileNotFoundError."""
        identity = self._identities[node]
        if isinstance(identity, bytes):
            return identity  # who has just come upon a link is not told that there is none because it leads on
        thing: Thing = self._views()
        for name in filter(None, self._paths[node].split(b"/")):
            found = thing.entries.get(name) if isinstance(thing, View) else None
            if found is None:
                raise FileNotFoundError(errno.ENOENT, "")
            thing = found
        if _identity(thing) != identity:
            raise FileNotFoundError(errno.ENOENT, "")
        return thing

    def _node_below(self, node: int, name: bytes, thing: Thing) -> int:
        """The number of what is there now.

        Another thing of the same name has another one, or the kernel would show in it what it keeps of the former.
        """
        path = self._paths[node] + b"/" + name if node != kernel.ROOT else name
        key = path, _identity(thing)
        with self._lock:
            found = self._nodes.get(key)
            if found is None:
                found = self._nodes[key] = len(self._identities)
                self._identities.append(key[1])
                self._paths.append(path)
            return found

    def _attributes(self, thing: Thing) -> bytes:
        if isinstance(thing, bytes):
            return kernel.attributes(_LINK_MODE, len(thing), 1, *self._owner, 0, 0, 0)
        time = thing.time_ns
        return kernel.attributes(_FOLDER_MODE, 0, 1, *self._owner, time, time, time)

    # Operations

    def _lookup(self, parent: int, rest: memoryview) -> Answer:
        name = bytes(rest[:-1])
        folder = self._folder(parent)
        if folder is not None:
            return self._found(folder, self._load(folder), name)
        view = self._thing(parent)
        thing = view.entries.get(name) if isinstance(view, View) else None
        if thing is None:
            return -errno.ENOENT
        node = self._node_below(parent, name, thing)
        return kernel.entry_reply(node, node, self._attributes(thing), lasting=False)

    def _found(self, folder: Folder, listing: Listing, name: bytes) -> bytes:
        place = listing.find(name)
        if place is None:
            return kernel.NO_ENTRY
        self.folders.told(folder, 1)
        inode = folder.inode_of(listing, place)
        return kernel.entry_reply(folder.node_of(place), inode, listing.attributes[place], lasting=True)

    def _forget(self, node: int, rest: memoryview) -> None:
        self.folders.forget(node, kernel.ONE.unpack_from(rest)[0])

    def _untell(self, nodes: Iterable[int]) -> None:
        """The kernel was not told of these after all."""
        for node in nodes:
            self.folders.forget(node, 1)

    def _forget_many(self, _: int, rest: memoryview) -> None:
        count, _padding = kernel.COUNT.unpack_from(rest)
        forgotten = rest[kernel.COUNT.size : kernel.COUNT.size + count * kernel.FORGOTTEN.size]
        for node, lookups in kernel.FORGOTTEN.iter_unpack(forgotten):
            self.folders.forget(node, lookups)

    def _getattr(self, node: int, _: memoryview) -> Answer:
        if self._is_view(node):
            return kernel.attribute_reply(node, self._attributes(self._thing(node)), lasting=False)
        return self._with_listing(
            node,
            lambda folder, listing, place: kernel.attribute_reply(
                folder.inode_of(listing, place), listing.attributes[place], lasting=True
            ),
        )

    def _readlink(self, node: int, _: memoryview) -> Answer:
        if not self._is_view(node):
            return self._with_listing(node, lambda _folder, listing, place: listing.content[place])
        thing = self._thing(node)
        return thing if isinstance(thing, bytes) else -errno.EINVAL

    def _open(self, node: int, _: memoryview) -> Answer:
        def opened(folder: Folder, listing: Listing, place: int) -> Answer:
            path = folder.path + b"/" + listing.names[place]
            beside = self._neighbours.opened(folder.tree, listing, place)
            file = OpenFile(self.blobs, listing.content[place], listing.sizes[place], path, beside)
            handle = next(self._handles)
            self._open_files[handle] = file
            # Where a tree tells another size than the blobs have, what they hold counts, as in a restore.
            is_odd = file.size != listing.sizes[place]
            return kernel.OPENED.pack(handle, kernel.DIRECT_IO if is_odd else kernel.KEEP_CACHE, 0)

        return self._with_listing(node, opened)

    def _read(self, _: int, rest: memoryview) -> Answer:
        handle, offset, size = kernel.READ.unpack_from(rest)
        file = self._open_files.get(handle)
        return -errno.EBADF if file is None else file.read(offset, size)

    def _release(self, _: int, rest: memoryview) -> bytes:
        self._close(kernel.ONE.unpack_from(rest)[0])
        return b""

    def _close(self, handle: int) -> None:
        self._open_files.pop(handle, None)

    def _opendir(self, node: int, _: memoryview) -> Answer:
        folder = self._folder(node)
        if folder is not None:
            return self._opened(_OpenFolder(node, folder, self._load(folder)))
        view = self._thing(node)
        entries = tuple(sorted(view.entries.items())) if isinstance(view, View) else ()
        return self._opened(_OpenFolder(node, entries=entries))

    def _opened(self, opened: _OpenFolder) -> bytes:
        handle = next(self._handles)
        if opened.folder is not None:
            self.folders.opened(opened.folder, 1)
        self._open_folders[handle] = opened
        return kernel.OPENED.pack(handle, kernel.KEEP_CACHE | kernel.CACHE_DIR if opened.folder else 0, 0)

    def _readdir(self, _: int, rest: memoryview) -> Answer:
        return self._listed(rest, self._plain)

    def _readdirplus(self, _: int, rest: memoryview) -> Answer:
        return self._listed(rest, self._plus)

    def _listed(self, rest: memoryview, form: Callable[[_OpenFolder, int], bytes]) -> Answer:
        handle, offset, size = kernel.READ.unpack_from(rest)
        opened = self._open_folders.get(handle)
        if opened is None:
            return -errno.EBADF
        parts: list[bytes] = []
        for entry in self._entries(opened, offset, form):
            size -= len(entry)
            if size < 0:
                break
            parts.append(entry)
        if opened.folder is not None and form == self._plus:
            self.folders.told(opened.folder, len(parts) - max(0, min(2 - offset, len(parts))))
        return b"".join(parts)

    def _entries(self, opened: _OpenFolder, offset: int, form: Callable[[_OpenFolder, int], bytes]) -> Iterator[bytes]:
        """From the entry `offset` on, `.` and `..` being the first two."""
        for number, name in enumerate((b".", b"..")[offset:], offset):
            is_plus = form == self._plus
            inode = opened.folder.inode if opened.folder else opened.node
            entry = kernel.dirent(inode, number + 1, stat.S_IFDIR, name)
            yield kernel.nothing_of(entry) if is_plus else entry
        count = len(opened.listing.names) if opened.listing else len(opened.entries)
        for place in range(max(offset - 2, 0), count):
            yield form(opened, place)

    def _plain(self, opened: _OpenFolder, place: int) -> bytes:
        folder, listing = opened.folder, opened.listing
        if folder is not None and listing is not None:
            mode = kernel.mode_of(listing.attributes[place])
            return kernel.dirent(folder.inode_of(listing, place), place + 3, mode, listing.names[place])
        name, thing = opened.entries[place]
        node = self._node_below(opened.node, name, thing)
        return kernel.dirent(node, place + 3, kernel.mode_of(self._attributes(thing)), name)

    def _plus(self, opened: _OpenFolder, place: int) -> bytes:
        folder, listing = opened.folder, opened.listing
        if folder is not None and listing is not None:
            attributes, name = listing.attributes[place], listing.names[place]
            inode = folder.inode_of(listing, place)
            return kernel.dirent_plus(folder.node_of(place), inode, attributes, place + 3, name, lasting=True)
        name, thing = opened.entries[place]
        node = self._node_below(opened.node, name, thing)
        return kernel.dirent_plus(node, node, self._attributes(thing), place + 3, name, lasting=False)

    def _releasedir(self, _: int, rest: memoryview) -> bytes:
        self._close_folder(kernel.ONE.unpack_from(rest)[0])
        return b""

    def _close_folder(self, handle: int) -> None:
        opened = self._open_folders.pop(handle, None)
        if opened is not None and opened.folder is not None:
            self.folders.opened(opened.folder, -1)

    def _getxattr(self, node: int, rest: memoryview) -> Answer:
        size, _ = kernel.COUNT.unpack_from(rest)
        if self._is_view(node):
            return -errno.ENODATA
        name = os.fsdecode(bytes(rest[kernel.COUNT.size : -1]))

        def value(_: Folder, listing: Listing, place: int) -> Answer:
            for known, found in listing.extended.get(place, ()):
                if known == name:
                    return kernel.attribute_list(size, found)
            return -errno.ENODATA

        return self._with_listing(node, value)

    def _listxattr(self, node: int, rest: memoryview) -> Answer:
        size, _ = kernel.COUNT.unpack_from(rest)
        if self._is_view(node):
            return kernel.attribute_list(size, b"")
        return self._with_listing(
            node,
            lambda _, listing, place: kernel.attribute_list(
                size, b"".join(os.fsencode(name) + b"\0" for name, _ in listing.extended.get(place, ()))
            ),
        )

    def _statfs(self, _node: int, _rest: memoryview) -> bytes:
        return kernel.statfs_reply(0)
