"""What goes, what stays, and what is said of it."""

from collections.abc import Mapping, Sequence
from itertools import count

import pytest

from client.errors import NoRoomForIndex, NoSnapshots, NotSupported, StoreFull
from client.reachability.tests.a_history import AS_IT_IS, EXACTLY, History, chunk, copied, store_blobs, trees_of
from client.retention.prune import PruneLimits, choice
from client.retention.prune.limits import SMALL_PACK
from client.stores.abc import Buffer, Refusal, StoreSession
from client.stores.tests.memory import MemoryStore
from client.testing.faults import SessionAround
from client.vault.blobs import BlobKind, PackEntry, blob_id
from client.vault.index import IndexWriter
from client.vault.index_files import IndexedPack, IndexFile, encode_index_file
from client.vault.keys import DataKeys
from client.vault.packs import PackBuilder
from client.vault.sealing import entry_of, seal_batch
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose


def a_history(version: int = 2) -> History:
    """Three snapshots that share some files, the second of which was removed."""
    history = History(version=version)
    history.backup({"a/1": range(20), "a/2": range(20, 25), "b/1": range(100, 110), "top": [1, 2]})
    second = history.backup({"a/1": range(20), "c/1": range(200, 230), "c/2": range(20, 40)})
    history.backup({"a/1": range(10, 20), "b/1": range(100, 110), "c/2": range(30, 40), "empty": []})
    assert second is not None
    history.forget(second)
    return history


def a_thinned_history() -> History:
    """Ten packs of data, each with a blob in four that nothing needs."""
    history = History()
    first = history.backup({"all": range(40)})
    assert first is not None
    history.backup({"most": [number for number in range(40) if number % 4]})
    history.forget(first)
    return history


@pytest.mark.parametrize("version", [1, 2])
def test_exactly_what_the_snapshots_need_is_left(version: int) -> None:
    history = a_history(version)

    report = history.prune()

    assert history.problems() == []
    assert history.is_whole()
    assert history.blobs() == history.needed()
    assert not report.problems
    assert report.snapshots == 2
    assert report.needed.blobs == len(history.needed())
    assert report.unused.blobs > 30
    assert (report.left.blobs, report.duplicate.blobs, report.postponed_packs) == (0, 0, 0)
    assert report.kept_packs + report.new_packs == len(history.names(ObjectKind.PACK))


def test_a_second_prune_finds_nothing_to_do() -> None:
    history = a_history()
    history.prune()
    before = {kind: history.names(kind) for kind in ObjectKind}

    report = history.prune()

    assert {kind: history.names(kind) for kind in ObjectKind} == before
    assert (report.removed_packs, report.new_packs, report.replaced_index_files, report.freed_bytes) == (0, 0, 0, 0)


def test_a_vault_without_snapshots_is_left_as_it_is() -> None:
    history = History()
    name = history.backup({"a": range(30)})
    assert name is not None
    with pytest.raises(NoSnapshots):
        history.plan(without=[name])
    history.forget(name)
    before = {kind: history.names(kind) for kind in ObjectKind}

    with pytest.raises(NoSnapshots, match=rf"no snapshot, and packs \({len(before[ObjectKind.PACK])}\)"):
        history.prune()

    assert {kind: history.names(kind) for kind in ObjectKind} == before


def test_what_a_first_backup_left_goes_before_there_is_a_snapshot() -> None:
    history = History()
    history.backup({"a": range(30)}, steps=1)
    history.prune()
    assert not history.names(ObjectKind.PACK)


def test_what_ended_backups_left_goes() -> None:
    history = a_history()
    history.prune()
    packs = history.names(ObjectKind.PACK)
    history.backup({"x": range(500, 520)}, steps=1)
    history.backup({"y": range(600, 620)}, steps=2)
    assert len(history.names(ObjectKind.PACK)) > len(packs)

    report = history.prune(AS_IT_IS)

    assert history.names(ObjectKind.PACK) == packs
    assert 0 < report.unlisted_packs < report.removed_packs
    assert history.problems() == []


