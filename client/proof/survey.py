"""The packs of a vault beside what its index says of them: which of them are not as they are listed.

Kept true: what is found wrong is read from the packs themselves; a pack that can be read is never called damaged, and
of one that is damaged each blob is opened before it is given up. A pack that no index file lists is read whole before
it is taken in: a repair may have left it. Memory grows with what is lost and not with the vault, nor with
what no index file lists, but for 50 bytes a pack.
"""

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from enum import StrEnum

from client.errors import DamagedVault, ObjectMissing
from client.vault.blobs import BlobId, PackEntry
from client.vault.damage import Damage
from client.vault.index import Index, Location
from client.vault.index_files import IndexedPack
from client.vault.pack_contents import is_whole, opened_blobs
from client.vault.pack_sizes import PackSizes
from client.vault.packs import header_size, read_pack_header
from client.vault.repository import Vault
from domain.names import ObjectKind, ObjectName

_PACK = ObjectKind.PACK
_KNOWN_AT_ONCE = 256
_ALTERED = "its bytes are not those it was stored with"

Progress = Callable[[str, int, int], None]  # what is looked at, how many are done, and of how many

Each = Callable[[ObjectName, list[PackEntry]], None]


class Verdict(StrEnum):
    """How a pack is not as the index has it; the value says it to a person."""

    MISSING = "it is missing"
    DAMAGED = "it is damaged"
    DIFFERS = "the index files had other blobs in it than its header"
    UNLISTED = "no index file listed it"
    USELESS = "no index file listed it, and it is damaged"


_VERDICTS: tuple[Verdict | None, ...] = (None, *Verdict)
_NUMBERS = {verdict: number for number, verdict in enumerate(Verdict, 1)}
LOSSES = (Verdict.MISSING, Verdict.DAMAGED, Verdict.USELESS)  # what a pack cannot be put right after


@dataclass(frozen=True, slots=True)
class PackFinding:
    """One pack that is not as listed; `lost` of its `blobs` do not open. `detail` is why, of a damaged one.

    Of a pack that no index file listed, `lost` are those that are whole nowhere else either. Where its header cannot be
    read, it is not known what lay in it: `blobs` is 0.
    """

    pack: ObjectName
    verdict: Verdict
    blobs: int = 0
    lost: int = 0
    detail: str = ""

    def __str__(self) -> str:
        said = f"{self.pack}: {self.verdict}"
        if self.detail:
            said += f" ({self.detail})"
        if self.blobs and self.verdict in LOSSES:
            said += f": {self.lost:,} of {self.blobs:,} blobs are gone with it"
        return said


