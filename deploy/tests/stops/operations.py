"""What is stopped: the engine's operations that change a vault, each on a small vault that gives it much to do.

Each runs as its command does, from the opening of the store on, in the sessions and under the locks that
client/account takes; auth, and a person's consent, are left out. Packs, index files and condemnations are made small
(`few_at_once`), so that what is one call in so small a vault are many, as in a large one.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from itertools import islice, repeat
from pathlib import Path

import pytest

from client.account.backup_run import choose_parent
from client.backup import upload
from client.backup.destinations import Target
from client.backup.run import backup
from client.proof import index_rewrite
from client.proof.rebuild import rebuild_index
from client.reachability.tests.a_history import AS_IT_IS, EXACTLY, History
from client.retention.plan import Rules, make_plan
from client.retention.prune import prune, removal, rewriting
from client.stores.abc import ObjectStore
from client.stores.local import LocalStore
from client.testing.files import random_bytes
from client.testing.vaults import PASSWORD as PASSWORD_OF_BACKUPS
from client.testing.vaults import a_request, a_vault, summary_of
from client.vault import index, keys
from client.vault.blobs import BlobKind
from client.vault.index import IndexWriter
from client.vault.index_tables import MemoryTable
from client.vault.locks import vault_lock
from client.vault.packs import PackBuilder
from client.vault.repository import Vault, open_vault
from client.vault.tests.builders import PASSWORD as PASSWORD_OF_HISTORIES
from client.vault.walk import list_snapshot
from domain.names import ObjectKind, ObjectName
from domain.retention_policy import Policy, Range, RangeType, RetentionMode
from domain.sessions import Purpose

Contents = Mapping[bytes, bytes]  # what a snapshot's files hold, by their paths
NowNs = Callable[[], int]  # the wall clock, nanoseconds since 1970

_KEEP_LAST = Policy(RetentionMode.DELETE_EXCEPT, (Range(RangeType.LAST_JOBS, jobs=1),))


@dataclass(frozen=True)
class Prepared:
    """A vault in a folder before an operation, and its password; `vault` has its keys.

    It holds `snapshots`, of which those that are in `stay` must be there whatever happens; the operation may add
    one that holds `added`. A backup is of `source`.
    """

    folder: Path
    password: str
    vault: Vault
    snapshots: Mapping[ObjectName, Contents]
    stay: frozenset[ObjectName]
    added: Contents = field(default_factory=dict)
    source: Path = Path()


@dataclass(frozen=True)
class Operation:
    """`run` does it on a store, and `writes` these kinds of objects, each of them new.

    `is_alone`: no other may be in the vault then, and nothing is left after it that only costs space.
    """

    name: str
    writes: frozenset[ObjectKind]
    prepare: Callable[[Path], Prepared]
    run: Callable[[Prepared, ObjectStore, NowNs], None]
    is_alone: bool = True


def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two blobs fill a pack, a few packs an index file, and after a few packs a checkpoint is due. Memory is free."""
    monkeypatch.setattr(PackBuilder, "is_full", property(lambda builder: len(builder) >= 2))
    monkeypatch.setattr(upload, "_CHECKPOINT", 4_000)
    monkeypatch.setattr(rewriting, "MAX_ENTRIES", 6)
    monkeypatch.setattr(removal, "_AT_ONCE", 4)
    monkeypatch.setattr(index_rewrite, "MAX_ENTRIES", 6)
    # What would take more of the processor than all that is tested here.
    monkeypatch.setattr(upload, "give_back_free_memory", lambda: None)
    monkeypatch.setattr(index, "_tables", lambda *_: repeat(MemoryTable))
    monkeypatch.setattr(keys, "_stretch", cache(keys._stretch))


def contents(vault: Vault) -> dict[ObjectName, Contents]:
    """What every snapshot of a vault restores to."""
    return {
        ObjectName(ObjectKind.SNAPSHOT, snapshot.id): {
            listed.path: b"".join(vault.load_blob(BlobKind.DATA, blob) for blob in listed.node.content)
            for listed in list_snapshot(vault, snapshot)
            if listed.node.content is not None
        }
        for snapshot in vault.snapshots()
    }


def prepare_backup(folder: Path) -> Prepared:
    """Two snapshots; the files are in part as in the newer one, in part as in the older one only, in part new."""
    vault, source = a_vault(folder / "vault"), folder / "source"

    def write(name: str, seed: int) -> None:
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random_bytes(700, seed))

    for seed, name in enumerate(("changed/a", "changed/b", *(f"same/{number}/a" for number in range(8)))):
        write(name, seed)
    first = vault.backup(source).snapshot
    write("changed/a", 20)
    write("changed/b", 21)
    vault.backup(source, parent=first)
    write("changed/a", 30)
    write("changed/b", 1)  # as it was at first: its pack is there, and must be reserved
    for seed, name in enumerate(("same/0/b", *(f"new/{number}" for number in range(8))), 40):
        write(name, seed)
    with vault.opened() as opened:
        snapshots, with_keys = contents(opened), opened.in_session(opened.session)
    added = {os.fsencode(path): path.read_bytes() for path in source.rglob("*") if path.is_file()}
    return Prepared(vault.path, PASSWORD_OF_BACKUPS, with_keys, snapshots, frozenset(snapshots), added, source)


