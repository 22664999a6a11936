"""A new index in place of the old one, and new packs for what is left of damaged ones.

Kept true (docs/sessions.md, rules 9 and 12): packs are stored before the index files that list them, all new index
files before an old one goes; no pack is removed. So whatever interrupts it, the index that is there finds all that the
old one found, and the same command again goes on from that. Memory does not grow with the vault.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from client.proof.survey import Survey, Verdict
from client.vault.blobs import BlobId, BlobKind, PackEntry, SealedBlob
from client.vault.index import Index
from client.vault.index_files import MAX_ENTRIES, IndexedPack, IndexFile, encode_index_file
from client.vault.pack_contents import opened_blobs
from client.vault.packs import PackBuilder, read_pack_header
from client.vault.repository import Vault
from domain.names import ObjectKind, ObjectName


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What was written: packs in the new index, blobs moved out of damaged packs, index files new and removed.

    `kept` are old index files that the store did not let go, each with the reason.
    """

    packs: int
    moved_blobs: int
    new_files: int
    old_files: int
    kept: Sequence[tuple[ObjectName, str]] = ()


def rewrite_index(
    vault: Vault,
    index: Index,
    survey: Survey,
    old: Sequence[ObjectName],
    ensure_locked: Callable[[], None] = lambda: None,
) -> Rewritten:
    """Write index files as the survey found the packs to be, then condemn the `old` ones, all that were listed.

    The session is of retention and has drawn its mark. Raises DamagedVault, StoreError, LockLost; then none is gone.
    """
    listing = _Listing(vault, ensure_locked)
    remains = _Remains(vault, survey, ensure_locked)
    for name, entries in index.packs():
        match survey.verdict(name):
            case None:
                listing.add(IndexedPack.of(bytes.fromhex(name.id), entries))
            case Verdict.DAMAGED:
                remains.take(name, entries)
            case Verdict.DIFFERS:
                listing.add_by_header(name, survey.size(name))
    for name in survey.unlisted():
        listing.add_by_header(name, survey.size(name))
    for pack in remains.finish():
        listing.add(pack)
    listing.finish()
    ensure_locked()
    kept = [(name, refusal.reason) for name, refusal in vault.session.condemn(old).items()]
    return Rewritten(listing.packs, remains.moved, listing.files, len(old) - len(kept), tuple(kept))


class _Listing:
    """Packs on their way into index files."""

    def __init__(self, vault: Vault, ensure_locked: Callable[[], None]) -> None:
        self._vault = vault
        self._ensure_locked = ensure_locked
        self._waiting: list[IndexedPack] = []
        self._entries = 0
        self.packs = self.files = 0

    def add(self, pack: IndexedPack) -> None:
        if self._entries + len(pack) > MAX_ENTRIES:
            self.finish()
        self._waiting.append(pack)
        self._entries += len(pack)
        self.packs += 1

    def add_by_header(self, pack: ObjectName, size: int) -> None:
        """A pack whose header was read before. Raises DamagedVault, ObjectMissing if it cannot be any more."""
        entries = read_pack_header(self._vault.session, self._vault.keys, pack, size)
        self.add(IndexedPack.of(bytes.fromhex(pack.id), entries))

    def finish(self) -> None:
        if self._waiting:
            self._ensure_locked()
            body = encode_index_file(IndexFile(self._waiting))
            packs = [ObjectName(ObjectKind.PACK, pack.pack.hex()) for pack in self._waiting]
            self._vault.save_unpacked(ObjectKind.INDEX, body, packs)
            self.files += 1
        self._waiting, self._entries = [], 0


class _Remains:
    """What opens of damaged packs, on its way into new ones, unless it opens elsewhere."""

    def __init__(self, vault: Vault, survey: Survey, ensure_locked: Callable[[], None]) -> None:
        self._vault = vault
        self._survey = survey
        self._ensure_locked = ensure_locked
        self._builders = {kind: PackBuilder(vault.keys, kind) for kind in BlobKind}
        self._done: list[IndexedPack] = []
        self._moved: set[tuple[BlobKind, BlobId]] = set()
        self.moved = 0

    def take(self, pack: ObjectName, entries: Iterable[PackEntry]) -> None:
        for entry, sealed in opened_blobs(self._vault, pack, self._survey.size(pack), entries):
            is_moved = (entry.kind, entry.id) in self._moved
            if sealed is None or is_moved or self._survey.lies_elsewhere(pack, entry):
                continue
            builder = self._builders[entry.kind]
            plain = entry.length_plain
            builder.add(SealedBlob(entry.id, entry.kind, plain, bool(entry.uncompressed_length), sealed))
            self._moved.add((entry.kind, entry.id))
            self.moved += 1
            if builder.is_full:
                self._store(entry.kind)

    def finish(self) -> list[IndexedPack]:
        """The new packs, all of which are stored."""
        for kind in BlobKind:
            if len(self._builders[kind]):
                self._store(kind)
        return self._done

    def _store(self, kind: BlobKind) -> None:
        builder, self._builders[kind] = self._builders[kind], PackBuilder(self._vault.keys, kind)
        pack, body = builder.finish()
        self._ensure_locked()
        self._vault.session.put(pack.name, body)
        self._done.append(pack)
