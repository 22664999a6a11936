"""The strict check of a vault: everything that restic's check looks at, and what it lets pass.

Kept true: a vault without an error here is one in which every snapshot can be restored (with `read_data`; without,
as far as the packs' headers vouch for their blobs), by restic too, and in which every document is as restic writes it.
The check goes by the index files themselves, never by a cache, and goes on after each problem. Where a store keeps
several copies, one whole copy of an object is enough: finding and healing the others is the store's own work.
Memory does not grow with the vault, but for 50 bytes a pack and 8 a tree.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from client.errors import DamagedVault, ObjectMissing, OortError, StoreError
from client.vault.blob_lengths import BlobLengths
from client.vault.blobs import SEAL_OVERHEAD, BlobId, BlobKind, PackEntry
from client.vault.index import Index, Location
from client.vault.index_files import IndexFile, decode_index_file, encode_index_file
from client.vault.locks import STALE_SECONDS, decode_lock
from client.vault.modes import NodeType
from client.vault.nodes import Node, decode_tree
from client.vault.pack_sizes import PackSizes
from client.vault.packs import header_size, parse_pack, read_pack_header
from client.vault.repository import Vault
from client.vault.sealing import COMPRESSED_VERSION, open_blob
from client.vault.snapshots import Snapshot, decode_snapshot
from client.vault.strict import index_complaints, snapshot_complaints, tree_complaints
from domain.names import ObjectKind, ObjectName

Progress = Callable[[str, int, int], None]  # what is looked at, how many are done, and of how many (0: not known)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with `name`; no error is what costs space or speed only."""

    name: str
    detail: str
    is_error: bool = True

    def __str__(self) -> str:
        return f"{self.name}: {self.detail}"


def check(vault: Vault, read_data: bool = False, progress: Progress = lambda *_: None) -> Iterator[Problem]:
    """Check a vault as its session sees it; with `read_data` every blob is opened.

    Snapshots are listed before the index is, and packs after it, so that what is stored meanwhile is not taken for
    broken. Raises StoreError only when the store itself fails.
    """
    yield from _Check(vault, read_data, progress).run()


def _note(name: object, detail: str) -> Problem:
    return Problem(str(name), detail, is_error=False)


def _failure(name: object, error: OortError) -> Problem:
    """What an error says of `name`, which need not be said twice."""
    about_name = str(error.fields.get("name")) == str(name) and "detail" in error.fields
    return Problem(str(name), str(error.fields["detail"] if about_name else error))


