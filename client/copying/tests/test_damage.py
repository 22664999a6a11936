"""Copies between vaults of which one has lost something, or loses it meanwhile."""

from collections.abc import Callable

import pytest

from client.copying.tests.two_vaults import (
    a_history,
    a_target,
    copy,
    expect,
    lose_pack,
    name_of,
    objects_of,
    pack_of,
    three_backups,
)
from client.errors import ObjectMissing
from client.reachability.tests.a_history import chunk, store_blobs
from client.testing.faults import SessionAround
from client.vault.blobs import BlobKind
from client.vault.index import IndexWriter
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose


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


@pytest.mark.parametrize("bytes_a_round", [1, 1 << 30])
@pytest.mark.parametrize("only_once", [False, True], ids=["from then on", "once"])
@pytest.mark.parametrize("has_lost", [False, True], ids=["whole", "damaged"])
def test_no_copy_lacks_anything_whenever_the_source_loses_something(
    monkeypatch: pytest.MonkeyPatch, *, bytes_a_round: int, only_once: bool, has_lost: bool
) -> None:
    monkeypatch.setattr("client.copying.run._ROUND", bytes_a_round)
    source = three_backups()
    if has_lost:
        lose_pack(source, 70, lambda body: bytes(byte ^ 1 for byte in body))
    failing, fails = -1, True
    while fails:
        failing += 1
        reads = 0

        class Dying(SessionAround):
            def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
                nonlocal reads
                if name.kind in {ObjectKind.PACK, ObjectKind.SNAPSHOT}:
                    reads += 1
                    if reads - 1 == failing or (reads > failing and not only_once):  # noqa: B023 - called in this turn
                        raise ObjectMissing(place="the store", name=name)
                return super().get(name, offset, length)

        target = a_target()
        summary = copy(source, target, source_around=Dying)
        fails = reads > failing
        expect(target, source, summary)
        assert target.problems(errors=True) == []
        assert target.is_whole()
    assert failing > 10
    assert len(summary.copied) == 3 - has_lost


def test_a_snapshot_that_is_removed_meanwhile_is_named_and_the_others_are_copied() -> None:
    source, target = three_backups(), a_target()
    first, *others = source.snapshots
    seen: list[ObjectName] = []

    class Removed(SessionAround):
        def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
            if name == first:
                seen.append(name)
                if len(seen) > 2:  # after it was listed, and its parent looked for
                    raise ObjectMissing(place="the store", name=name)
            return super().get(name, offset, length)

    summary = copy(source, target, source_around=Removed)
    assert list(summary.lost) == [first.id]
    assert [name_of(one.snapshot) for one in summary.copied] == others


def test_what_a_snapshot_that_is_left_out_shares_with_others_is_copied_for_them() -> None:
    source, target = a_history(), a_target()
    assert source.backup({"shared/1": [1, 2], "own/1": [70]}, pack_blobs=1) is not None
    assert source.backup({"shared/1": [1, 2], "other/1": [3]}, pack_blobs=1) is not None
    lose_pack(source, 70, lambda _: None)
    summary = copy(source, target)
    assert len(summary.lost) == 1
    expect(target, source, summary)
    assert target.is_whole()


def test_what_one_snapshot_has_lost_costs_the_others_no_second_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.copying.run._ROUND", 1)
    source = a_history(*({**{f"d{at}/f": [at] for at in range(10)}, "x": [100 + number]} for number in range(30)))
    read: list[ObjectName] = []

    class Reading(SessionAround):
        def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
            if name.kind is ObjectKind.PACK:
                read.append(name)
            return super().get(name, offset, length)

    copy(source, a_target(), source_around=Reading)
    whole = len(read)
    read.clear()
    lose_pack(source, 129, lambda _: None)
    assert len(copy(source, a_target(), source_around=Reading).lost) == 1
    assert len(read) <= whole


def test_what_a_copy_has_lost_is_stored_again_where_that_is_known() -> None:
    source, target = a_history({"a": [7, 8]}, {"a": [7, 8], "b": [9]}), a_target()
    expect(target, source, copy(source, target))
    lost = pack_of(target, 7)
    del objects_of(target)[lost]
    summary = copy(source, target, lost=frozenset((lost,)))
    assert (summary.copied, summary.present, summary.lost) == ([], 2, {})
    assert summary.new_bytes > 0
    assert target.is_whole()


def test_a_copy_that_cannot_be_mended_is_named() -> None:
    source, target = a_history({"a": [7]}, {"b": [8]}), a_target()
    copy(source, target)
    first, _ = source.snapshots
    lost = pack_of(target, 7)
    del objects_of(target)[lost]
    lose_pack(source, 7, lambda _: None)
    summary = copy(source, target, lost=frozenset((lost,)))
    assert list(summary.lost) == [first.id]
    assert "not mended" in summary.lost[first.id]


@pytest.mark.parametrize("kind", [ObjectKind.SNAPSHOT, ObjectKind.INDEX])
def test_what_cannot_be_read_of_either_vault_is_named(kind: ObjectKind) -> None:
    source, target = three_backups(), a_target()
    copy(source, target)
    damaged = max(target.names(kind), key=lambda name: name.id)
    objects_of(target)[damaged] = b"rubbish"
    index = min(source.names(ObjectKind.INDEX), key=lambda name: name.id)
    objects_of(source)[index] = b"rubbish"
    source.backup({"a/1": [200]})
    summary = copy(source, target)
    assert list(summary.unread_target) == [damaged]
    assert list(summary.unread_source) == [index]