class Survey:
    """Looks at the packs, once; then says what was found of each."""

    def __init__(
        self, vault: Vault, index: Index, doubted: Container[ObjectName], *, read_headers: bool, progress: Progress
    ) -> None:
        """`doubted` packs are read whole; with `read_headers` every header is, else where the sizes do not fit."""
        self._vault = vault
        self._index = index
        self._doubted = doubted
        self._read_headers = read_headers
        self._progress = progress
        self._sizes = PackSizes(())
        self._verdicts = bytearray()  # of the packs that are there, by position: numbers of _VERDICTS
        self._missing: set[bytes] = set()
        self._new: list[IndexedPack] = []  # what only headers list
        self._harmed: list[tuple[ObjectName, int, list[PackEntry]]] = []  # in no index file, and not whole
        self.damage = Damage(index)
        self.healed: list[ObjectName] = []  # doubted, and whole or gone for good
        for name in index.damaged:
            self.damage.add_index_file(name)

    def __bool__(self) -> bool:
        """Whether anything that counts is not as it is listed."""
        counts = any(self._verdicts.count(_NUMBERS[verdict]) for verdict in Verdict if verdict is not Verdict.USELESS)
        return counts or bool(self._missing)

    def verdict(self, pack: ObjectName) -> Verdict | None:
        """What was found of a pack; None if it is as it is listed."""
        identity = bytes.fromhex(pack.id)
        at = self._sizes.find(identity)
        if at is None:
            return Verdict.MISSING if identity in self._missing else None
        return _VERDICTS[self._verdicts[at]]

    def size(self, pack: ObjectName) -> int:
        """The size of a pack that is there, in bytes."""
        return self._sizes.take(bytes.fromhex(pack.id)) or 0

    def is_unsafe(self, location: Location) -> bool:
        """Whether a place will not be in a new index, or cannot be read."""
        return self.verdict(location.pack) in (Verdict.MISSING, Verdict.DAMAGED) or self.damage.is_bad(location)

    def lies_elsewhere(self, pack: ObjectName, entry: PackEntry) -> bool:
        """Whether a blob of a pack opens from another that a new index will have. Raises StoreError."""
        places = self._index.find_all(entry.kind, entry.id)
        return any(place.pack != pack and not self.is_unsafe(place) and self._opens(place) for place in places)

    def unlisted(self) -> Iterator[ObjectName]:
        """The packs to be taken in."""
        yield from self._of(Verdict.UNLISTED)

    def damaged(self) -> Iterator[ObjectName]:
        """The packs that are there, and damaged."""
        yield from self._of(Verdict.DAMAGED)
        yield from self._of(Verdict.USELESS)

    def run(self, each: Each = lambda *_: None) -> Iterator[PackFinding]:
        """Look at every pack; `each` gets what lies in each, by the index or by its header. Raises StoreError."""
        sizes = self._sizes = PackSizes(self._vault.session.list(_PACK))
        self._verdicts = bytearray(len(sizes))
        done = 0
        for name, entries in self._index.packs():
            each(name, entries)
            size = sizes.take(bytes.fromhex(name.id))
            finding = self._look_at_listed(name, size, entries, each, is_doubted=name in self._doubted)
            if finding is not None:
                yield self._found(finding)
            done += 1
            self._progress("packs", done, len(sizes))
        for name, size in sizes.rest():
            finding = self._look_at_unlisted(name, size, each)
            if finding is not None:
                yield self._found(finding)
            done += 1
            self._progress("packs", done, len(sizes))
        self._make_known(at_least=1)
        for name, size, entries in self._harmed:  # now all is known that may lie elsewhere
            yield self._found(self._look_at_harmed(name, size, entries, each))
        self._make_known(at_least=1)

    def run_again(self) -> Iterator[PackFinding]:
        """Look, as at doubted ones, at packs in which damage was found after `run`. Raises StoreError."""
        for name in self.damage.packs():
            if self.verdict(name) is None:
                size = self._sizes.take(bytes.fromhex(name.id))
                entries = self._index.entries_of_pack(name)
                finding = self._look_at_listed(name, size, entries, lambda *_: None, is_doubted=True)
                if finding is not None:
                    yield self._found(finding)
        self._make_known(at_least=1)

    def _of(self, verdict: Verdict) -> Iterator[ObjectName]:
        at = self._verdicts.find(_NUMBERS[verdict])
        while at >= 0:
            yield self._sizes.name(at)
            at = self._verdicts.find(_NUMBERS[verdict], at + 1)

    def _found(self, finding: PackFinding) -> PackFinding:
        identity = bytes.fromhex(finding.pack.id)
        at = self._sizes.find(identity)
        if at is None:
            self._missing.add(identity)
        else:
            self._verdicts[at] = _NUMBERS[finding.verdict]
        return finding

    def _look_at_listed(
        self, name: ObjectName, size: int | None, entries: list[PackEntry], each: Each, *, is_doubted: bool
    ) -> PackFinding | None:
        if size is None:
            self.damage.add_pack(name)
            if is_doubted:
                self.healed.append(name)  # the index will have it no more
            return PackFinding(name, Verdict.MISSING, len(entries), len(entries))
        if not is_doubted and not self._read_headers and _fits(size, entries):
            return None
        try:
            found = read_pack_header(self._vault.session, self._vault.keys, name, size)
        except (DamagedVault, ObjectMissing) as error:
            return self._damaged(name, size, entries, str(error))
        if found == entries and not is_doubted:
            return None
        finding = self._compare(name, size, entries, found, each)
        if is_doubted and (finding is None or finding.verdict is not Verdict.DAMAGED):
            self.healed.append(name)
        return finding

    def _compare(
        self, name: ObjectName, size: int, entries: list[PackEntry], found: list[PackEntry], each: Each
    ) -> PackFinding | None:
        """A pack that is read whole, with what the index has of it and what was found in its header."""
        listed = frozenset(entries)
        more = [entry for entry in found if entry not in listed]
        if more:
            each(name, more)
            self._new.append(IndexedPack.of(bytes.fromhex(name.id), more))
        if not is_whole(self._vault, name, found):
            return self._damaged(name, size, [*entries, *more], _ALTERED)
        if found == entries:
            return None
        there = {entry.id for entry in found}  # of one that is listed at a wrong place too, the right one counts
        self.damage.add_blobs(name, (entry.id for entry in entries if entry.id not in there))
        return PackFinding(name, Verdict.DIFFERS, len(found))

    def _look_at_unlisted(self, name: ObjectName, size: int, each: Each) -> PackFinding | None:
        """It is taken in only when it was read whole; None for one of which a part may be saved."""
        try:
            found = read_pack_header(self._vault.session, self._vault.keys, name, size)
        except (DamagedVault, ObjectMissing) as error:
            return PackFinding(name, Verdict.USELESS, detail=str(error))
        if not is_whole(self._vault, name, found):
            self._harmed.append((name, size, found))
            return None
        each(name, found)
        self._new.append(IndexedPack.of(bytes.fromhex(name.id), found))
        self._make_known(at_least=_KNOWN_AT_ONCE)
        return PackFinding(name, Verdict.UNLISTED, len(found))

    def _look_at_harmed(self, name: ObjectName, size: int, entries: list[PackEntry], each: Each) -> PackFinding:
        """One that no index file listed; what lies whole elsewhere too is not lost, and need not be saved again."""
        lost = self._lost_of(name, size, entries)
        only_here = {entry.id for entry in entries if not self.lies_elsewhere(name, entry)}
        if only_here <= lost:
            return PackFinding(name, Verdict.USELESS, len(entries), len(only_here), _ALTERED)
        each(name, entries)
        self._new.append(IndexedPack.of(bytes.fromhex(name.id), entries))
        self.damage.add_blobs(name, lost)
        return PackFinding(name, Verdict.DAMAGED, len(entries), len(only_here & lost), _ALTERED)

    def _make_known(self, at_least: int) -> None:
        """Have what only headers list found in the index from now on, as if an index file listed it."""
        if len(self._new) >= at_least:
            made_up = ObjectName.of(ObjectKind.INDEX, b"".join(pack.pack for pack in self._new))
            self._index.absorb(made_up, self._new)
            self._new = []

    def _damaged(self, name: ObjectName, size: int, entries: list[PackEntry], why: str) -> PackFinding:
        lost = self._lost_of(name, size, entries)
        blobs = len({entry.id for entry in entries})
        if len(lost) == blobs:
            self.damage.add_pack(name)
        else:
            self.damage.add_blobs(name, lost)
        return PackFinding(name, Verdict.DAMAGED, blobs, len(lost), why)

    def _lost_of(self, name: ObjectName, size: int, entries: list[PackEntry]) -> set[BlobId]:
        """The blobs that open from none of their entries."""
        opened = {entry.id for entry, body in opened_blobs(self._vault, name, size, entries) if body is not None}
        return {entry.id for entry in entries} - opened

    def _opens(self, location: Location) -> bool:
        try:
            self._vault.load_at(location)
        except (DamagedVault, ObjectMissing):
            return False
        return True


def _fits(size: int, entries: list[PackEntry]) -> bool:
    """Whether a pack of `size` bytes can have just these blobs, as far as their lengths say."""
    end = 0
    for entry in entries:
        if entry.offset != end:
            return False
        end += entry.length
    return size == end + header_size(entries)
