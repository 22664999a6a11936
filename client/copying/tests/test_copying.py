"""Snapshots copied between vaults: whole or not at all, once, and nothing more than is needed."""

from dataclasses import replace
from functools import partial

import pytest

from client.copying.needed import needed
from client.copying.report import CopyListener, CopySummary, CopyTally
from client.copying.run import copy_snapshots
from client.copying.tests.two_vaults import (
    a_history,
    a_target,
    copy,
    expect,
    name_of,
    objects_of,
    snapshots_of,
    three_backups,
)
from client.errors import SessionOver, StoreError
from client.reachability import references, walk
from client.reachability.tests.a_history import chunk, trees_of
from client.testing.faults import SessionAround
from client.testing.stops import Stop, StoppingSession
from client.vault.blobs import BlobKind, blob_id
from client.vault.packs import PackBuilder
from client.vault.snapshots import encode_snapshot, retag_document
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose


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
        summary = CopySummary()
        copy_snapshots(from_vault, to_vault, from_vault.snapshots(), summary)
    assert [read.count(pack) for pack in packs] == [0, 1]
    expect(target, source, summary)
    assert target.is_whole()


def ids_of(*numbers: int) -> list[bytes]:
    return [blob_id(chunk(number)) for number in numbers]


def test_batches_hold_a_bounded_number_of_plain_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.copying.needed._BATCH", 1000)
    source = a_history({"a": list(range(200))}, {"b": list(range(100, 300))})
    with source.opened() as vault, needed(vault, lambda *_: None, lambda *_: None) as need:
        assert [need.add(snapshot) for snapshot in vault.snapshots()] == ["", ""]
        batches = list(need.batches())
    assert all(batch.size <= 1000 or len(batch.blobs) == 1 for batch in batches)
    assert all(batch.size == sum(entry.length_plain for _, entry in batch.blobs) for batch in batches)
    assert sum(len(batch.blobs) for batch in batches) == len(source.needed())
    assert sum(batch.size for batch in batches) == need.size


@pytest.mark.parametrize("bytes_a_round", [1, 1 << 30])
def test_wherever_it_is_stopped_no_copy_is_half_there_and_the_next_goes_on(
    monkeypatch: pytest.MonkeyPatch, bytes_a_round: int
) -> None:
    monkeypatch.setattr("client.copying.run._ROUND", bytes_a_round)
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


def test_snapshots_are_committed_as_soon_as_they_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.copying.run._ROUND", 1)
    source, target = three_backups(), a_target()
    first, *_ = source.snapshots
    puts: list[ObjectName] = []

    class Full(SessionAround):
        def put(self, name: ObjectName, body: bytes, packs: object = ()) -> bool:  # type: ignore[override]
            if puts and any(put.kind is ObjectKind.SNAPSHOT for put in puts):
                raise StoreError(place="the store", detail="it is full")
            return super().put(name, body, packs)  # type: ignore[arg-type]

        def commit(self, snapshot: ObjectName, body: bytes) -> None:  # type: ignore[override]
            super().commit(snapshot, body)
            puts.append(snapshot)

    with pytest.raises(StoreError, match="full"):
        copy(source, target, around=Full)
    assert [one.original for one in snapshots_of(target)] == [first.id]
    target.snapshots[puts[0]] = source.snapshots[first]
    assert target.is_whole()


def test_each_tree_is_read_once_whatever_the_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.copying.run._ROUND", 1)
    backups = [{**{f"d{at}/f": [at] for at in range(10)}, "x": [100 + number]} for number in range(10)]
    source = a_history(*backups)
    read: list[str] = []

    def counted(body: bytes, name: str) -> object:
        read.append(name)
        return references.references(body, name)

    monkeypatch.setattr(walk, "references", counted)
    copy(source, a_target())
    assert len(read) == len({body for files in backups for body in trees_of(files)[0]})


def test_a_copy_whose_session_was_ended_counts_what_the_sessions_before_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.copying.run._ROUND", 1)
    source, target = three_backups(), a_target()
    summary = CopySummary()

    class Ended(SessionAround):
        def commit(self, snapshot: ObjectName, body: bytes) -> None:  # type: ignore[override]
            if len(summary.copied) == 2:
                raise SessionOver(place="the store")
            super().commit(snapshot, body)

    with pytest.raises(SessionOver):
        copy(source, target, around=Ended, summary=summary)
    copy(source, target, summary=summary)
    assert [name_of(one.snapshot) for one in summary.copied] == list(source.snapshots)
    at_once = copy(source, a_target())
    assert (summary.present, summary.lost, summary.new_bytes) == (0, {}, at_once.new_bytes)
    assert summary.uploaded_bytes > at_once.uploaded_bytes


def test_progress_says_how_many_snapshots_and_bytes_are_done() -> None:
    source, heard = three_backups(), list[CopyTally]()
    summary = copy(source, a_target(), listener=CopyListener(advanced=heard.append))
    assert {tally.total_snapshots for tally in heard} == {3}
    assert [tally.done_bytes for tally in heard] == sorted(tally.done_bytes for tally in heard)
    assert heard[-1].snapshots == 3
    assert heard[-1].done_bytes == heard[-1].total_bytes == summary.new_bytes
    assert 0 < heard[-1].uploaded_bytes <= summary.uploaded_bytes