class _Check:
    def __init__(self, vault: Vault, read_data: bool, progress: Progress) -> None:
        self.vault = vault
        self.session = vault.session
        self.read_data = read_data
        self.progress = progress
        self.found: list[Problem] = []

    def run(self) -> Iterator[Problem]:
        yield from self._check_locks()
        snapshots = [info.name for info in self.session.list(ObjectKind.SNAPSHOT)]
        # Index files are read anew, without a cache: `read_index_file` below collects what is wrong with them.
        with Index(self, scratch=self.vault.cache_folder, progress=self._read_files) as index:
            yield from self._found()
            sizes = PackSizes(self.session.list(ObjectKind.PACK))
            with _Lengths(index, self.vault.cache_folder) as lengths:
                yield from self._check_packs(index, sizes, lengths)
                yield from _TreeCheck(self.vault, index, lengths, self.progress).run(snapshots)

    def _read_files(self, done: int, total: int) -> None:
        self.progress("index files", done, total)

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
        if encode_index_file(index) != body:  # which alone says that all is well, in a tenth of the time and memory
            self.found += [Problem(str(name), complaint) for complaint in index_complaints(body)]
        twice = [pack for pack, times in Counter(pack.pack for pack in index.packs).items() if times > 1]
        self.found += [Problem(str(name), f"pack {pack.hex()} is listed twice") for pack in twice]
        self.found += [
            Problem(str(name), f"pack {pack.pack.hex()} is listed without blobs")
            for pack in index.packs
            if not len(pack)
        ]
        return index

    # Packs

    def _check_packs(self, index: Index, sizes: PackSizes, lengths: "_Lengths") -> Iterator[Problem]:
        done = 0
        for name, entries in index.packs():
            lengths.add(entries)
            size = sizes.take(bytes.fromhex(name.id))
            if size is None:
                yield Problem(str(name), "index files list it, but it is missing")
                continue
            yield from self._check_kinds(name, entries)
            yield from self._check_pack(name, size, entries)
            times = index.times_listed(name)
            if times > 1:
                yield _note(name, f"{times} index files list it")
            done += 1
            self.progress("packs", done, len(sizes))
        for name, size in sizes.rest():
            yield _note(name, "no index file lists it: retention will remove it")
            # Nothing is lost with what no index file lists: at most it may be wanted for a new index.
            yield from (replace(problem, is_error=False) for problem in self._check_pack(name, size, None))
            done += 1
            self.progress("packs", done, len(sizes))
        doubled = index.count_doubled()
        if doubled:
            yield _note("index", f"{doubled} entries are of blobs that lie in more than one place")

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
    if indexed != entries:
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

    def __init__(self, vault: Vault, index: Index, lengths: "_Lengths", progress: Progress) -> None:
        self.vault = vault
        self.index = index
        self.lengths = lengths
        self.progress = progress
        self.seen = _SeenPlaces()
        self.missing: set[BlobId] = set()

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
            location = self.index.find(BlobKind.TREE, tree)
            if not self._is_new(tree, location):
                continue
            self.progress("trees", len(self.seen), 0)
            name = f"tree {tree.hex()} ({path.decode(errors='backslashreplace')} in snapshot {snapshot.short_id})"
            try:
                body = self._load(tree, location)
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

    def _is_new(self, tree: BlobId, location: Location | None) -> bool:
        if location is not None:
            return self.seen.add(location)
        if tree in self.missing:
            return False
        self.missing.add(tree)
        return True

    def _load(self, tree: BlobId, location: Location | None) -> bytes:
        if location is None:
            raise DamagedVault(name=f"tree blob {tree.hex()}", detail="no index file lists it")
        return self.vault.load_at(location)

    def _check_content(self, node: Node) -> Iterator[Problem]:
        if node.type is not NodeType.FILE or node.content is None:
            return
        size = 0
        for blob in node.content:
            length = self.lengths.find(blob)
            if length is None:
                yield Problem("", f"{node.name!r}: data blob {blob.hex()} is in no index file")
                return
            size += length
        if size != node.size:
            yield Problem("", f"{node.name!r}: its size is {node.size}, that of its blobs {size}")


class _Lengths:
    """Plain lengths of data blobs: from a file of their own, or from the index where no disk has room for that."""

    def __init__(self, index: Index, scratch: Path | None) -> None:
        self._index = index
        self._noted: BlobLengths | None = None
        self._is_finished = False
        for folder in (scratch, None):
            with suppress(OSError):
                self._noted = BlobLengths(folder)
                break

    def add(self, entries: list[PackEntry]) -> None:
        """Note what the index says of a pack. Comes before the first `find`."""
        if self._noted is not None:
            try:
                for entry in entries:
                    if entry.kind is BlobKind.DATA:
                        self._noted.add(entry.id, entry.length_plain)
            except OSError:
                self._do_without()

    def find(self, blob: BlobId) -> int | None:
        """The length of a blob; None if no index file has it."""
        if self._noted is not None and not self._is_finished:
            try:
                self._noted.finish()
                self._is_finished = True
            except OSError:
                self._do_without()
        if self._noted is not None:
            return self._noted.find(blob)
        location = self._index.find(BlobKind.DATA, blob)
        return location and location.entry.length_plain

    def _do_without(self) -> None:
        if self._noted is not None:
            with suppress(OSError):
                self._noted.close()
            self._noted = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do_without()


class _SeenPlaces:
    """A set of blobs' places: a bit for each 32 bytes of a pack, which no two blobs share, as none is shorter."""

    def __init__(self) -> None:
        self._packs: dict[ObjectName, bytearray] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

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