def run_backup(prepared: Prepared, store: ObjectStore, now_ns: NowNs) -> None:
    with store.open(Purpose.READ) as session, open_vault(session, prepared.password) as vault:
        parent = choose_parent(vault.snapshots(), "1", "2", a_request(prepared.source))
    name = ObjectName(ObjectKind.SNAPSHOT, parent.id) if parent else None
    with (
        store.open(Purpose.BACKUP, name) as session,
        open_vault(session, prepared.password) as vault,
        vault_lock(vault, needed=store.needs_locks, place=store.place, now_ns=now_ns) as lock,
    ):
        ensure_locked = lock.ensure_held if lock else _nothing
        target = Target(vault, session, name, locked=lock is not None, ensure_locked=ensure_locked)
        summary_of(backup([target], a_request(prepared.source))[0])


def prepare_retention(folder: Path) -> Prepared:
    """Three snapshots, of which one is to stay: it needs one or two of the three blobs in most packs."""

    def make(history: History) -> None:
        history.backup({"all": range(27)}, pack_blobs=3)
        history.backup({"a/some": range(0, 27, 3), "b/some": range(0, 27, 4), "new": range(40, 43)}, pack_blobs=3)
        history.backup({"a/some": range(0, 27, 3), "b/some": range(0, 27, 5)}, pack_blobs=3)

    return _prepare_history(folder, make, only_last_stays=True)


def run_retention(prepared: Prepared, store: ObjectStore, now_ns: NowNs) -> None:
    with _alone(prepared, store, now_ns) as (vault, ensure_locked):
        now = datetime.fromtimestamp(now_ns() / 1e9, UTC)
        for snapshot in make_plan(vault.snapshots(), Rules(given=_KEEP_LAST), now, lambda _policy: UTC).removed:
            vault.session.remove(ObjectName(ObjectKind.SNAPSHOT, snapshot.id))
        prune(vault, EXACTLY, ensure_locked=ensure_locked)


def prepare_folding(folder: Path) -> Prepared:
    """Ten snapshots, each with an index file of its own: as many as make a prune fold them."""

    def make(history: History) -> None:
        for number in range(10):
            history.backup({f"file {number}": [number, number + 50]})

    return _prepare_history(folder, make)


def run_folding(prepared: Prepared, store: ObjectStore, now_ns: NowNs) -> None:
    with _alone(prepared, store, now_ns) as (vault, ensure_locked):
        prune(vault, AS_IT_IS, ensure_locked=ensure_locked)


def prepare_rebuilding(folder: Path) -> Prepared:
    """Some packs, most of them in one of four index files, some in two, and some in none."""

    def make(history: History) -> None:
        history.backup({"all": range(16)}, pack_blobs=2)
        history.backup({"all": range(10, 22)}, pack_blobs=2)
        history.backup({"all": range(12)}, pack_blobs=2)
        history.backup({"none": range(30, 36)}, pack_blobs=2, steps=1)
        with history.opened(Purpose.BACKUP) as vault:
            writer = IndexWriter(vault.index, vault)
            for name, _ in islice(vault.index.packs(), 3):
                writer.add_reserved(name)
            writer.flush()

    return _prepare_history(folder, make)


def run_rebuilding(prepared: Prepared, store: ObjectStore, now_ns: NowNs) -> None:
    with _alone(prepared, store, now_ns) as (vault, ensure_locked):
        rebuild_index(vault, read_headers=True, ensure_locked=ensure_locked)


@contextmanager
def _alone(prepared: Prepared, store: ObjectStore, now_ns: NowNs) -> Iterator[tuple[Vault, Callable[[], None]]]:
    """The opened vault, and what raises once another may be at work in it."""
    with (
        store.open(Purpose.RETENTION) as session,
        open_vault(session, prepared.password) as vault,
        vault_lock(vault, needed=store.needs_locks, exclusive=True, place=store.place, now_ns=now_ns) as lock,
    ):
        yield vault, lock.ensure_held if lock else _nothing


def _prepare_history(folder: Path, make: Callable[[History], None], *, only_last_stays: bool = False) -> Prepared:
    history = History(LocalStore(folder / "vault"))
    make(history)
    with history.opened() as vault:
        snapshots = contents(vault)
    stay = list(history.snapshots)[-1:] if only_last_stays else snapshots
    return Prepared(folder / "vault", PASSWORD_OF_HISTORIES, history.vault, snapshots, frozenset(stay))


def _nothing() -> None:
    """No lock can be lost where none is needed."""


_PACK, _INDEX, _SNAPSHOT = ObjectKind.PACK, ObjectKind.INDEX, ObjectKind.SNAPSHOT
OPERATIONS = (
    Operation("backup", frozenset((_PACK, _INDEX, _SNAPSHOT)), prepare_backup, run_backup, is_alone=False),
    Operation("retention with prune", frozenset((_PACK, _INDEX)), prepare_retention, run_retention),
    Operation("index files folded into fewer", frozenset((_INDEX,)), prepare_folding, run_folding),
    Operation("rebuild-index", frozenset((_INDEX,)), prepare_rebuilding, run_rebuilding),
)
