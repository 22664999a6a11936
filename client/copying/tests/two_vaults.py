"""Vaults to copy from and to, and what a copy between them must come to."""

from collections.abc import Callable, Collection
from functools import cache
from random import Random

from client.copying.report import CopyListener, CopySummary
from client.copying.run import CopySession, copy_snapshots
from client.reachability.tests.a_history import Around, History, chunk, copied
from client.stores.tests.memory import MemoryStore
from client.testing.faults import SessionAround
from client.vault.blobs import BlobKind, blob_id
from client.vault.snapshots import Snapshot
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose

Files = dict[str, list[int]]


@cache
def _empty(version: int, is_target: bool) -> History:  # noqa: ARG001 - each has keys of its own
    """To make keys takes longer than most that is done with them."""
    return History(version=version)


def a_history(*backups: Files, version: int = 2, is_target: bool = False) -> History:
    history = copied(_empty(version, is_target))
    for files in backups:
        assert history.backup(files) is not None
    return history


def a_target(*backups: Files, version: int = 2) -> History:
    return a_history(*backups, version=version, is_target=True)


def three_backups(version: int = 2) -> History:
    return a_history(
        {"a/1": list(range(40)), "a/2": [1, 2]},
        {"a/1": list(range(0, 40, 3)), "b/1": list(range(50, 60))},
        {"a/1": list(range(30)), "c": [70]},
        version=version,
    )


def copy(
    source: History,
    target: History,
    *,
    wanted: Collection[ObjectName] | None = None,
    around: Callable[[SessionAround], SessionAround] = lambda session: session,
    source_around: Around | None = None,
    lost: frozenset[ObjectName] = frozenset(),
    summary: CopySummary | None = None,
    listener: CopyListener = CopyListener(),  # noqa: B008 - it is immutable
) -> CopySummary:
    """With a `summary`, the copy goes on that filled it."""
    summary = CopySummary() if summary is None else summary
    with (
        source.opened(around=source_around) as from_vault,
        target.store.open(Purpose.BACKUP) as plain,
        target.vault.in_session(around(SessionAround(plain))) as to_vault,
    ):
        snapshots = [one for one in from_vault.snapshots(lambda *_: None) if wanted is None or name_of(one) in wanted]
        session = CopySession(lost)
        copy_snapshots(from_vault, to_vault, snapshots, summary, session=session, listener=listener, random=Random(7))
    return summary


def name_of(snapshot: Snapshot) -> ObjectName:
    return ObjectName(ObjectKind.SNAPSHOT, snapshot.id)


def expect(target: History, source: History, summary: CopySummary) -> None:
    """Have the target know what its copies must hold."""
    for one in summary.copied:
        target.snapshots[ObjectName(ObjectKind.SNAPSHOT, one.copy)] = source.snapshots[name_of(one.snapshot)]


def objects_of(history: History) -> dict[ObjectName, bytes]:
    assert isinstance(history.store, MemoryStore)
    return history.store.objects


def snapshots_of(history: History) -> list[Snapshot]:
    with history.opened() as vault:
        return vault.snapshots()


def pack_of(history: History, number: int) -> ObjectName:
    """The pack that has a chunk."""
    with history.opened() as vault:
        place = vault.index.find(BlobKind.DATA, blob_id(chunk(number)))
    assert place is not None
    return place.pack


def lose_pack(history: History, number: int, change: Callable[[bytes], bytes | None]) -> None:
    """Change or take away the pack that has a chunk."""
    pack = pack_of(history, number)
    body = bytes(change(objects_of(history).pop(pack)) or b"")
    if body:
        objects_of(history)[pack] = body
