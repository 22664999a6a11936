import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from client import interrupts
from client.account import jobs, opening
from client.account.adding import add_local
from client.account.backup_run import BackupOptions, choose_parent, run_backup
from client.account.device import Device
from client.account.items import STREAM_ENGINE, Items
from client.account.job_record import JobRecord, JobShelf, keep_or_skip
from client.account.jobs import read_log
from client.account.restore_run import RestoreOrder, RestoreResult, RestoreView, run_restore
from client.account.tests.an_auth import Office
from client.account.vaults import Vaults
from client.backup import scan
from client.backup.programs import ProgramOutput
from client.backup.request import BackupRequest, Tally
from client.errors import (
    DamagedVault,
    NoSuchSnapshot,
    OortError,
    QuotaExceeded,
    SessionOver,
    StoreError,
    StreamIncomplete,
    UsageError,
)
from client.platforms import nodes
from client.restore.compare import differences
from client.restore.request import RestoreOptions, RestoreTally, Step
from client.stores.abc import Buffer
from client.stores.tests.memory import MemorySession, MemoryStore
from client.vault.locks import LockLost, VaultLock
from client.vault.nodes import Node
from client.vault.snapshots import DEVICE_TAG, ITEM_TAG, Snapshot
from client.vault.tests.builders import put_raw
from domain.jobs import JobStatus
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose


