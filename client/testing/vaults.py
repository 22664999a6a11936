"""Vaults in a temporary folder, and backups and restores of them, for tests."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import zip_longest
from pathlib import Path

from client.backup.destinations import Target
from client.backup.request import BackupRequest, BackupSummary, NoProgress
from client.backup.run import backup
from client.backup.selection import EVERYTHING, Selection
from client.backup.stream import Stream
from client.errors import OortError
from client.platforms.linux import Identity
from client.restore.request import Progress as RestoreProgress
from client.restore.request import RestoreOptions, RestoreSummary
from client.restore.run import restore
from client.restore.selection import Patterns
from client.stores.abc import ObjectStore, StoreSession
from client.stores.local import LocalStore
from client.vault.checker import check
from client.vault.repository import Vault, create_vault, open_vault
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose

PASSWORD = "ab" * 32
NOON = datetime(2026, 1, 2, 12, 0, 0, 123456, tzinfo=UTC)

Around = Callable[[StoreSession], StoreSession]


@dataclass(slots=True)
class VaultForTests:
    """A local vault and what can be done with it; `around` puts a fault around each backup's session.

    `cache` is the folder of a device that keeps caches, if it does.
    """

    path: Path
    cache: Path | None = None
    store: ObjectStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = LocalStore(self.path)

    @contextmanager
    def opened(self, purpose: Purpose = Purpose.READ, parent: ObjectName | None = None) -> Iterator[Vault]:
        with self.store.open(purpose, parent) as session, open_vault(session, PASSWORD, self.cache) as vault:
            yield vault

    def backup(
        self,
        *paths: Path | str,
        parent: ObjectName | None = None,
        around: Around | None = None,
        progress: NoProgress | None = None,
        locked: bool = True,
        excluded: frozenset[Identity] = frozenset(),
        selection: Selection = EVERYTHING,
        stream: Stream | None = None,
    ) -> BackupSummary:
        with self.store.open(Purpose.BACKUP, parent) as plain:
            session = around(plain) if around else plain
            with open_vault(session, PASSWORD, self.cache) as vault:
                request = replace(a_request(*paths), excluded=excluded, selection=selection, stream=stream)
                target = Target(vault, session, parent, locked=locked)
                return summary_of(backup([target], request, progress)[0])

    def restore(
        self,
        target: Path,
        snapshot: str = "latest",
        *,
        includes: Sequence[str] = (),
        options: RestoreOptions | None = None,
        around: Around | None = None,
        progress: RestoreProgress | None = None,
    ) -> RestoreSummary:
        options = options or RestoreOptions(Patterns(includes))
        with self.store.open(Purpose.READ) as plain:
            session = around(plain) if around else plain
            with open_vault(session, PASSWORD) as vault:
                return restore(vault, session, vault.find_snapshot(snapshot), target, options, progress=progress)

    def problems(self) -> list[str]:
        """What the strict check says, every blob opened."""
        with self.opened() as vault:
            return [str(problem) for problem in check(vault, read_data=True)]

    def errors(self) -> list[str]:
        """As `problems`, without what costs space only: packs that no index file lists."""
        with self.opened() as vault:
            return [str(problem) for problem in check(vault, read_data=True) if problem.is_error]

    def objects(self, kind: ObjectKind) -> list[Path]:
        """The files of a kind, on the disk."""
        with self.store.open(Purpose.READ) as session:
            return [self.path / info.name.path for info in session.list(kind)]

    def size(self) -> int:
        """Bytes in all objects."""
        return sum(path.stat().st_size for kind in ObjectKind if kind is not ObjectKind.LOCK for path in self._of(kind))

    def _of(self, kind: ObjectKind) -> list[Path]:
        if kind.is_root_file:
            path = self.path / kind.value
            return [path] if path.exists() else []
        return self.objects(kind)


def a_vault(path: Path, *, version: int = 2, cache: Path | None = None) -> VaultForTests:
    """A new vault in the folder `path`."""
    made = VaultForTests(path, cache)
    with made.store.open(Purpose.BACKUP) as session:
        vault = create_vault(session, PASSWORD, version=version)
        if vault is None:
            raise AssertionError(f"{path} holds a vault already")
        vault.close()
    return made


def summary_of(outcome: BackupSummary | OortError) -> BackupSummary:
    """What a backup did for a vault. Raises why it did nothing."""
    if isinstance(outcome, OortError):
        raise outcome
    return outcome


def a_request(*paths: Path | str, time: datetime = NOON) -> BackupRequest:
    return BackupRequest(
        paths=tuple(os.fsencode(path) for path in paths),
        time=time,
        hostname="machine",
        username="anna",
        tags=("oort:item=1", "oort:device=2"),
    )


def backup_to_several(
    vaults: Sequence[VaultForTests],
    *paths: Path | str,
    parents: Sequence[ObjectName | None] = (),
    around: Sequence[Around | None] = (),
    locked: bool = True,
    stream: Stream | None = None,
    progress: NoProgress | None = None,
    give_up: Callable[[StoreSession], object] = lambda _: None,
) -> list[BackupSummary | OortError]:
    """One backup to all vaults, of which each may have a parent, and a fault around its session.

    `give_up` is called with the session of one that has failed while others go on.
    """
    with ExitStack() as stack:
        targets = []
        for vault, parent, fault in zip_longest(vaults, parents, around):
            session = stack.enter_context(vault.store.open(Purpose.BACKUP, parent))
            session = fault(session) if fault else session
            opened = stack.enter_context(open_vault(session, PASSWORD, vault.cache))
            targets.append(Target(opened, session, parent, locked=locked, give_up=partial(give_up, session)))
        return backup(targets, replace(a_request(*paths), stream=stream), progress)
