"""The strict check of a vault: everything that restic's check looks at, and what it lets pass.

Kept true: a vault without an error here is one in which every snapshot can be restored (with `read_data`; without,
as far as the packs' headers vouch for their blobs), by restic too, and in which every document is as restic writes it.
The check goes by the index files themselves, never by a cache, and goes on after each problem. Where a store keeps
several copies, one whole copy of an object is enough: finding and healing the others is the store's own work.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from client.errors import DamagedVault, ObjectMissing, OortError, StoreError
from client.vault.blobs import BlobId, BlobKind, PackEntry
from client.vault.index import Index
from client.vault.index_files import IndexFile, decode_index_file
from client.vault.locks import STALE_SECONDS, decode_lock
from client.vault.modes import NodeType
from client.vault.nodes import Node, decode_tree
from client.vault.packs import header_size, parse_pack, read_pack_header
from client.vault.repository import Vault
from client.vault.sealing import COMPRESSED_VERSION, open_blob
from client.vault.snapshots import Snapshot, decode_snapshot
from client.vault.strict import index_complaints, snapshot_complaints, tree_complaints
from domain.names import ObjectKind, ObjectName

_JSON_ENCODINGS = b"[{"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with `name`; no error is what costs space or speed only."""

    name: str
    detail: str
    is_error: bool = True

    def __str__(self) -> str:
        return f"{self.name}: {self.detail}"


def check(vault: Vault, read_data: bool = False) -> Iterator[Problem]:
    """Check a vault as its session sees it; with `read_data` every blob is opened.

    Snapshots are listed before the index is, so that one stored meanwhile is not taken for broken.
    Raises StoreError only when the store itself fails.
    """
    yield from _Check(vault, read_data).run()


def _note(name: object, detail: str) -> Problem:
    return Problem(str(name), detail, is_error=False)


def _failure(name: object, error: OortError) -> Problem:
    """What an error says of `name`, which need not be said twice."""
    about_name = str(error.fields.get("name")) == str(name) and "detail" in error.fields
    return Problem(str(name), str(error.fields["detail"] if about_name else error))


class _Check:
    def __init__(self, vault: Vault, read_data: bool) -> None:
        self.vault = vault
        self.session = vault.session
        self.read_data = read_data
        self.found: list[Problem] = []
        self.pack_files: Counter[bytes] = Counter()

    def run(self) -> Iterator[Problem]:
        yield from self._check_locks()
        snapshots = [info.name for info in self.session.list(ObjectKind.SNAPSHOT)]
        sizes = {bytes.fromhex(info.name.id): info.size for info in self.session.list(ObjectKind.PACK)}
        # Index files are read anew, without a cache: `read_index_file` below collects what is wrong with them.
        with Index(self) as index:
            yield from self._found()
            yield from self._check_packs(index, sizes)
            yield from _TreeCheck(self.vault, index).run(snapshots)

    def _found(self) -> Iterator[Problem]:
        found, self.found = self.found, []
        yield from found

    # Index files

    session_number = 0  # a check is of one session

    def list_index_files(self) -> list[ObjectName]:
        return self.vault.list_index_files()

    def read_index_file(self, name: ObjectName) -> IndexFile:
        """What an index file says; nothing, and a problem noted, if it cannot be read."""
        try:
            body = self.vault.load_unpacked(name)
            index = decode_index_file(body, str(name))
        except (DamagedVault, ObjectMissing) as error:
            self.found.append(_failure(name, error))
            return IndexFile(())
        self.found += [Problem(str(name), complaint) for complaint in index_complaints(body)]
        twice = [pack for pack, times in Counter(pack.pack for pack in index.packs).items() if times > 1]
        self.found += [Problem(str(name), f"pack {pack.hex()} is listed twice") for pack in twice]
        for pack in index.packs:
            self.pack_files[pack.pack] += 1
            if not pack.entries:
                self.found.append(Problem(str(name), f"pack {pack.pack.hex()} is listed without blobs"))
        return index

    # Packs

    def _check_packs(self, index: Index, sizes: dict[bytes, int]) -> Iterator[Problem]:
        listed: set[bytes] = set()
        doubles = 0
        for name, entries in index.packs():
            identity = bytes.fromhex(name.id)
            listed.add(identity)
            size = sizes.get(identity)
            if size is None:
                yield Problem(str(name), "index files list it, but it is missing")
                continue
            yield from self._check_kinds(name, entries)
            yield from self._check_pack(name, size, entries)
            doubles += sum(len(index.find_all(entry.kind, entry.id)) > 1 for entry in entries)
            yield from self._found()
        for identity in sorted(sizes.keys() - listed):
            pack = ObjectName(ObjectKind.PACK, identity.hex())
            yield _note(pack, "no index file lists it: retention will remove it")
            yield from self._check_pack(pack, sizes[identity], None)
        for identity, times in self.pack_files.items():
            if times > 1:
                yield _note(f"data/{identity.hex()}", f"{times} index files list it")
        if doubles:
            yield _note("index", f"{doubles} entries are of blobs that lie in more than one place")

    def _check_kinds(self, name: ObjectName, entries: list[PackEntry]) -> Iterator[Problem]:
        version = self.vault.config.version
        if len({entry.kind for entry in entries}) > 1:
            detail = "it holds data and tree blobs"
            yield Problem(str(name), detail) if version >= COMPRESSED_VERSION else _note(name, detail)
        if version < COMPRESSED_VERSION and any(entry.uncompressed_length for entry in entries):
            yield Problem(str(name), "it holds compressed blobs, which version 1 does not know")

    def _check_pack(self, name: ObjectName, size: int, indexed: list[PackEntry] | None) -> Iterator[Problem]:
        """Header against index, and with `read_data` every byte; `indexed` is None for a pack of no index file."""
        body: bytes | None = None
        try:
            if self.read_data:
                try:
                    body = self.session.get(name)
                except DamagedVault as error:
                    yield _failure(name, error)
                    body = self.session.get(name, 0, size)  # no copy is whole: which blobs are lost?
                entries = parse_pack(self.vault.keys, name, body)
            else:
                entries = self._header(name, size)
        except (DamagedVault, ObjectMissing) as error:
            yield _failure(name, error)
            return
        if indexed is not None:
            yield from _compare(name, size, indexed, entries)
        if body is None:
            return
        view = memoryview(body)
        for entry in entries:
            try:
                open_blob(self.vault.keys, entry, view[entry.offset : entry.offset + entry.length])
            except DamagedVault as error:
                yield _failure(name, error)

    def _header(self, name: ObjectName, size: int) -> list[PackEntry]:
        """The entries of a pack by its header, from any copy of it."""
        try:
            return read_pack_header(self.session, self.vault.keys, name, size)
        except DamagedVault as damage:
            try:
                body = self.session.get(name)
            except DamagedVault:
                raise damage from None  # it says what is wrong, not only that something is
        return parse_pack(self.vault.keys, name, body)

    # Locks

    def _check_locks(self) -> Iterator[Problem]:
        for info in self.session.list(ObjectKind.LOCK):
            try:
                lock = decode_lock(self.vault.load_unpacked(info.name), str(info.name))
            except ObjectMissing:
                continue
            except DamagedVault as error:
                yield _failure(info.name, error)
                continue
            if lock.exclusive:
                yield _note(
                    info.name,
                    f"an exclusive lock of {lock.username}@{lock.hostname}; "
                    f"older than {STALE_SECONDS // 60} minutes it counts for nothing",
                )


