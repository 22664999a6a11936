"""New packs of the needed blobs of old ones.

Kept true: every blob was opened, and is moved as it was sealed; the store has acknowledged a new pack before anything
counts on it. An old pack of which a needed blob cannot be read is no more to be removed: it stays as it is, and is
named; nor is one of which a needed blob lies in no stored pack, as there was no room. Like those of a backup, data
blobs go to one of two open packs at random. A pack has no more blobs than an index file takes. Memory: the open packs,
with the rows that they are of, and one while it is sent.
"""

from collections.abc import Callable, Iterator
from random import Random

from client.errors import StoreFull
from client.reachability.findings import Progress
from client.reachability.marking import NEEDED, Marks
from client.reachability.reading import Run, Unreadable, as_sealed, open_run, read_runs
from client.reachability.tables import PackTables
from client.retention.prune.choice import REPACK, Choice
from client.retention.prune.openers import Opener
from client.vault.blobs import BlobKind
from client.vault.index_files import IndexedPack, iterate_entries
from client.vault.packs import PackBuilder
from client.vault.repository import Vault

_OPEN_PACKS = {BlobKind.DATA: 2, BlobKind.TREE: 1}


class _OpenPack(PackBuilder):
    """A new pack that is being filled, and the rows of which it has blobs."""

    def __init__(self, vault: Vault, kind: BlobKind) -> None:
        super().__init__(vault.keys, kind)
        self.rows: set[int] = set()


class Repacking:
    """Moves blobs. `failed` are the rows whose packs must stay, each with the reason.

    `full` is why it ended early, if the store had no room; `unmoved` are the rows that stay for that.
    """

    def __init__(
        self, vault: Vault, tables: PackTables, marks: Marks, random: Random, ensure_locked: Callable[[], None]
    ) -> None:
        self._vault = vault
        self._tables = tables
        self._marks = marks
        self._random = random
        self._ensure_locked = ensure_locked
        self._open = {kind: [_OpenPack(vault, kind) for _ in range(count)] for kind, count in _OPEN_PACKS.items()}
        self._at = 0  # the row that is being moved: all before it lie in stored or in open packs
        self.failed: dict[int, str] = {}
        self.full: StoreFull | None = None
        self.unmoved: set[int] = set()
        self.packs = 0
        self.bytes = 0  # in new packs

    def run(self, choice: Choice, progress: Progress) -> Iterator[IndexedPack]:
        """Store new packs, and answer each. Raises StoreError, DamagedVault if a new pack is not what it must be.

        StoreFull is not raised: what was stored before counts.
        """
        opener = Opener(self._vault.keys, choice.moved.blobs)
        try:
            for run, is_open in opener.opened(self._read(choice, progress)):
                yield from self._move(run, is_open)
            self._at = len(choice.actions)
            for builders in self._open.values():
                for at, builder in enumerate(builders):
                    if len(builder):
                        indexed, builders[at] = self._store(builder), _OpenPack(self._vault, builder.kind)
                        yield indexed
        except StoreFull as error:
            self.full = error
            self.unmoved = {row for row in choice.rows(REPACK) if row >= self._at}
            self.unmoved.update(*(builder.rows for builders in self._open.values() for builder in builders))
        finally:
            opener.close()

    def _read(self, choice: Choice, progress: Progress) -> Iterator[Run]:
        """What is needed of the packs that are to go, each blob with the number of its row."""
        total = choice.actions.count(REPACK)
        for done, row in enumerate(choice.rows(REPACK)):
            progress("packs to repack", done, total)
            numbers = self._tables.numbers(row)
            states = self._marks.states[numbers.start : numbers.stop]
            entries = iterate_entries(self._tables.table(row))
            wanted = [(row, entry) for entry, state in zip(entries, states, strict=True) if state == NEEDED]
            yield from read_runs(self._vault, self._tables.pack(row), wanted)
        if total:
            progress("packs to repack", total, total)

    def _move(self, run: Run, is_open: bool) -> Iterator[IndexedPack]:
        """Put a run's blobs into the open packs; those that are not known to open are opened before."""
        drawn = self._random.randbytes(len(run.entries))
        for (row, entry, sealed, plaintext), draw in zip(
            as_sealed(run) if is_open else open_run(self._vault, run), drawn, strict=True
        ):
            self._at = row
            if isinstance(plaintext, Unreadable):
                self.failed.setdefault(row, f"{entry.kind} blob {entry.id.hex()}: {plaintext.reason}")
                continue
            builders = self._open[entry.kind]
            at = draw % len(builders)
            builder = builders[at]
            builder.move(entry, sealed)
            builder.rows.add(row)
            if builder.is_full:
                indexed, builders[at] = self._store(builder), _OpenPack(self._vault, entry.kind)
                yield indexed

    def _store(self, builder: _OpenPack) -> IndexedPack:
        pack, body = builder.finish()
        self._ensure_locked()
        self._vault.session.put(pack.name, body)
        self.packs += 1
        self.bytes += len(body)
        return pack
