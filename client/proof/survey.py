"""The packs of a vault beside what its index says of them: which of them are not as they are listed.

Kept true: what is found wrong is read from the packs themselves; a pack that can be read is never called damaged, and
of one that is damaged each blob is opened before it is given up. Memory grows with what is wrong and not with the
vault, but for 50 bytes a pack.
"""

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from enum import StrEnum

from client.errors import DamagedVault, ObjectMissing
from client.vault.blobs import PackEntry
from client.vault.damage import Damage
from client.vault.index import Index, Location
from client.vault.index_files import IndexedPack
from client.vault.pack_contents import is_whole, lost_blobs
from client.vault.pack_sizes import PackSizes
from client.vault.packs import header_size, read_pack_header
from client.vault.repository import Vault
from domain.names import ObjectKind, ObjectName

_PACK = ObjectKind.PACK
_KNOWN_AT_ONCE = 256

Progress = Callable[[str, int, int], None]  # what is looked at, how many are done, and of how many

Each = Callable[[ObjectName, list[PackEntry]], None]


class Verdict(StrEnum):
    """How a pack is not as the index has it; the value says it to a person."""

    MISSING = "it is missing"
    DAMAGED = "it is damaged"
    DIFFERS = "the index files had other blobs in it than its header"
    UNLISTED = "no index file listed it"
    USELESS = "no index file listed it, and it is damaged"


@dataclass(frozen=True, slots=True)
class PackFinding:
    """One pack that is not as listed; `lost` of its `blobs` do not open. `detail` is why, of a damaged one."""

    pack: ObjectName
    verdict: Verdict
    blobs: int = 0
    lost: int = 0
    detail: str = ""

    def __str__(self) -> str:
        said = f"{self.pack}: {self.verdict}"
        if self.detail:
            said += f" ({self.detail})"
        if self.verdict in (Verdict.MISSING, Verdict.DAMAGED):
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
        self._verdicts: dict[bytes, Verdict] = {}
        self._sizes = PackSizes(())
        self._new: list[IndexedPack] = []  # what only headers list
        self.damage = Damage(index)
        self.healed: list[ObjectName] = []  # doubted, and whole or gone for good
        for name in index.damaged:
            self.damage.add_index_file(name)

    def __bool__(self) -> bool:
        """Whether anything that counts is not as it is listed."""
        return any(verdict is not Verdict.USELESS for verdict in self._verdicts.values())

    def verdict(self, pack: ObjectName) -> Verdict | None:
        """What was found of a pack; None if it is as it is listed."""
        return self._verdicts.get(bytes.fromhex(pack.id))

    def size(self, pack: ObjectName) -> int:
        """The size of a pack that is there, in bytes."""
        return self._sizes.take(bytes.fromhex(pack.id)) or 0

    def is_unsafe(self, location: Location) -> bool:
        """Whether a place will not be in a new index, or cannot be read."""
        return self.verdict(location.pack) in (Verdict.MISSING, Verdict.DAMAGED) or self.damage.is_bad(location)

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
        done = 0
        for name, entries in self._index.packs():
            each(name, entries)
            finding = self._look_at_listed(name, sizes.take(bytes.fromhex(name.id)), entries, each)
            if finding is not None:
                yield self._found(finding)
            done += 1
            self._progress("packs", done, len(sizes))
        for name, size in sizes.rest():
            yield self._found(self._look_at_unlisted(name, size, each))
            done += 1
            self._progress("packs", done, len(sizes))
        self._make_known(at_least=1)

    def _of(self, verdict: Verdict) -> Iterator[ObjectName]:
        return (ObjectName(_PACK, pack.hex()) for pack, found in self._verdicts.items() if found is verdict)

    def _found(self, finding: PackFinding) -> PackFinding:
        self._verdicts[bytes.fromhex(finding.pack.id)] = finding.verdict
        return finding

    def _look_at_listed(
        self, name: ObjectName, size: int | None, entries: list[PackEntry], each: Each
    ) -> PackFinding | None:
        is_doubted = name in self._doubted
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
        if (is_doubted or found != entries) and not is_whole(self._vault, name, found):
            return self._damaged(name, size, entries, "its bytes are not those it was stored with")
        if is_doubted:
            self.healed.append(name)
        if found == entries:
            return None
        there, listed = frozenset(found), frozenset(entries)
        self.damage.add_blobs(name, (entry.id for entry in entries if entry not in there))
        more = [entry for entry in found if entry not in listed]
        each(name, more)
        self._new.append(IndexedPack.of(bytes.fromhex(name.id), more))
        return PackFinding(name, Verdict.DIFFERS, len(found))

    def _look_at_unlisted(self, name: ObjectName, size: int, each: Each) -> PackFinding:
        try:
            found = read_pack_header(self._vault.session, self._vault.keys, name, size)
        except (DamagedVault, ObjectMissing) as error:
            return PackFinding(name, Verdict.USELESS, detail=str(error))
        if name in self._doubted and not is_whole(self._vault, name, found):
            return PackFinding(name, Verdict.USELESS, len(found), detail="its bytes are not those it was stored with")
        each(name, found)
        self._new.append(IndexedPack.of(bytes.fromhex(name.id), found))
        self._make_known(at_least=_KNOWN_AT_ONCE)
        return PackFinding(name, Verdict.UNLISTED, len(found))

    def _make_known(self, at_least: int) -> None:
        """Have what only headers list found in the index from now on, as if an index file listed it."""
        if len(self._new) >= at_least:
            made_up = ObjectName.of(ObjectKind.INDEX, b"".join(pack.pack for pack in self._new))
            self._index.absorb(made_up, self._new)
            self._new = []

    def _damaged(self, name: ObjectName, size: int, entries: list[PackEntry], why: str) -> PackFinding:
        lost = lost_blobs(self._vault, name, size, entries)
        if len(lost) == len(entries):
            self.damage.add_pack(name)
        else:
            self.damage.add_blobs(name, lost)
        return PackFinding(name, Verdict.DAMAGED, len(entries), len(lost), why)


def _fits(size: int, entries: list[PackEntry]) -> bool:
    """Whether a pack of `size` bytes can have just these blobs, as far as their lengths say."""
    end = 0
    for entry in entries:
        if entry.offset != end:
            return False
        end += entry.length
    return size == end + header_size(entries)