def test_a_plan_changes_nothing_and_foresees_what_a_prune_does() -> None:
    history = a_history()
    gone = next(iter(history.snapshots))
    assert isinstance(history.store, MemoryStore)
    before = dict(history.store.objects)
    plan = history.plan(without=[gone])
    assert history.store.objects == before
    assert plan.is_plan

    history.forget(gone)
    report = history.prune()

    assert report.snapshots == plan.snapshots == 1
    assert (report.needed, report.unused, report.left) == (plan.needed, plan.unused, plan.left)
    assert report.removed_packs == plan.removed_packs
    assert report.repacked_packs == plan.repacked_packs
    assert report.kept_packs == plan.kept_packs
    assert history.problems() == []


def test_only_a_retention_session_prunes_and_once() -> None:
    history = a_history()
    with history.opened(Purpose.BACKUP) as vault, pytest.raises(NotSupported):
        history.prune(around=lambda _: vault.session)
    with history.opened(Purpose.RETENTION) as vault:
        history.prune(around=lambda _: vault.session)
        with pytest.raises(NotSupported):
            history.prune(around=lambda _: vault.session)


def test_unused_bytes_may_stay_up_to_the_limit() -> None:
    history = a_thinned_history()
    everything = history.prune(PruneLimits(unused_share=0.99, small_pack=0))
    assert everything.repacked_packs == 0
    assert everything.left.blobs == 10

    allowed = everything.left.bytes // 2
    report = history.prune(PruneLimits(unused_bytes=allowed, small_pack=0))

    assert 0 < report.left.bytes <= allowed
    assert 0 < report.repacked_packs < 10
    assert history.prune(AS_IT_IS).left.bytes == 0
    assert history.problems() == []
    assert history.is_whole()


def test_no_more_is_repacked_in_a_run_than_the_limit_and_the_next_goes_on() -> None:
    history = a_thinned_history()
    limits = PruneLimits(unused_share=0, repack_bytes=1200, small_pack=0)
    left: list[int] = []
    while not left or left[-1]:
        report = history.prune(limits)
        assert (report.postponed_packs > 0) == (report.left.bytes > 0)
        assert report.repacked_packs > 0
        left.append(report.left.bytes)
        assert history.problems() == []
    assert len(left) > 2
    assert left == sorted(left, reverse=True)
    assert history.blobs() == history.needed()
    assert history.is_whole()


def test_nothing_is_repacked_where_that_is_the_limit() -> None:
    history = a_history()
    report = history.prune(PruneLimits(unused_share=0, repack_bytes=0))
    assert (report.repacked_packs, report.new_packs) == (0, 0)
    assert report.removed_packs > 0
    assert history.problems() == []
    assert history.is_whole()


def test_small_packs_and_small_index_files_are_put_together_where_they_are_many() -> None:
    history = History()
    for number in range(9):
        history.backup({str(number): [number]})
    assert history.prune(EXACTLY).repacked_packs == 0

    history.backup({"one more": [99]})
    report = history.prune(EXACTLY)

    assert len(history.names(ObjectKind.PACK)) <= 3  # one or two of data and one of trees
    assert len(history.names(ObjectKind.INDEX)) == 1
    assert report.repacked_packs == 20
    assert history.problems() == []
    assert history.is_whole()
    assert history.prune(EXACTLY).repacked_packs == 0


def test_packs_that_are_full_by_the_number_of_their_blobs_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.vault.packs.MAX_BLOBS", 4)
    monkeypatch.setattr("client.retention.prune.choice._FEW_BLOBS", 2)
    history = History()
    for number in range(12):
        history.backup({str(number): range(4 * number, 4 * number + 4)})
    with history.opened() as vault:
        full = {name for name, entries in vault.index.packs() if len(entries) == 4}
    assert len(full) == 12

    assert history.prune(EXACTLY).repacked_packs == 12  # those with a tree each

    assert full <= history.names(ObjectKind.PACK)
    assert history.prune(EXACTLY).repacked_packs == 0
    assert history.is_whole()


@pytest.mark.parametrize("version", [1, 2])
def test_packs_that_hold_data_and_trees_are_parted_where_the_format_wants_it(version: int) -> None:
    history = History(version=version)
    files = {"b": [2]}
    with history.opened(Purpose.BACKUP) as vault:
        (tree,), _ = trees_of(files)
        builder = PackBuilder(vault.keys, BlobKind.DATA)
        for kind, body in ((BlobKind.DATA, chunk(2)), (BlobKind.TREE, tree)):
            (blob,) = seal_batch(vault.keys, kind, [body], version=version)
            builder.move(entry_of(blob, 0), blob.body)
        pack, packed = builder.finish()
        vault.session.put(pack.name, packed)
        writer = IndexWriter(vault.index, vault)
        writer.add_pack(pack)
        writer.flush()
    history.backup(files)
    assert history.names(ObjectKind.PACK) == {pack.name}

    report = history.prune(AS_IT_IS)

    assert report.repacked_packs == (version == 2)
    assert history.problems(errors=True) == []
    assert history.is_whole()


