"""Vaults with a history of small backups, written blob by blob so that tests take milliseconds."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice

from client.retention.prune import PruneLimits, PruneReport, plan_prune, prune
from client.stores.abc import ObjectStore, StoreSession
from client.stores.tests.memory import MemoryStore
from client.vault.blobs import BlobId, BlobKind, blob_id
from client.vault.checker import check
from client.vault.index import IndexWriter
from client.vault.modes import NodeType
from client.vault.nodes import encode_tree
from client.vault.packs import PackBuilder
from client.vault.repository import Vault, create_vault
from client.vault.sealing import seal_batch
from client.vault.snapshots import Snapshot, encode_snapshot
from client.vault.tests.builders import PASSWORD, TIME_NS, a_node
from client.vault.walk import list_snapshot
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose

Files = Mapping[str, Sequence[int]]  # path of a file, in a folder or not, to the numbers of its chunks
Around = Callable[[StoreSession], StoreSession]

EXACTLY = PruneLimits(unused_share=0)
AS_IT_IS = PruneLimits(unused_share=0, small_pack=0)


def chunk(number: int) -> bytes:
    return f"chunk {number} ".encode() * (1 + number % 40)


@dataclass
class History:
    """A vault, and what each of its snapshots must hold."""

    store: ObjectStore = field(default_factory=MemoryStore)
    version: int = 2
    snapshots: dict[ObjectName, Files] = field(default_factory=dict)

    vault: Vault = field(init=False)  # whose keys are taken, so that they need not be found each time

    def __post_init__(self) -> None:
        with self.store.open(Purpose.BACKUP) as session:
            vault = create_vault(session, PASSWORD, version=self.version)
            assert vault is not None
            self.vault = vault

    @contextmanager
    def opened(self, purpose: Purpose = Purpose.READ, around: Around | None = None) -> Iterator[Vault]:
        with (
            self.store.open(purpose) as plain,
            self.vault.in_session(around(plain) if around else plain) as vault,
        ):
            yield vault

    def backup(self, files: Files, *, pack_blobs: int = 4, knows: bool = True, steps: int = 3) -> ObjectName | None:
        """A backup that knows what is there, or (`knows`) does not; `steps` of packs, index and commit are taken."""
        with self.opened(Purpose.BACKUP) as vault:
            known = vault.index if knows else None
            writer = IndexWriter(vault.index, vault)
            data = dict.fromkeys(number for content in files.values() for number in content)
            store_blobs(vault, writer, BlobKind.DATA, map(chunk, data), pack_blobs=pack_blobs, known=known)
            bodies, root = trees_of(files)
            store_blobs(vault, writer, BlobKind.TREE, bodies, pack_blobs=pack_blobs, known=known)
            if steps > 1:
                writer.flush()
            if steps < 3:
                return None
            snapshot = Snapshot(TIME_NS + len(self.snapshots), root, ("/",), "machine", "anna")
            name, body = vault.seal_unpacked(ObjectKind.SNAPSHOT, encode_snapshot(snapshot))
            vault.session.commit(name, body)
        self.snapshots[name] = files
        return name

    def forget(self, snapshot: ObjectName) -> None:
        with self.store.open(Purpose.RETENTION) as session:
            session.remove(snapshot)
        del self.snapshots[snapshot]

    def prune(self, limits: PruneLimits = EXACTLY, around: Around | None = None) -> PruneReport:
        with self.opened(Purpose.RETENTION, around) as vault:
            return prune(vault, limits)

    def plan(self, limits: PruneLimits = EXACTLY, without: Sequence[ObjectName] = ()) -> PruneReport:
        with self.opened() as vault:
            return plan_prune(vault, limits, without=without)

    def problems(self, *, errors: bool = False) -> list[str]:
        """What the strict check says; `errors`: without what costs space only."""
        with self.opened() as vault:
            found = check(vault, read_data=True)
            return [str(problem) for problem in found if problem.is_error or not errors]

    def is_whole(self) -> bool:
        """Whether there are exactly the snapshots that must be, each with all that it must hold."""
        with self.opened() as vault:
            return {ObjectName(ObjectKind.SNAPSHOT, each.id): files_in(vault, each) for each in vault.snapshots()} == {
                name: {path: [chunk(number) for number in content] for path, content in files.items()}
                for name, files in self.snapshots.items()
            }

    def names(self, kind: ObjectKind) -> set[ObjectName]:
        with self.store.open(Purpose.RETENTION) as session:
            return {info.name for info in session.list(kind)}

    def blobs(self) -> list[BlobId]:
        """All blobs of all packs, sorted."""
        with self.opened() as vault:
            return sorted(entry.id for _, entries in vault.index.packs() for entry in entries)

    def needed(self) -> list[BlobId]:
        """What the snapshots need, sorted."""
        found: set[BlobId] = set()
        for files in self.snapshots.values():
            found |= {blob_id(chunk(number)) for content in files.values() for number in content}
            found |= {blob_id(body) for body in trees_of(files)[0]}
        return sorted(found)


def copied(history: History, store: ObjectStore | None = None) -> History:
    """Another vault of the same content: that of `store`, or a copy of one in memory."""
    other = replace(history, store=MemoryStore(), snapshots=dict(history.snapshots))
    other.vault = history.vault
    if store is not None:
        other.store = store
    elif isinstance(history.store, MemoryStore) and isinstance(other.store, MemoryStore):
        other.store.objects = dict(history.store.objects)
    return other


def trees_of(files: Files) -> tuple[list[bytes], BlobId]:
    """The trees of some files, and the id of the root."""
    folders: dict[str, dict[str, Sequence[int]]] = {"": {}}
    for path, content in files.items():
        folder, _, name = path.rpartition("/")
        folders.setdefault(folder, {})[name] = content
    bodies = {
        folder: encode_tree(
            a_node(name.encode(), content=tuple(blob_id(chunk(number)) for number in content), size=_size(content))
            for name, content in inside.items()
        )
        for folder, inside in folders.items()
        if folder
    }
    root = encode_tree(
        [
            *(a_node(folder.encode(), NodeType.DIR, subtree=blob_id(body)) for folder, body in bodies.items()),
            *(
                a_node(name.encode(), content=tuple(blob_id(chunk(number)) for number in content), size=_size(content))
                for name, content in folders[""].items()
            ),
        ]
    )
    return list(dict.fromkeys([*bodies.values(), root])), blob_id(root)


def _size(content: Sequence[int]) -> int:
    return sum(len(chunk(number)) for number in content)


def store_blobs(
    vault: Vault,
    writer: IndexWriter,
    kind: BlobKind,
    plaintexts: Iterable[bytes],
    *,
    pack_blobs: int,
    known: object = None,
) -> list[ObjectName]:
    """Store those that the index has not, if it is asked, in packs of so many blobs."""
    new = [body for body in plaintexts if known is None or (kind, blob_id(body)) not in vault.index]
    rest, packs = iter(new), []
    while batch := list(islice(rest, pack_blobs)):
        builder = PackBuilder(vault.keys, kind)
        for blob in seal_batch(vault.keys, kind, batch, version=vault.config.version):
            builder.add(blob)
        pack, body = builder.finish()
        vault.session.put(pack.name, body)
        writer.add_pack(pack)
        packs.append(pack.name)
    return packs


def files_in(vault: Vault, snapshot: Snapshot) -> dict[str, list[bytes]]:
    return {
        listed.path.decode().lstrip("/"): [vault.load_blob(BlobKind.DATA, blob) for blob in listed.node.content]
        for listed in list_snapshot(vault, snapshot)
        if listed.node.content is not None
    }