@dataclass
class View:
    warnings: list[tuple[bytes, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failures: list[tuple[str, OortError]] = field(default_factory=list)
    steps: list[Tally | RestoreTally] = field(default_factory=list)
    index_files: list[tuple[int, int]] = field(default_factory=list)

    def index_read(self, done: int, total: int) -> None:
        self.index_files.append((done, total))

    def advanced(self, tally: Tally | RestoreTally) -> None:
        self.steps.append(tally)

    def warned(self, path: bytes, reason: str) -> None:
        self.warnings.append((path, reason))

    def damaged(self, path: bytes, reason: str) -> None:
        self.warnings.append((path, reason))

    def noted(self, text: str) -> None:
        self.notes.append(text)

    def failed(self, vault: str, error: OortError) -> None:
        self.failures.append((vault, error))

    def would(self, step: Step, path: bytes) -> None:
        self.warnings.append((path, step))


@dataclass
class FaultyStore(MemoryStore):
    """Raises what it is given, one a put of a pack; ends sessions that have answered so many reads; tells of losses."""

    faults: list[Exception] = field(default_factory=list)
    reads: list[int] = field(default_factory=list)
    lost: frozenset[ObjectName] = frozenset()
    has_more_lost: bool = False
    got: set[ObjectName] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def open(self, purpose: Purpose, parent: ObjectName | None = None) -> "FaultySession":
        super().open(purpose, parent)
        return FaultySession(self, purpose)


class FaultySession(MemorySession):
    store: FaultyStore

    def __init__(self, store: "FaultyStore", purpose: Purpose) -> None:
        super().__init__(store, purpose)
        self._left = store.reads.pop(0) if store.reads else 1 << 30
        self.lost, self.has_more_lost = store.lost, store.has_more_lost

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        with self.store.lock:
            self._left -= 1
            self.store.got.add(name)
        if self._left < 0:
            raise SessionOver(place="memory")
        return super().get(name, offset, length)

    def put(self, name: ObjectName, body: Buffer, packs: tuple[ObjectName, ...] = ()) -> bool:  # type: ignore[override]
        if name.kind is ObjectKind.PACK:
            with self.store.lock:  # two packs may be stored at the same time
                fault = self.store.faults.pop() if self.store.faults else None
            if fault is not None:
                raise fault
        return super().put(name, body, packs)


@pytest.fixture
def device(office: Office) -> Iterator[Device]:
    with Device(office.logged_in()) as device:
        yield device


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear reader")
    return folder


@pytest.fixture
def store(device: Device, monkeypatch: pytest.MonkeyPatch) -> FaultyStore:
    """A requested vault named `main` whose bucket lies in memory."""
    store = FaultyStore()
    Vaults(device).request("main", "default")
    monkeypatch.setattr(opening, "_store", lambda *_arguments: store)
    return store


def last_status(office: Office) -> int:
    return list(office.auth.jobs.values())[-1].status


@pytest.mark.usefixtures("store")
def test_a_backup_is_a_job_and_its_snapshot_names_item_and_device(
    office: Office, device: Device, source: Path, tmp_path: Path
) -> None:
    result = run_backup(device, ["main"], [os.fsencode(source)], View())
    assert result.untold is None
    job = office.auth.jobs[result.job]
    assert (job.status, job.snapshot) == (JobStatus.SUCCESS, result.summary.snapshot.id)
    assert job.counts.uploaded_bytes == result.summary.uploaded_bytes
    again = run_backup(device, ["main"], [os.fsencode(source)], View())
    assert again.summary.parent == result.summary.snapshot
    assert again.summary.files_unmodified == 1
    restored = run_restore_of(device, "main", "latest", tmp_path / "target", View())
    assert f"{ITEM_TAG}{job.item_id}" in restored.snapshot.tags
    assert restored.snapshot.device == device.id
    below = tmp_path / "target" / str(source).lstrip("/") / "letter.txt"
    assert below.read_text() == "dear reader"
    assert office.auth.jobs[restored.job].status == JobStatus.SUCCESS


def run_restore_of(device: Device, vault: str, snapshot: str, target: Path, view: RestoreView) -> RestoreResult:
    return run_restore(device, vault, RestoreOrder(snapshot, target, RestoreOptions()), view, lambda _: None)


def test_a_path_that_does_not_exist_is_refused_before_anything_is_made(
    office: Office, device: Device, store: FaultyStore, tmp_path: Path
) -> None:
    with pytest.raises(UsageError):
        run_backup(device, ["main"], [os.fsencode(tmp_path / "none")], View())
    assert (office.auth.jobs, office.auth.items, store.objects) == ({}, {}, {})


def test_a_session_that_the_node_ended_is_followed_by_a_new_one(
    office: Office, device: Device, store: FaultyStore, source: Path
) -> None:
    store.faults = [SessionOver(place="memory")]
    result = run_backup(device, ["main"], [os.fsencode(source)], View())
    assert last_status(office) == JobStatus.SUCCESS
    assert ObjectName(ObjectKind.SNAPSHOT, result.summary.snapshot.id) in store.objects
    assert any("ended this session" in text for _, text in read_log(device, result.job))


def test_packs_that_are_told_as_lost_are_stored_again_and_not_read_before(
    device: Device, store: FaultyStore, source: Path, tmp_path: Path
) -> None:
    run_backup(device, ["main"], [os.fsencode(source)], View())
    store.lost = frozenset(name for name in store.objects if name.kind is ObjectKind.PACK)
    store.got.clear()
    again = run_backup(device, ["main"], [os.fsencode(source)], View())
    assert (again.summary.warnings, store.got & store.lost) == ((), set())
    for name in store.lost:
        del store.objects[name]
    restored = run_restore_of(device, "main", "latest", tmp_path / "target", View())
    assert (restored.summary.files, restored.summary.lost) == (1, 0)


def test_where_more_packs_are_lost_than_are_told_each_is_reserved_and_those_gone_are_stored_again(
    device: Device, store: FaultyStore, source: Path, tmp_path: Path
) -> None:
    run_backup(device, ["main"], [os.fsencode(source)], View())
    store.has_more_lost = True
    for number, name in enumerate([name for name in store.objects if name.kind is ObjectKind.PACK]):
        del store.objects[name]
        run_backup(device, ["main"], [os.fsencode(source)], View())
        restored = run_restore_of(device, "main", "latest", tmp_path / str(number), View())
        assert (restored.summary.files, restored.summary.lost) == (1, 0)


def test_sessions_that_end_again_and_again_end_the_backup(
    office: Office, device: Device, store: FaultyStore, source: Path
) -> None:
    store.faults = [SessionOver(place="memory") for _ in range(20)]
    with pytest.raises(SessionOver):
        run_backup(device, ["main"], [os.fsencode(source)], View())
    assert last_status(office) == JobStatus.ERROR


@pytest.mark.usefixtures("store")
def test_what_the_snapshot_does_not_depend_on_is_in_the_log_and_shown_and_is_no_warning(
    office: Office, device: Device, source: Path
) -> None:
    run_backup(device, ["main"], [os.fsencode(source)], View())
    (memo,) = device.home.folder.rglob("*.folders")
    shutil.rmtree(memo)
    memo.touch()
    view = View()

    result = run_backup(device, ["main"], [os.fsencode(source)], view)

    assert last_status(office) == JobStatus.SUCCESS
    (note,) = view.notes
    assert "File exists" in note
    assert note in [text for _, text in read_log(device, result.job)]


def test_what_a_program_complains_of_is_in_the_sealed_log_and_shown(
    office: Office, device: Device, store: FaultyStore
) -> None:
    program = ProgramOutput(["sh", "-c", "echo data; echo careful >&2"])
    view = View()
    result = run_backup(device, ["main"], [b"/dump"], view, BackupOptions(stream=program))
    assert last_status(office) == JobStatus.WARNING
    assert (b"/dump", "sh: careful") in view.warnings
    assert "/dump: sh: careful" in [text for _, text in read_log(device, result.job)]
    again = run_backup(device, ["main"], [b"/dump"], View(), BackupOptions(stream=program))
    assert again.summary.parent == result.summary.snapshot
    items = {office.auth.jobs[job.job].item_id for job in (result, again)}
    assert len(items) == 1
    failing = BackupOptions(stream=ProgramOutput(["sh", "-c", "echo half of it; exit 3"]))
    with pytest.raises(StreamIncomplete):
        run_backup(device, ["main"], [b"/dump"], View(), failing)
    assert last_status(office) == JobStatus.ERROR
    assert sum(name.kind is ObjectKind.SNAPSHOT for name in store.objects) == 2


def test_a_stream_is_not_read_again_in_another_session(office: Office, device: Device, store: FaultyStore) -> None:
    store.faults = [SessionOver(place="memory")]
    program = ProgramOutput(["sh", "-c", "echo data"])
    with pytest.raises(SessionOver):
        run_backup(device, ["main"], [b"/dump"], View(), BackupOptions(stream=program))
    assert last_status(office) == JobStatus.ERROR


def test_a_stream_and_a_file_of_one_name_are_different_items(device: Device, source: Path) -> None:
    items = Items(device)
    assert items.of_paths([str(source)]) == items.of_paths([str(source)])
    assert items.of_paths([str(source)], STREAM_ENGINE) not in ("", items.of_paths([str(source)]))


@pytest.mark.parametrize("reads", [[0], [3], [5], [6], [7], [8, 2, 2], [9, 4]])
def test_a_restore_goes_on_in_another_session_when_its_own_was_ended(  # noqa: PLR0917 - fixtures
    office: Office, device: Device, store: FaultyStore, source: Path, tmp_path: Path, reads: list[int]
) -> None:
    for number in range(6):
        (source / f"large {number}").write_bytes(os.urandom(5 << 20))
    run_backup(device, ["main"], [os.fsencode(source)], View())
    store.reads = reads
    view = View()
    result = run_restore_of(device, "main", "latest", tmp_path / "target", view)
    assert store.reads == []
    assert (result.summary.exit_code, view.warnings) == (0, [])
    assert last_status(office) == JobStatus.SUCCESS
    assert not list(differences(source, tmp_path / "target" / source.relative_to("/")))


def test_a_backup_whose_lock_is_lost_stops_before_its_snapshot(
    office: Office, device: Device, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_local(device, "usb", tmp_path / "vault", None)

    def slept(lock: VaultLock) -> None:
        lock.lost.set()
        genuine(lock)

    genuine = VaultLock.ensure_held
    monkeypatch.setattr(VaultLock, "ensure_held", slept)
    with pytest.raises(LockLost, match="Run it again"):
        run_backup(device, ["usb"], [os.fsencode(source)], View())
    assert last_status(office) == JobStatus.ERROR
    assert list((tmp_path / "vault" / "snapshots").iterdir()) == []
    assert list((tmp_path / "vault" / "locks").iterdir()) == []
    monkeypatch.undo()
    run_backup(device, ["usb"], [os.fsencode(source)], View())


@pytest.mark.parametrize("reads", [0, 1, 4])
def test_a_backup_whose_first_look_is_ended_looks_again(
    office: Office, device: Device, store: FaultyStore, source: Path, reads: int
) -> None:
    first = run_backup(device, ["main"], [os.fsencode(source)], View())
    store.reads = [reads, 1]
    second = run_backup(device, ["main"], [os.fsencode(source)], View())
    assert second.summary.parent == first.summary.snapshot
    assert last_status(office) == JobStatus.SUCCESS


@pytest.fixture
def still_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every folder stays as it is seen first: those above the source are changed by other programs."""
    seen: dict[bytes | int, Node] = {}

    def read_once(name: bytes, at: bytes | int, found: os.stat_result) -> Node:
        return seen.setdefault(at, nodes.read_node(name, at, found))

    monkeypatch.setattr(scan, "read_node", read_once)


@pytest.mark.usefixtures("still_folders")
def test_an_unreadable_index_file_or_snapshot_is_a_warning_and_what_it_listed_is_stored_again(
    office: Office, device: Device, store: FaultyStore, source: Path, tmp_path: Path
) -> None:
    (source / "large").write_bytes(os.urandom(3 << 20))
    first = run_backup(device, ["main"], [os.fsencode(source)], View())
    shutil.rmtree(device.home.folder / "vaults")  # what was read once needs not be read again
    broken = [name for name in store.objects if name.kind is ObjectKind.INDEX]
    broken.append(put_raw(store, ObjectKind.SNAPSHOT, b"rubbish" * 20))
    store.objects[broken[0]] = bytes(byte ^ 1 for byte in store.objects[broken[0]])
    view = View()
    second = run_backup(device, ["main"], [os.fsencode(source)], view)
    assert {path.decode() for path, _ in view.warnings} == set(map(str, broken))
    assert {found.path.decode() for found in second.summary.warnings} == set(map(str, broken))
    assert last_status(office) == JobStatus.WARNING
    assert second.summary.new_bytes > 3 << 20
    restored = View()
    result = run_restore_of(device, "main", second.summary.snapshot.id, tmp_path / "target", restored)
    assert result.summary.exit_code == 0
    assert {path.decode() for path, _ in restored.warnings} == set(map(str, broken))
    with pytest.raises(DamagedVault):
        run_restore_of(device, "main", broken[-1].id[:10], tmp_path / "other", View())
    again = run_restore_of(device, "main", first.summary.snapshot.id, tmp_path / "first", View()).summary
    assert (again.files, again.lost) == (2, 0)
    assert not list(differences(source, tmp_path / "first" / source.relative_to("/")))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StoreError(place="memory", detail="broken"), JobStatus.ERROR),
        (QuotaExceeded(place="memory", detail="full"), JobStatus.QUOTA_EXCEEDED),
    ],
)
def test_what_cannot_be_stored_makes_the_job_an_error_and_no_snapshot(  # noqa: PLR0917 - fixtures
    office: Office, device: Device, store: FaultyStore, source: Path, error: StoreError, status: JobStatus
) -> None:
    store.faults = [error]
    with pytest.raises(type(error)):
        run_backup(device, ["main"], [os.fsencode(source)], View())
    assert last_status(office) == status
    assert not [name for name in store.objects if name.kind is ObjectKind.SNAPSHOT]


def test_a_local_vault_needs_no_auth(office: Office, device: Device, source: Path, tmp_path: Path) -> None:
    add_local(device, "usb", tmp_path / "vault", None)
    first = run_backup(device, ["usb"], [os.fsencode(source)], View())
    office.auth.is_down = True
    with Device(device.home) as offline:
        second = run_backup(offline, ["usb"], [os.fsencode(source)], View())
    assert second.untold is not None
    assert second.summary.parent == first.summary.snapshot
    office.auth.is_down = False
    with Device(device.home) as later:
        run_backup(later, ["usb"], [os.fsencode(source)], View())
    assert office.auth.jobs[second.job].status == JobStatus.SUCCESS
    assert list((tmp_path / "vault" / "locks").iterdir()) == []
    assert len({job.item_id for job in office.auth.jobs.values()}) == 1


@pytest.mark.usefixtures("office")
def test_a_backup_holds_neither_its_own_vault_nor_the_caches(device: Device, source: Path, tmp_path: Path) -> None:
    add_local(device, "usb", source / "vault", None)
    home = device.home.folder
    paths = [os.fsencode(source), os.fsencode(home)]
    for _ in range(2):
        run_backup(device, ["usb"], paths, View())
    assert (home / "vaults" / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55")

    run_restore_of(device, "usb", "latest", tmp_path / "target", View())

    restored = tmp_path / "target"
    assert (restored / home.relative_to("/")).is_dir()
    assert not (restored / home.relative_to("/") / "vaults").exists()
    assert not (restored / source.relative_to("/") / "vault").exists()
    assert sorted(path.name for path in (restored / source.relative_to("/")).iterdir()) == sorted(
        path.name for path in source.iterdir() if path.name != "vault"
    )


@pytest.mark.usefixtures("store")
def test_an_empty_vault_has_no_snapshot_to_restore(device: Device, tmp_path: Path) -> None:
    with pytest.raises(NoSuchSnapshot):
        run_restore_of(device, "main", "latest", tmp_path / "target", View())
    assert not (tmp_path / "target").exists()


def test_a_vault_that_is_lost_for_a_path_fails_the_restore_job(
    office: Office, device: Device, source: Path, tmp_path: Path
) -> None:
    (source / "big").write_bytes(os.urandom(3 << 20))
    add_local(device, "usb", tmp_path / "vault", None)
    run_backup(device, ["usb"], [os.fsencode(source)], View())
    packs = sorted((tmp_path / "vault" / "data").rglob("*"), key=lambda path: path.stat().st_size * path.is_file())
    packs[-1].chmod(0o600)
    body = bytearray(packs[-1].read_bytes())
    body[len(body) // 2] ^= 1
    packs[-1].write_bytes(body)
    view = View()
    result = run_restore_of(device, "usb", "latest", tmp_path / "target", view)
    assert result.summary.exit_code == 8
    assert view.warnings
    assert last_status(office) == JobStatus.ERROR


def a_snapshot(time: int, *, item: str = "", device: str = "", host: str = "", paths: tuple[str, ...] = ()) -> Snapshot:
    tags = tuple(filter(None, (item and ITEM_TAG + item, device and DEVICE_TAG + device)))
    return Snapshot(time_ns=time, tree=bytes(32), tags=tags, hostname=host, paths=paths, id=f"{time:064x}")


def test_the_parent_is_the_newest_of_the_item_and_device_else_of_the_host_and_paths() -> None:
    request = BackupRequest(paths=(b"/b", b"/a"), time=datetime.now(UTC), hostname="host", username="alice")
    own = [a_snapshot(1, item="i", device="d"), a_snapshot(3, item="i", device="d")]
    others = [
        a_snapshot(2, host="host", paths=("/a", "/b")),
        a_snapshot(9, item="i", device="other"),
        a_snapshot(8, item="other", device="d"),
        a_snapshot(7, host="host", paths=("/a",)),
        a_snapshot(6, host="elsewhere", paths=("/a", "/b")),
    ]
    assert choose_parent([*own, *others], "i", "d", request) == own[1]
    assert choose_parent(others, "i", "d", request) == others[0]
    assert choose_parent(others[1:], "i", "d", request) is None


@pytest.mark.usefixtures("store")
def test_an_interruption_while_the_job_is_recorded_cancels_it(
    office: Office, device: Device, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = keep_or_skip

    def interrupted(shelf: JobShelf, record: JobRecord) -> OortError | None:
        monkeypatch.setattr(jobs, "keep_or_skip", keep)
        os.kill(os.getpid(), signal.SIGINT)
        return keep(shelf, record)

    monkeypatch.setattr(jobs, "keep_or_skip", interrupted)
    monkeypatch.setattr(interrupts, "_state", interrupts._State())
    former = {number: signal.getsignal(number) for number in interrupts.SIGNALS}
    interrupts.install()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_backup(device, ["main"], [os.fsencode(source)], View())
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    assert last_status(office) == JobStatus.CANCELLED