def test_what_a_running_backup_has_stored_stays_and_is_no_refusal() -> None:
    history = a_history()
    with history.opened(Purpose.BACKUP) as vault:
        writer = IndexWriter(vault.index, vault)
        (stored,) = store_blobs(vault, writer, BlobKind.DATA, [chunk(900)], pack_blobs=1)

        report = history.prune()

        assert stored in history.names(ObjectKind.PACK)
        assert (report.packs_in_use, report.refused.count) == (1, 0)
        writer.flush()
    assert history.problems() == []
    history.prune()
    assert stored not in history.names(ObjectKind.PACK)


def test_packs_of_an_index_file_that_the_store_keeps_stay_too() -> None:
    history = a_history()
    with history.opened() as vault:
        files = {name: {pack.name for pack in vault.read_index_file(name).packs} for name in vault.index.files}
        (unneeded,) = vault.index.packs_of(BlobKind.DATA, blob_id(chunk(200)))
    locked, packs = next((name, listed) for name, listed in files.items() if unneeded in listed)

    class ObjectLock(SessionAround):
        def condemn(self, names: Sequence[ObjectName]) -> Mapping[ObjectName, Refusal]:
            free = [name for name in names if name != locked]
            stays = {name: Refusal("it is locked until Sunday") for name in names if name == locked}
            return stays | dict(super().condemn(free))

    report = history.prune(around=ObjectLock)

    assert report.refused.named == [f"{locked}: it is locked until Sunday"]
    assert packs <= history.names(ObjectKind.PACK)
    assert history.problems(errors=True) == []
    assert history.is_whole()

    names = history.names(ObjectKind.INDEX)
    history.prune(around=ObjectLock)
    assert history.names(ObjectKind.INDEX) == names  # nothing new is listed as long as the lock holds
    history.prune()
    assert history.problems() == []
    assert history.blobs() == history.needed()


def test_what_index_files_say_of_a_pack_in_parts_is_listed_in_full() -> None:
    history = History()
    history.backup({"a": range(8)}, pack_blobs=8)
    with history.opened(Purpose.BACKUP) as vault:
        (name,) = history.names(ObjectKind.INDEX)
        packs = vault.read_index_file(name).packs
        for part in (0, 1):
            some = [IndexedPack.of(pack.pack, pack.entries[part::2]) for pack in packs]
            document = encode_index_file(IndexFile([pack for pack in some if len(pack)]))
            vault.save_unpacked(ObjectKind.INDEX, document, [pack.name for pack in packs])
    assert isinstance(history.store, MemoryStore)
    del history.store.objects[name]
    assert history.problems() != []

    report = history.prune(AS_IT_IS)

    assert (report.repacked_packs, report.removed_packs) == (0, 0)
    assert report.replaced_index_files == 2
    assert history.problems() == []
    assert history.is_whole()


@pytest.mark.parametrize("packs", [1, 4])
def test_of_index_files_that_list_the_same_pack_the_largest_stays(packs: int) -> None:
    """As a backup that reserved packs leaves them, and a prune that was stopped among the old index files."""
    history = History()
    history.backup({"all": range(20)})
    (larger,) = history.names(ObjectKind.INDEX)
    history.backup({"few": range(30, 32)})
    with history.opened(Purpose.BACKUP) as vault:
        writer = IndexWriter(vault.index, vault)
        for name, _ in list(vault.index.packs())[:packs]:
            writer.add_reserved(name)
        writer.flush()

    report = history.prune(AS_IT_IS)

    assert larger in history.names(ObjectKind.INDEX)
    assert report.replaced_index_files >= 1
    assert history.problems() == []
    assert history.is_whole()
    assert history.prune(AS_IT_IS).replaced_index_files == 0


