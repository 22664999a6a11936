"""The strict check of a vault: everything that restic's check looks at, and what it lets pass.

Kept true: a vault without an error here is one in which every snapshot can be restored (with `read_data`; without,
as far as the packs' headers vouch for their blobs), by restic too, and in which every document is as restic writes it.
The check goes by the index files themselves, never by a cache, and goes on after each problem. Where a store keeps
several copies, one whole copy of an object is enough: finding and healing the others is the store's own work.
Memory does not grow with the vault, but for 50 bytes a pack and 8 a tree.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Self

from client.errors import DamagedVault, ObjectMissing
from client.vault.blobs import BlobId, PackEntry
from client.vault.damage import Damage
from client.vault.index import Index
from client.vault.index_files import IndexFile, decode_index_file, encode_index_file
from client.vault.keys import read_key_file
from client.vault.known_lengths import KnownLengths
from client.vault.locks import STALE_SECONDS, decode_lock
from client.vault.pack_contents import lost_blobs
from client.vault.pack_sizes import PackSizes
from client.vault.packs import header_size, parse_pack, read_pack_header
from client.vault.problems import Problem, Progress, cost_only, failure
from client.vault.repository import Vault
from client.vault.sealing import COMPRESSED_VERSION, open_blob
from client.vault.strict import index_complaints
from client.vault.subsets import Reads, Subset
from client.vault.tree_check import Touched, TreeCheck
from domain.names import ObjectKind, ObjectName
from domain.wording import plural


def check(vault: Vault, read_data: bool = False, progress: Progress = lambda *_: None) -> Iterator[Problem]:
    """What is wrong with a vault as its session sees it: see Check."""
    with Check(vault, progress, read_data=read_data) as checking:
        yield from checking.problems()


class Check:
    """One check of a vault; with `read_data` every blob is opened, or those of a `subset` of the packs.

    Snapshots are listed before the index is, and packs after it, so that what is stored meanwhile is not taken for
    broken. Packs that are damaged are remembered by the device (client/vault/doubts.py).
    """

    def __init__(
        self,
        vault: Vault,
        progress: Progress = lambda *_: None,
        *,
        read_data: bool = False,
        subset: Subset | None = None,
    ) -> None:
        self.vault = vault
        self.session = vault.session
        self.read_data = read_data
        self.progress = progress
        self.found: list[Problem] = []
        self.packs_read = 0
        self._unread: list[ObjectName] = []  # index files
        self._doubted = vault.doubts.all()
        self._subset = subset
        self._reads: Reads = lambda _: read_data
        self._open = ExitStack()
        self._trees: TreeCheck | None = None

    def problems(self) -> Iterator[Problem]:
        """What is wrong, as it is found. Raises StoreError only when the store itself fails."""
        yield from self._check_locks()
        yield from self._check_keys()
        snapshots = [info.name for info in self.session.list(ObjectKind.SNAPSHOT)]
        # Index files are read anew, without a cache: `read_index_file` below collects what is wrong with them.
        index = self._open.enter_context(Index(self, scratch=self.vault.cache_folder, progress=self._read_files))
        yield from self._found()
        self._damage = Damage(index)
        for name in self._unread:
            self._damage.add_index_file(name)
        sizes = PackSizes(self.session.list(ObjectKind.PACK))
        if self._subset is not None:
            self._reads = self._subset.chosen(sizes)
        lengths = self._open.enter_context(KnownLengths(index, self.vault.cache_folder))
        yield from self._check_packs(index, sizes, lengths)
        self._trees = TreeCheck(self.vault, index, lengths, self._damage, self.progress)
        yield from self._trees.run(snapshots)

    def touches(self) -> Iterator[Touched]:
        """Which files of which snapshots the damage touches; asked when all problems are told. Raises StoreError."""
        return self._trees.touches() if self._trees else iter(())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

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
            self.found.append(failure(name, error))
            self._unread.append(name)
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

    def _check_packs(self, index: Index, sizes: PackSizes, lengths: KnownLengths) -> Iterator[Problem]:
        done = 0
        for name, entries in index.packs():
            lengths.add(entries)
            size = sizes.take(bytes.fromhex(name.id))
            if size is None:
                self.vault.doubts.add(name)
                self._damage.add_pack(name)
                yield Problem(str(name), "index files list it, but it is missing")
                continue
            yield from self._check_kinds(name, entries)
            yield from self._check_pack(name, size, entries)
            times = index.times_listed(name)
            if times > 1:
                yield cost_only(name, f"{times} index files list it")
            done += 1
            self.progress("packs", done, len(sizes))
        for name, size in sizes.rest():
            yield cost_only(name, "no index file lists it: retention will remove it")
            # Nothing is lost with what no index file lists: at most it may be wanted for a new index.
            yield from (replace(problem, is_error=False) for problem in self._check_pack(name, size, None))
            done += 1
            self.progress("packs", done, len(sizes))
        doubled = index.count_doubled()
        if doubled:
            yield cost_only("index", f"{plural(doubled, 'entry', 'entries')} of blobs that lie in more than one place")

    def _check_kinds(self, name: ObjectName, entries: list[PackEntry]) -> Iterator[Problem]:
        version = self.vault.config.version
        if len({entry.kind for entry in entries}) > 1:
            detail = "it holds data and tree blobs"
            yield Problem(str(name), detail) if version >= COMPRESSED_VERSION else cost_only(name, detail)
        if version < COMPRESSED_VERSION and any(entry.uncompressed_length for entry in entries):
            yield Problem(str(name), "it holds compressed blobs, which version 1 does not know")

    def _check_pack(self, name: ObjectName, size: int, indexed: list[PackEntry] | None) -> Iterator[Problem]:
        """Header against index, and every byte of what is to be read; `indexed` is None for a pack of no index file."""
        reads = self._reads(name)
        self.packs_read += reads
        is_damaged = False
        for problem in self._pack_problems(name, size, indexed, reads=reads):
            is_damaged |= problem.is_error
            yield problem
        if is_damaged:
            self.vault.doubts.add(name)
            if indexed is not None:
                self._note_lost(name, lost_blobs(self.vault, name, size, indexed), len(indexed))
        elif reads and name in self._doubted:
            self.vault.doubts.settle([name])

    def _note_lost(self, name: ObjectName, lost: list[BlobId], of: int) -> None:
        if len(lost) == of:
            self._damage.add_pack(name)
        else:
            self._damage.add_blobs(name, lost)

    def _pack_problems(
        self, name: ObjectName, size: int, indexed: list[PackEntry] | None, *, reads: bool
    ) -> Iterator[Problem]:
        body: bytes | None = None
        try:
            if reads:
                try:
                    body = self.session.get(name)
                except DamagedVault as error:
                    yield failure(name, error)
                    body = self.session.get(name, 0, size)  # no copy is whole: which blobs are lost?
                entries = parse_pack(self.vault.keys, name, body)
            else:
                entries = self._header(name, size)
        except (DamagedVault, ObjectMissing) as error:
            yield failure(name, error)
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
                yield failure(name, error)

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

    # Keys

    def _check_keys(self) -> Iterator[Problem]:
        """Key files can be read, whatever their passwords: without them nobody opens the vault any more."""
        for info in self.session.list(ObjectKind.KEY):
            try:
                read_key_file(self.session.get(info.name), str(info.name))
            except (DamagedVault, ObjectMissing) as error:
                yield failure(info.name, error)

    # Locks

    def _check_locks(self) -> Iterator[Problem]:
        for info in self.session.list(ObjectKind.LOCK):
            try:
                lock = decode_lock(self.vault.load_unpacked(info.name), str(info.name))
            except ObjectMissing:
                continue
            except DamagedVault as error:
                yield failure(info.name, error)
                continue
            if lock.exclusive:
                yield cost_only(
                    info.name,
                    f"an exclusive lock of {lock.username}@{lock.hostname}; "
                    f"older than {STALE_SECONDS // 60} minutes it counts for nothing",
                )


def _compare(name: ObjectName, size: int, indexed: list[PackEntry], entries: list[PackEntry]) -> Iterator[Problem]:
    """The index's entries of a pack against those of its header."""
    if len({entry.id for entry in entries}) != len(entries):
        yield cost_only(name, "a blob lies in it twice")
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
