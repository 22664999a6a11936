"""One backup to several vaults: what is read once is in each, and what fails in one is that one's affair."""

import errno
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakSet

import pytest

from client.backup import destinations, packing, read, small_files, worker
from client.backup.programs import ProgramOutput
from client.backup.regular import open_regular
from client.backup.request import BackupSummary, NoProgress
from client.errors import OortError, SessionOver, StoreFull
from client.restore.compare import differences
from client.stores.abc import Buffer, StoreSession
from client.testing.faults import FailingPut, GonePacks, SessionAround, Stuck, Watched
from client.testing.files import random_bytes
from client.testing.threads import none_left
from client.testing.vaults import VaultForTests, a_vault, backup_to_several, summary_of
from client.vault import sealing
from client.vault.blobs import BlobKind
from client.vault.packs import PackBuilder
from domain.names import ObjectKind, ObjectName

_MIB = 1 << 20
_FOLDERS_ABOVE = 4096  # bytes at most of their trees: others may change the times of /tmp meanwhile
FULL = StoreFull(place="the disk", detail="no space left on device")


@pytest.fixture
def vaults(tmp_path: Path) -> list[VaultForTests]:
    return [a_vault(tmp_path / name, cache=tmp_path / "cache") for name in ("first", "second")]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A large file and some small ones, in folders; several packs of each vault."""
    folder = tmp_path / "source"
    for number in range(4):
        (folder / f"folder {number}").mkdir(parents=True)
        (folder / f"folder {number}" / "large").write_bytes(random_bytes(9 * _MIB, number))
        for small in range(5):
            (folder / f"folder {number}" / f"small {small}").write_bytes(random_bytes(20_000, 10 * number + small))
    return folder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The small files that a backup opens."""
    paths: list[bytes] = []

    def watched(path: bytes, owner: int) -> object:
        paths.append(path)
        return open_regular(path, owner)

    monkeypatch.setattr(small_files, "open_regular", watched)
    return paths


def assert_whole(vault: VaultForTests, source: Path, target: Path) -> None:
    """The vault checks clean, and its latest snapshot is the source."""
    assert vault.errors() == []
    assert vault.restore(target).damaged == ()
    assert not list(differences(source, target / source.relative_to("/")))


def snapshot_of(outcome: BackupSummary | OortError) -> ObjectName:
    return summary_of(outcome).snapshot


def test_each_file_is_read_once_and_is_whole_in_every_vault(
    vaults: list[VaultForTests], source: Path, tmp_path: Path, opened: list[bytes]
) -> None:
    with none_left():
        outcomes = backup_to_several(vaults, source)

    assert len(opened) == len(set(opened)) == 20
    first, second = map(summary_of, outcomes)
    assert first.tree == second.tree
    assert first.new_bytes == second.new_bytes > 36 * _MIB
    names = [{path.name for path in vault.objects(ObjectKind.PACK)} for vault in vaults]
    assert not names[0] & names[1]  # sealed with keys of their own
    for vault in vaults:
        assert_whole(vault, source, tmp_path / f"of {vault.path.name}")