def _compare(name: ObjectName, size: int, indexed: list[PackEntry], entries: list[PackEntry]) -> Iterator[Problem]:
    """The index's entries of a pack against those of its header."""
    if len({entry.id for entry in entries}) != len(entries):
        yield _note(name, "a blob lies in it twice")
    inside, outside = frozenset(entries), frozenset(indexed)
    for entry in indexed:
        if entry not in inside:
            yield Problem(str(name), f"index files have {_describe(entry)}, which its header has not")
    for entry in entries:
        if entry not in outside:
            yield Problem(str(name), f"its header has {_describe(entry)}, which no index file has")
    expected = sum(entry.length for entry in indexed) + header_size(indexed)
    if size != expected:
        yield Problem(str(name), f"it is {size} bytes long, by the index {expected}")


def _describe(entry: PackEntry) -> str:
    return (
        f"{entry.kind} blob {entry.id.hex()} of {entry.length} bytes ({entry.uncompressed_length} uncompressed) "
        f"at {entry.offset}"
    )


class _TreeCheck:
    """Everything that snapshots reach. Trees that several snapshots share are looked at once."""

    def __init__(self, vault: Vault, index: Index) -> None:
        self.vault = vault
        self.index = index
        self.seen: set[BlobId] = set()

    def run(self, snapshots: list[ObjectName]) -> Iterator[Problem]:
        for name in snapshots:
            try:
                body = self.vault.load_unpacked(name)
                snapshot = decode_snapshot(body, name.id)
            except (DamagedVault, ObjectMissing) as error:
                yield _failure(name, error)
                continue
            for complaint in snapshot_complaints(body):
                yield Problem(str(name), complaint)
            yield from self._walk(snapshot)

    def _walk(self, snapshot: Snapshot) -> Iterator[Problem]:
        waiting = [(snapshot.tree, b"/")]
        while waiting:
            tree, path = waiting.pop()
            if tree in self.seen:
                continue
            self.seen.add(tree)
            name = f"tree {tree.hex()} ({path.decode(errors='backslashreplace')} in snapshot {snapshot.short_id})"
            try:
                body = self._load(tree)
                nodes = decode_tree(body, name)
            except (DamagedVault, StoreError) as error:
                if isinstance(error, StoreError) and not isinstance(error, ObjectMissing):
                    raise
                yield _failure(name, error)
                continue
            for complaint in tree_complaints(body, nodes):
                yield Problem(name, complaint)
            for node in nodes:
                yield from (replace(problem, name=name) for problem in self._check_content(node))
                if node.subtree is not None:
                    waiting.append((node.subtree, path + node.name + b"/"))

    def _load(self, tree: BlobId) -> bytes:
        location = self.index.find(BlobKind.TREE, tree)
        if location is None:
            raise DamagedVault(name=f"tree blob {tree.hex()}", detail="no index file lists it")
        return self.vault.load_at(location)

    def _check_content(self, node: Node) -> Iterator[Problem]:
        if node.type is not NodeType.FILE or node.content is None:
            return
        size = 0
        for blob in node.content:
            location = self.index.find(BlobKind.DATA, blob)
            if location is None:
                yield Problem("", f"{node.name!r}: data blob {blob.hex()} is in no index file")
                return
            size += location.entry.length_plain
        if size != node.size:
            yield Problem("", f"{node.name!r}: its size is {node.size}, that of its blobs {size}")
