"""Snapshots copied between vaults: whole or not at all, once, and nothing more than is needed."""

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import cache, partial
from random import Random

import pytest

from client.copying.needed import needed
from client.copying.run import CopySummary, copy_snapshots
from client.errors import StoreError
from client.retention.prune.tests.a_history import History, chunk, copied, store_blobs
from client.stores.tests.memory import MemoryStore
from client.testing.faults import SessionAround
from client.testing.stops import Stop, StoppingSession
from client.vault.blobs import BlobKind, blob_id
from client.vault.index import IndexWriter
from client.vault.packs import PackBuilder
from client.vault.snapshots import Snapshot, encode_snapshot, retag_document
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
) -> CopySummary:
    with (
        source.opened() as from_vault,
        target.store.open(Purpose.BACKUP) as plain,
        target.vault.in_session(around(SessionAround(plain))) as to_vault,
    ):
        snapshots = [one for one in from_vault.snapshots(lambda *_: None) if wanted is None or name_of(one) in wanted]
        return copy_snapshots(from_vault, to_vault, snapshots, random=Random(7))


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


@pytest.mark.parametrize("source_version", [1, 2])
@pytest.mark.parametrize("target_version", [1, 2])
def test_copies_hold_what_the_snapshots_hold_whatever_the_versions(source_version: int, target_version: int) -> None:
    source, target = three_backups(source_version), a_target(version=target_version)
    summary = copy(source, target)
    expect(target, source, summary)
    assert [one.snapshot for one in summary.copied] == snapshots_of(source)
    assert (summary.lost, summary.present) == ({}, 0)
    assert target.is_whole()
    assert target.problems() == []
    assert target.blobs() == target.needed()


def test_a_copy_says_what_it_is_a_copy_of_and_else_the_same() -> None:
    source, target = three_backups(), a_target()
    copy(source, target)
    for old, new in zip(snapshots_of(source), snapshots_of(target), strict=True):
        assert new == replace(old, id=new.id, original=old.id)


def test_what_was_copied_is_not_copied_again() -> None:
    source, target = three_backups(), a_target()
    first, *_ = source.snapshots
    assert len(copy(source, target, wanted=[first]).copied) == 1
    before = set(objects_of(target))
    rest = copy(source, target)
    assert (len(rest.copied), rest.present) == (2, 1)
    assert before < set(objects_of(target))
    before = set(objects_of(target))
    nothing = copy(source, target)
    assert (nothing.copied, nothing.present, nothing.uploaded_bytes) == ([], 3, 0)
    assert set(objects_of(target)) == before


def test_a_copy_does_not_come_back_as_another_snapshot() -> None:
    source, target = three_backups(), a_target()
    copy(source, target)
    back = copy(target, source)
    assert (back.copied, back.present) == ([], 3)


def test_a_snapshot_with_other_tags_is_another() -> None:
    source, target = three_backups(), a_target()
    copy(source, target)
    with source.opened(Purpose.RETENTION) as vault:
        old = vault.snapshots()[0]
        name, body = vault.seal_unpacked(
            ObjectKind.SNAPSHOT, retag_document(vault.load_unpacked(name_of(old)), old, ["kept"])
        )
        vault.session.commit(name, body)
    (again,) = copy(source, target).copied
    assert again.snapshot.tags == ("kept",)


def test_the_parent_of_a_copy_is_the_copy_of_the_parent() -> None:
    source, target = a_history(), a_target()
    parent: str | None = None
    for second, files in enumerate([{"a": [1]}, {"a": [1, 2]}, {"a": [3]}]):
        assert source.backup(files) is not None
        with source.opened(Purpose.BACKUP) as vault:
            (plain,) = [one for one in vault.snapshots() if one.parent is None and one.hostname == "machine"]
            # Of clocks that go back: only the parent tells which came first.
            document = encode_snapshot(replace(plain, time_ns=10**18 - second, parent=parent, hostname="chained"))
            name, body = vault.seal_unpacked(ObjectKind.SNAPSHOT, document)
            vault.session.commit(name, body)
        source.forget(name_of(plain))
        parent = name.id
    copy(source, target)
    old, new = snapshots_of(source), snapshots_of(target)
    assert [one.original for one in new] == [one.id for one in old]
    assert [one.parent for one in new] == [None, new[0].id, new[1].id]


def test_data_is_sealed_as_it_was_compressed() -> None:
    source, target = a_history({"a": [8]}), a_target()
    copy(source, target)
    frames = []
    for history in (source, target):
        with history.opened() as vault:
            place = vault.index.find(BlobKind.DATA, blob_id(chunk(8)))
            assert place is not None
            assert place.entry.uncompressed_length == len(chunk(8))
            sealed = vault.session.get(place.pack, place.entry.offset, place.entry.length)
            frames.append(vault.keys.open(sealed))
    assert frames[0] == frames[1] != chunk(8)