def test_a_second_vault_has_nothing_opened_hashed_or_compressed_once_more(
    vaults: list[VaultForTests], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All within this process: there is too little to do for others to be started."""
    done: list[str] = []

    def watch(module: ModuleType, name: str, amount: Callable[..., int]) -> None:
        genuine = getattr(module, name)

        def watched(*arguments: Any) -> Any:
            done.extend([name] * amount(*arguments))
            return genuine(*arguments)

        monkeypatch.setattr(module, name, watched)

    monkeypatch.setattr(destinations, "chunker_seed", lambda _: 1)  # so that all vaults get as many chunks
    for module in (small_files, read):
        watch(module, "open_regular", lambda *_: 1)
    for module in (small_files, worker):
        watch(module, "blob_id", lambda _: 1)
    watch(sealing, "_compress", lambda plaintexts, _: len(plaintexts))

    summary_of(backup_to_several([a_vault(tmp_path / "alone")], source)[0])
    one = Counter(done)
    done.clear()
    for outcome in backup_to_several(vaults, source):
        summary_of(outcome)

    assert Counter(done) == one
    assert one["open_regular"] == 24
    assert one["_compress"] > one["blob_id"] > 24  # trees too


def test_what_every_vault_has_is_not_read_and_what_one_lacks_is_stored_in_that_one_alone(
    vaults: list[VaultForTests], source: Path, tmp_path: Path, opened: list[bytes]
) -> None:
    parents = [*map(snapshot_of, backup_to_several(vaults, source))]
    (source / "folder 1" / "small 0").write_bytes(b"in the first alone, so far")
    parents[0] = vaults[0].backup(source, parent=parents[0]).snapshot
    opened.clear()

    (source / "folder 2" / "small 0").write_bytes(b"in none")
    first, second = map(summary_of, backup_to_several(vaults, source, parents=parents))

    assert [path.split(b"/")[-2:] for path in opened] == [[b"folder 1", b"small 0"], [b"folder 2", b"small 0"]]
    assert (first.files_changed, first.files_unmodified) == (1, 23)
    assert 0 < first.new_bytes < second.new_bytes < 20_000  # trees of more folders
    for vault in vaults:
        assert_whole(vault, source, tmp_path / f"of {vault.path.name}")

    opened.clear()
    again = backup_to_several(vaults, source, parents=[first.snapshot, second.snapshot])
    assert max(summary_of(one).new_bytes for one in again) < _FOLDERS_ABOVE
    assert opened == []


def test_a_vault_that_is_new_gets_all_and_the_other_nothing_again(
    vaults: list[VaultForTests], source: Path, tmp_path: Path
) -> None:
    parent = vaults[0].backup(source).snapshot

    first, second = map(summary_of, backup_to_several(vaults, source, parents=[parent, None]))

    assert (first.new_bytes < _FOLDERS_ABOVE, first.parent) == (True, parent)
    for summary in (first, second):  # all are read, but for a vault that lacks them
        assert (summary.files_new, summary.files_changed, summary.files_unmodified) == (0, 0, 24)
    assert (second.new_bytes > 36 * _MIB, second.parent) == (True, None)
    for vault in vaults:
        assert_whole(vault, source, tmp_path / f"of {vault.path.name}")


class FailingCommit(SessionAround):
    def commit(self, snapshot: ObjectName, body: Buffer) -> None:  # noqa: ARG002 - the protocol's
        raise FULL


class FailingClose(SessionAround):
    def close(self) -> None:
        raise FULL


class FailingRead(SessionAround):
    """Nothing is read any more once a pack was asked for."""

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        if name.kind is ObjectKind.PACK:
            raise SessionOver(place="the node")
        return super().get(name, offset, length)


class FailingWhileStuck(Stuck):
    """One put hangs until the session is closed; the next one fails."""

    def put(self, name: ObjectName, body: Buffer, packs: Sequence[ObjectName] = ()) -> bool:
        if self.waiting.is_set():
            raise FULL
        return super().put(name, body, packs)


Around = Callable[[StoreSession], StoreSession]
FAULTS: dict[str, Around] = {
    "a pack at once": lambda session: FailingPut(session, ObjectKind.PACK, 1, FULL),
    "a pack in the middle": lambda session: FailingPut(session, ObjectKind.PACK, 3, SessionOver(place="the node")),
    "an index file": lambda session: FailingPut(session, ObjectKind.INDEX, 1, FULL),
    "the snapshot": FailingCommit,
    "a pack, while another hangs": lambda session: FailingWhileStuck(session, SessionOver(place="the node")),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("failing", [0, 1])
def test_one_that_fails_leaves_the_other_complete(
    vaults: list[VaultForTests], source: Path, tmp_path: Path, fault: str, failing: int
) -> None:
    around: list[Around | None] = [None, None]
    around[failing] = FAULTS[fault]

    with none_left():
        outcomes = backup_to_several(vaults, source, around=around)

    assert isinstance(outcomes[failing], StoreFull | SessionOver)
    assert vaults[failing].objects(ObjectKind.SNAPSHOT) == []
    assert_whole(vaults[1 - failing], source, tmp_path / "target")
    parents = [None if one is outcomes[failing] else snapshot_of(one) for one in outcomes]
    assert all(isinstance(one, BackupSummary) for one in backup_to_several(vaults, source, parents=parents))
    assert_whole(vaults[failing], source, tmp_path / "target of the other")


@pytest.mark.parametrize("failing", [0, 1])
def test_one_whose_parent_cannot_be_read_leaves_the_other_complete(
    vaults: list[VaultForTests], source: Path, tmp_path: Path, failing: int
) -> None:
    parents = [snapshot_of(one) for one in backup_to_several(vaults, source)]
    (source / "folder 1" / "small 0").write_bytes(b"another")
    around: list[Around | None] = [None, None]
    around[failing] = FailingRead

    with none_left():
        outcomes = backup_to_several(vaults, source, parents=parents, around=around)

    other = summary_of(outcomes[1 - failing])
    assert (other.files_changed, other.files_unmodified) == (1, 23)
    assert_whole(vaults[1 - failing], source, tmp_path / "target")
    if failing == 0:  # whose parent it is that all are compared with
        assert isinstance(outcomes[0], SessionOver)


def test_when_every_vault_fails_each_says_why(vaults: list[VaultForTests], source: Path) -> None:
    around = [FAULTS["a pack in the middle"], FAULTS["an index file"]]
    with none_left():
        outcomes = backup_to_several(vaults, source, around=around)
    assert [type(one) for one in outcomes] == [SessionOver, StoreFull]
    assert [vault.objects(ObjectKind.SNAPSHOT) for vault in vaults] == [[], []]


def test_an_interruption_in_a_thread_of_one_vault_ends_all(vaults: list[VaultForTests], source: Path) -> None:
    def interrupted(session: StoreSession) -> StoreSession:
        return FailingPut(session, ObjectKind.PACK, 2, KeyboardInterrupt())

    with none_left(), pytest.raises(KeyboardInterrupt):
        backup_to_several(vaults, source, around=[None, interrupted])
    assert [vault.objects(ObjectKind.SNAPSHOT) for vault in vaults] == [[], []]


def test_a_session_that_cannot_be_closed_leaves_no_thread_of_another_vault_that_hangs(
    vaults: list[VaultForTests], source: Path
) -> None:
    stuck: list[Stuck] = []

    def interrupted(session: StoreSession) -> StoreSession:
        return FailingClose(FailingPut(session, ObjectKind.PACK, 2, KeyboardInterrupt()))

    def hanging(session: StoreSession) -> StoreSession:
        stuck.append(Stuck(session, SessionOver(place="the node")))
        return stuck[0]

    try:
        with none_left(), pytest.raises(KeyboardInterrupt):
            backup_to_several(vaults, source, around=[interrupted, hanging])
    finally:
        stuck[0].close()


def test_a_vault_that_fails_is_told_when_it_does(vaults: list[VaultForTests], source: Path) -> None:
    class Hearing(NoProgress):
        def __init__(self) -> None:
            self.failures: list[tuple[int, OortError]] = []
            self.snapshots: list[tuple[int, ObjectName]] = []
            self.heard = threading.Event()

        def failed(self, vault: int, error: OortError) -> None:
            self.failures.append((vault, error))
            self.heard.set()

        def committed(self, vault: int, snapshot: ObjectName) -> None:
            self.snapshots.append((vault, snapshot))

    hearing = Hearing()
    waits: list[bool] = []

    class Waiting(SessionAround):
        def commit(self, snapshot: ObjectName, body: Buffer) -> None:
            waits.append(hearing.heard.wait(60))
            super().commit(snapshot, body)

    outcomes = backup_to_several(vaults, source, around=[FAULTS["a pack at once"], Waiting], progress=hearing)

    assert (waits, hearing.failures) == ([True], [(0, FULL)])
    assert hearing.snapshots == [(1, snapshot_of(outcomes[1]))]


@pytest.mark.parametrize("fault", ["a pack in the middle", "an index file", "a pack, while another hangs"])
@pytest.mark.parametrize("failing", [0, 1])
def test_what_is_held_for_one_that_fails_is_given_up_while_the_other_goes_on(
    vaults: list[VaultForTests], source: Path, monkeypatch: pytest.MonkeyPatch, fault: str, failing: int
) -> None:
    builders: WeakSet[PackBuilder] = WeakSet()

    class Seen(PackBuilder):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            builders.add(self)

    monkeypatch.setattr(packing, "PackBuilder", Seen)
    given_up = threading.Event()
    held: list[list[int]] = []
    sessions: list[StoreSession] = []

    def give_up(session: StoreSession) -> None:
        sessions.append(session)
        given_up.set()

    class Waiting(SessionAround):
        def commit(self, snapshot: ObjectName, body: Buffer) -> None:
            assert given_up.wait(60)
            held.append([builder.size for builder in builders if builder.size])
            super().commit(snapshot, body)

    around: list[Around] = [Waiting, Waiting]
    around[failing] = FAULTS[fault]
    with none_left():
        outcomes = backup_to_several(vaults, source, around=around, give_up=give_up)

    assert isinstance(outcomes[1 - failing], BackupSummary)
    assert held == [[]]
    assert len(sessions) == 1
    assert not isinstance(sessions[0], Waiting)


def test_one_whose_store_hangs_when_the_others_are_done_is_woken(vaults: list[VaultForTests], source: Path) -> None:
    """Here it is the removal of its lock that does not end."""
    closed = threading.Event()

    class Hanging(FailingPut):
        def close(self) -> None:
            closed.set()
            super().close()

    def give_up(_: StoreSession) -> None:
        assert closed.wait(60)

    def failing(session: StoreSession) -> StoreSession:
        return Hanging(session, ObjectKind.PACK, 1, FULL)

    with none_left():
        outcomes = backup_to_several(vaults, source, around=[None, failing], give_up=give_up)
    assert isinstance(outcomes[0], BackupSummary)
    assert outcomes[1] is FULL


def test_what_fails_when_the_others_are_done_is_given_up_before_the_backup_ends(
    vaults: list[VaultForTests], source: Path
) -> None:
    sessions: list[StoreSession] = []
    outcomes = backup_to_several(vaults, source, around=[None, FailingCommit], give_up=sessions.append)
    assert isinstance(outcomes[1], StoreFull)
    assert len(sessions) == 1


def test_what_goes_wrong_in_tidying_up_after_one_is_told_and_leaves_the_other_complete(
    vaults: list[VaultForTests], source: Path, tmp_path: Path
) -> None:
    notes: list[str] = []

    class Hearing(NoProgress):
        def noted(self, text: str) -> None:
            notes.append(text)

    def give_up(_: StoreSession) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with none_left():
        around = [None, FAULTS["a pack at once"]]
        outcomes = backup_to_several(vaults, source, around=around, give_up=give_up, progress=Hearing())

    assert outcomes[1] is FULL
    assert any("Input/output error" in note for note in notes)
    assert_whole(vaults[0], source, tmp_path / "target")


def test_a_backup_that_is_interrupted_gives_up_its_vaults_itself(vaults: list[VaultForTests], source: Path) -> None:
    def interrupted(session: StoreSession) -> StoreSession:
        return FailingPut(session, ObjectKind.PACK, 2, KeyboardInterrupt())

    sessions: list[StoreSession] = []
    with none_left(), pytest.raises(KeyboardInterrupt):
        backup_to_several(vaults, source, around=[None, interrupted], give_up=sessions.append)
    assert sessions == []


@pytest.mark.parametrize("damaged", [0, 1])
def test_what_one_vault_has_lost_is_stored_there_again(
    vaults: list[VaultForTests], source: Path, tmp_path: Path, damaged: int
) -> None:
    parents = [snapshot_of(one) for one in backup_to_several(vaults, source)]
    with vaults[damaged].opened() as vault:
        trees = {pack for pack, entries in vault.index.packs() if entries[0].kind is BlobKind.TREE}
    for pack in trees:
        (vaults[damaged].path / pack.path).unlink()

    outcomes = backup_to_several(vaults, source, parents=parents)

    assert summary_of(outcomes[1 - damaged]).new_bytes < _FOLDERS_ABOVE
    assert summary_of(outcomes[damaged]).new_bytes > 0
    for outcome, stored in zip(outcomes, vaults, strict=True):
        target = tmp_path / f"of {stored.path.name}"
        assert stored.restore(target, snapshot_of(outcome).id).damaged == ()
        assert not list(differences(source, target / source.relative_to("/")))


def test_what_no_parent_of_a_vault_pins_is_reserved_there_and_stored_again_if_it_is_gone(
    vaults: list[VaultForTests], source: Path
) -> None:
    """The second vault has all blobs, and a parent that is another tree: a prune might take them meanwhile."""
    parents = [snapshot_of(one) for one in backup_to_several(vaults, source)]
    (source / "folder 1" / "small 0").write_bytes(b"another")
    parents[0] = vaults[0].backup(source, parent=parents[0]).snapshot
    packs = {path.name for path in vaults[1].objects(ObjectKind.PACK)}
    watched: list[Watched] = []

    def all_gone(session: StoreSession) -> StoreSession:
        watched.append(Watched(GonePacks(session, lambda _: True)))
        return watched[0]

    outcomes = backup_to_several(vaults, source, parents=parents, around=[None, all_gone], locked=False)

    assert {name.id for name in watched[0].reserved} == packs
    assert summary_of(outcomes[0]).new_bytes < _FOLDERS_ABOVE
    assert summary_of(outcomes[1]).new_bytes > 36 * _MIB
    for path in vaults[1].objects(ObjectKind.PACK):
        if path.name in packs:
            path.unlink()
    assert vaults[1].restore(source.parent / "target", snapshot_of(outcomes[1]).id).damaged == ()


def test_a_stream_comes_once_for_all(vaults: list[VaultForTests], tmp_path: Path) -> None:
    program = ProgramOutput(["sh", "-c", "head -c 20000000 /dev/zero; echo the end"])
    around = [FAULTS["a pack at once"], None]
    outcomes = backup_to_several(vaults, "/dump", stream=program, around=around)
    assert isinstance(outcomes[0], StoreFull)
    assert vaults[1].restore(tmp_path / "target").damaged == ()
    assert (tmp_path / "target" / "dump").read_bytes() == bytes(20_000_000) + b"the end\n"


def test_vaults_of_both_versions_hold_the_same(tmp_path: Path, source: Path) -> None:
    """A repository of version 1 knows no compression."""
    (source / "text").write_bytes(b"much the same, " * 500_000)
    vaults = [a_vault(tmp_path / str(number), version=version) for number, version in enumerate((1, 2, 1))]
    stored = [summary_of(one).stored_bytes for one in backup_to_several(vaults, source)]
    assert stored[0] == stored[2] > stored[1] + 6 * _MIB
    for vault in vaults:
        assert_whole(vault, source, tmp_path / f"of {vault.path.name}")