def test_that_a_running_backup_lists_again_what_it_has_reserved_is_no_refusal() -> None:
    history = History()
    history.backup({"all": range(20)})
    with history.opened(Purpose.BACKUP) as vault:
        writer = IndexWriter(vault.index, vault)
        (name, *_), *_ = vault.index.packs()
        vault.session.reserve([name])
        writer.add_reserved(name)
        writer.flush()
        report = history.prune(AS_IT_IS)
    assert report.refused.count == 0
    assert (report.replaced_index_files, report.new_index_files) == (0, 0)
    assert history.prune(AS_IT_IS).replaced_index_files == 1
    assert history.problems() == []


class Full(SessionAround):
    """A store that takes so many more objects of a kind."""

    def __init__(self, session: StoreSession, kind: ObjectKind, more: int = 0) -> None:
        super().__init__(session)
        self._kind = kind
        self._more = more

    def put(self, name: ObjectName, body: Buffer, packs: Sequence[ObjectName] = ()) -> bool:
        if name.kind is self._kind:
            self._more -= 1
            if self._more < 0:
                raise StoreFull(place="memory", detail="no space is left")
        return super().put(name, body, packs)


def test_where_there_is_no_room_to_repack_all_else_goes_and_what_was_stored_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("client.vault.packs.MAX_BLOBS", 3)
    whole = a_thinned_history()
    whole.backup({"none": range(200, 205)}, steps=1)
    for more in (0, 1, 2, 3, 1000):
        history = copied(whole)
        report = history.prune(around=lambda session, more=more: Full(session, ObjectKind.PACK, more))  # type: ignore[misc]
        assert (report.unmoved_packs > 0) == ("no space is left" in report.full) == (report.new_packs == more)
        assert (report.left.blobs > 0) == (report.unmoved_packs > 0)
        assert report.unlisted_packs == 3
        assert history.problems(errors=True) == []
        assert history.is_whole()

        assert history.prune().unmoved_packs == 0
        assert history.problems() == []
        assert history.blobs() == history.needed()


def test_where_there_is_no_room_for_an_index_file_what_needs_none_goes() -> None:
    history = a_history()
    useless = history.backup({"gone": range(300, 320)})
    history.backup({"none": range(200, 205)}, steps=1)
    assert useless is not None
    history.forget(useless)
    before = {kind: history.names(kind) for kind in (ObjectKind.INDEX, ObjectKind.PACK)}

    with pytest.raises(NoRoomForIndex, match=r"free at least [0-9]+ bytes there"):
        history.prune(PruneLimits(repack_bytes=0), lambda session: Full(session, ObjectKind.INDEX))

    assert len(before[ObjectKind.INDEX] - history.names(ObjectKind.INDEX)) == 1
    assert len(before[ObjectKind.PACK] - history.names(ObjectKind.PACK)) >= 7  # of data 5, of trees 1, and in no index
    assert history.problems(errors=True) == []
    assert history.is_whole()

    # What another one has repacked in vain goes first in the session after it.
    before[ObjectKind.PACK] = history.names(ObjectKind.PACK)
    with pytest.raises(NoRoomForIndex):
        history.prune(around=lambda session: Full(session, ObjectKind.INDEX))
    in_vain = history.names(ObjectKind.PACK) - before[ObjectKind.PACK]
    assert in_vain
    history.prune(PruneLimits(repack_bytes=0))
    assert not in_vain & history.names(ObjectKind.PACK)
    assert history.is_whole()
    history.prune()
    assert history.blobs() == history.needed()


def test_limits_that_make_no_sense_are_refused() -> None:
    for wrong in ({"unused_share": 1.0}, {"unused_share": -0.1}, {"unused_bytes": -1}, {"repack_bytes": -1}):
        with pytest.raises(ValueError, match="not possible"):
            PruneLimits(**wrong)


@pytest.mark.parametrize("vaults", [1, 2, 3, 4])
@pytest.mark.parametrize("blob", [100, 1 << 20])
def test_no_pack_that_is_full_counts_as_small_however_many_vaults_are_filled_at_once(vaults: int, blob: int) -> None:
    builder = PackBuilder(DataKeys.random(), BlobKind.DATA, share=vaults)
    for number in count():
        if builder.is_full:
            break
        builder.move(PackEntry(number.to_bytes(32), BlobKind.DATA, 0, blob, 0), bytes(blob))
    assert len(builder) >= choice._FEW_BLOBS or builder.size >= SMALL_PACK