def test_what_the_target_has_is_not_read() -> None:
    source, target = a_history({"a": [7]}, {"a": [7], "b": [8]}), a_target({"a": [7]})
    read: list[ObjectName] = []

    class Reading(SessionAround):
        def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
            read.append(name)
            return super().get(name, offset, length)

    with source.opened(around=Reading) as from_vault, target.opened(Purpose.BACKUP) as to_vault:
        packs = [place.pack for place in from_vault.index.find_one_of_each(BlobKind.DATA, ids_of(7, 8)) if place]
        read.clear()
        summary = copy_snapshots(from_vault, to_vault, from_vault.snapshots())
    assert [read.count(pack) for pack in packs] == [0, 1]
    expect(target, source, summary)
    assert target.is_whole()


def ids_of(*numbers: int) -> list[bytes]:
    return [blob_id(chunk(number)) for number in numbers]


def test_batches_hold_a_bounded_number_of_plain_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.copying.needed._BATCH", 1000)
    source = a_history({"a": list(range(200))}, {"b": list(range(100, 300))})
    with source.opened() as vault, needed(vault, vault.snapshots(), lambda *_: None) as need:
        batches = list(need.batches())
    assert all(batch.size <= 1000 or len(batch.blobs) == 1 for batch in batches)
    assert all(batch.size == sum(entry.length_plain for _, entry in batch.blobs) for batch in batches)
    assert sum(len(batch.blobs) for batch in batches) == need.blobs == len(source.needed())


def lose_pack(history: History, number: int, change: Callable[[bytes], bytes | None]) -> None:
    """Change or take away the pack that has a chunk."""
    with history.opened() as vault:
        place = vault.index.find(BlobKind.DATA, blob_id(chunk(number)))
    assert place is not None
    body = bytes(change(objects_of(history).pop(place.pack)) or b"")
    if body:
        objects_of(history)[place.pack] = body


@pytest.mark.parametrize(
    "change",
    [lambda _: None, lambda body: bytes(byte ^ 1 for byte in body), lambda body: body[:100]],
    ids=["missing", "altered", "cut short"],
)
def test_what_has_lost_something_is_named_and_all_else_is_copied(change: Callable[[bytes], bytes | None]) -> None:
    source, target = three_backups(), a_target()
    lose_pack(source, 70, change)  # which the last backup alone has
    summary = copy(source, target)
    *whole, damaged = source.snapshots
    assert list(summary.lost) == [damaged.id]
    assert "blob" in summary.lost[damaged.id]
    assert [name_of(one.snapshot) for one in summary.copied] == whole
    expect(target, source, summary)
    assert target.is_whole()
    assert target.problems(errors=True) == []


def test_a_lost_tree_is_as_any_other_loss() -> None:
    source, target = three_backups(), a_target()
    lost = next(iter(source.snapshots))
    with source.opened() as vault:
        place = vault.index.find(BlobKind.TREE, vault.load_snapshot(lost).tree)
    assert place is not None
    del objects_of(source)[place.pack]
    summary = copy(source, target)
    assert lost.id in summary.lost
    assert summary.lost.keys() | {one.snapshot.id for one in summary.copied} == {one.id for one in source.snapshots}
    expect(target, source, summary)
    assert target.is_whole()


def test_a_blob_that_lies_whole_in_another_pack_is_had_from_there() -> None:
    source, target = three_backups(), a_target()
    lose_pack(source, 70, lambda body: bytes(byte ^ 1 for byte in body))
    with source.opened(Purpose.BACKUP) as vault:
        writer = IndexWriter(vault.index, vault)
        store_blobs(vault, writer, BlobKind.DATA, map(chunk, (70, 71)), pack_blobs=2, known=None)
        writer.flush()
    summary = copy(source, target)
    assert summary.lost == {}
    expect(target, source, summary)
    assert target.is_whole()


def test_wherever_it_is_stopped_no_copy_is_half_there_and_the_next_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.backup.packing.PackBuilder", partial(PackBuilder, target=250))
    source = three_backups()
    copying, calls = True, 0
    while copying:
        for is_reply_lost in (False, True):
            target = a_target()
            stop = Stop(calls, is_reply_lost=is_reply_lost)
            try:
                copy(source, target, around=lambda session, stop=stop: StoppingSession(session, stop))  # type: ignore[misc]
            except StoreError:
                assert stop.has_come
            else:
                copying = stop.has_come
            assert target.problems(errors=True) == []
            for one in snapshots_of(target):
                target.snapshots[name_of(one)] = source.snapshots[ObjectName(ObjectKind.SNAPSHOT, one.original or "")]
            expect(target, source, copy(source, target))
            assert target.is_whole()
            assert len(target.snapshots) == 3
        calls += 1
    assert calls > 20
