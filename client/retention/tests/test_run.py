"""A pass on a store that keeps sessions apart: what happens between the plan and the removal."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from client.account import opening
from client.account.device import Device
from client.account.jobs import list_jobs
from client.account.tests.an_auth import Office
from client.account.vaults import Vaults
from client.errors import AppendOnly, DamagedVault, NoRoomForIndex, NoSuchItem, ObjectMissing, SnapshotInUse, StoreError
from client.retention.automatic import own_strength, pass_after_backup
from client.retention.plan import Plan
from client.retention.prune import PruneLimits, PruneReport
from client.retention.run import RetentionOrder, RetentionResult, run_retention
from client.stores.tests.memory import MemorySession, MemoryStore
from client.vault.repository import Vault
from client.vault.snapshots import ITEM_TAG, Snapshot, encode_snapshot
from domain.automatic_pass import PassLevel, PassNeed
from domain.names import ObjectKind, ObjectName
from domain.retention_policy import KEEP_EVERYTHING, Policy, Range, RangeType, RetentionMode
from domain.sessions import Purpose

NOW = datetime(2026, 11, 26, 15, 0, tzinfo=UTC)


class View:
    def __init__(self) -> None:
        self.stays: list[str] = []

    def unread(self, name: ObjectName, error: DamagedVault | ObjectMissing) -> None:
        raise AssertionError(name, error)

    def planned(self, plan: Plan) -> None:
        """What is planned is what `agree` gets."""

    def pruning(self, what: str, done: int, total: int) -> None:
        raise AssertionError(what, done, total)

    def in_use(self, snapshot: Snapshot, error: SnapshotInUse) -> None:
        assert "backup" in error.why
        self.stays.append(snapshot.id)


class Ground:
    """A vault named `main` in memory, with snapshots of an item."""

    def __init__(self, device: Device, store: MemoryStore) -> None:
        self.device = device
        self.store = store
        self.view = View()
        with opening.place_of(device, "main") as place, store.open(Purpose.BACKUP) as session:
            place.open_or_create(session).close()

    def backed_up(self, hours_ago: float, item: str = "item") -> str:
        """The id of a new snapshot."""
        with opening.place_of(self.device, "main") as place, self.store.open(Purpose.BACKUP) as session:
            vault = place.open(session)
            assert vault is not None
            time_ns = int((NOW - timedelta(hours=hours_ago)).timestamp()) * 10**9
            document = encode_snapshot(Snapshot(time_ns, bytes(32), ("/<home>",), tags=(f"{ITEM_TAG}{item}",)))
            name, body = vault.seal_unpacked(ObjectKind.SNAPSHOT, document)
            session.commit(name, body)
            return name.id

    def removed(self, *ids: str) -> None:
        """Another retention does it."""
        with self.store.open(Purpose.RETENTION) as session:
            for one in ids:
                session.remove(ObjectName(ObjectKind.SNAPSHOT, one))

    def keep_last(self, jobs: int, agree: Callable[[Plan], None] = lambda _plan: None) -> RetentionResult:
        policy = Policy(RetentionMode.DELETE_EXCEPT, (Range(RangeType.LAST_JOBS, jobs=jobs),))
        return run_retention(self.device, "main", RetentionOrder(NOW, UTC, policy), self.view, agree)

    def left(self) -> set[str]:
        return {name.id for name in self.store.objects if name.kind is ObjectKind.SNAPSHOT}


@pytest.fixture
def ground(office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    office.auth.vaults.clear()
    with Device(office.logged_in(tmp_path.name)) as device:
        store = MemoryStore()
        Vaults(device).request("main", "default")
        monkeypatch.setattr(opening, "_store", lambda *_arguments: store)
        yield Ground(device, store)


def test_what_only_the_second_plan_names_stays(ground: Ground) -> None:
    oldest, old, new = (ground.backed_up(hours) for hours in (3, 2, 1))
    newest: list[str] = []

    def agree(plan: Plan) -> None:
        assert [one.id for one in plan.removed] == [oldest]
        newest.append(ground.backed_up(0))

    result = ground.keep_last(2, agree)
    assert [one.id for one in result.removed] == [oldest]
    assert ground.left() == {old, new, *newest}


def test_what_another_retention_removed_meanwhile_is_no_failure_and_the_last_one_stays(ground: Ground) -> None:
    first, second, third = (ground.backed_up(hours) for hours in (3, 2, 1))
    result = ground.keep_last(1, lambda _plan: ground.removed(first, third))
    assert result.removed == []
    assert ground.left() == {second}


def test_a_snapshot_in_use_stays_and_the_others_go(ground: Ground) -> None:
    first, second, third = (ground.backed_up(hours) for hours in (3, 2, 1))
    with ground.store.open(Purpose.BACKUP, ObjectName(ObjectKind.SNAPSHOT, first)):
        result = ground.keep_last(1)
    assert ([one.id for one in result.removed], ground.view.stays) == ([second], [first])
    assert (result.warnings, ground.left()) == (1, {first, third})


def test_a_pass_that_fails_half_way_is_gone_on_with_by_the_next(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (ground.backed_up(hours) for hours in (3, 2, 1))
    remove = MemorySession.remove

    def fails(session: MemorySession, name: ObjectName) -> None:
        if name.id == second:
            raise StoreError(place="memory", detail="no answer")
        remove(session, name)

    with monkeypatch.context() as patched:
        patched.setattr(MemorySession, "remove", fails)
        with pytest.raises(StoreError):
            ground.keep_last(1)
    assert ground.left() == {second, third}
    assert [one.id for one in ground.keep_last(1).removed] == [second]
    assert [job.status for job in list_jobs(ground.device, all_devices=False, most=2)] == [5000, 7002]
    assert first not in ground.left()


def test_a_device_that_may_only_add_plans_and_removes_nothing_and_makes_no_job_of_it(ground: Ground) -> None:
    for hours in (3, 2, 1):
        ground.backed_up(hours)
    before = ground.left()
    ground.store.allowed.discard(Purpose.RETENTION)
    jobs = list_jobs(ground.device, all_devices=False, most=9)

    def agree(_: Plan) -> None:
        raise AssertionError("nobody is asked")

    with pytest.raises(AppendOnly, match="memory lets this device only add"):
        ground.keep_last(1, agree)
    policy = Policy(RetentionMode.DELETE_EXCEPT, (Range(RangeType.LAST_JOBS, jobs=1),))
    for level, need in ((PassLevel.IMMEDIATE, PassNeed.MUST), (PassLevel.LESS_OFTEN, PassNeed.TRY)):
        order = RetentionOrder(NOW, UTC, policy)
        done = pass_after_backup(ground.device, "main", level, order, ground.view)
        assert (done.need, type(done.failure), done.result) == (need, AppendOnly, None)
    assert ground.left() == before
    assert list_jobs(ground.device, all_devices=False, most=9) == jobs


@pytest.mark.parametrize("has_room", [True, False])
def test_a_prune_without_room_for_its_index_goes_on_in_another_session_and_repacks_nothing(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, has_room: bool
) -> None:
    seen: list[tuple[int | None, int]] = []

    def prune(vault: Vault, limits: PruneLimits, *_: object, **__: object) -> PruneReport:
        assert isinstance(vault.session, MemorySession)
        seen.append((limits.repack_bytes, vault.session.number))
        if len(seen) == 2 and has_room:
            return PruneReport(removed_packs=3, postponed_packs=7)
        raise NoRoomForIndex(place="memory", detail="no space is left", size=1000)

    monkeypatch.setattr("client.retention.prune.prune", prune)
    old, new = (ground.backed_up(hours) for hours in (2, 1))
    policy = Policy(RetentionMode.DELETE_EXCEPT, (Range(RangeType.LAST_JOBS, jobs=1),))
    order = RetentionOrder(NOW, UTC, policy, prune=PruneLimits())
    if has_room:
        result = run_retention(ground.device, "main", order, ground.view, lambda _plan: None)
        assert result.pruned is not None
        assert result.pruned.removed_packs == 3
        assert (result.pruned.unmoved_packs, result.pruned.postponed_packs, result.warnings) == (7, 0, 7)
        assert "no space is left" in result.pruned.full
        assert [one.id for one in result.removed] == [old]
    else:
        with pytest.raises(NoRoomForIndex, match="free at least 1000 bytes"):
            run_retention(ground.device, "main", order, ground.view, lambda _plan: None)
    assert [limit for limit, _ in seen] == [None, 0]
    assert len({number for _, number in seen}) == 2
    assert ground.left() == {new}


@pytest.mark.parametrize(
    ("report", "counts"),
    [
        (PruneReport(index_files_in_use=1), False),
        (PruneReport(packs_in_use=1), False),
        (PruneReport(packs_in_use=1, freed_bytes=1), True),
        (PruneReport(), True),  # there is nothing to free
    ],
)
def test_what_running_sessions_use_is_no_warning_and_a_prune_that_frees_nothing_for_them_no_pass(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, report: PruneReport, counts: bool
) -> None:
    monkeypatch.setattr("client.retention.prune.prune", lambda *_, **__: report)
    ground.backed_up(1)

    result = run_retention(
        ground.device,
        "main",
        RetentionOrder(NOW, UTC, KEEP_EVERYTHING, prune=PruneLimits()),
        ground.view,
        lambda _: None,
    )

    assert (result.warnings, result.damages) == (0, 0)
    (job,) = list_jobs(ground.device, all_devices=False, most=1)
    assert job.status == 5000
    with opening.place_of(ground.device, "main") as place:
        assert place.entry.HasField("last_retention") == counts


def test_an_item_of_a_vault_that_was_never_used_is_not_known(ground: Ground) -> None:
    ground.store.objects.clear()
    for item in ("abc", ""):
        order = RetentionOrder(NOW, UTC, KEEP_EVERYTHING, item)
        if item:
            with pytest.raises(NoSuchItem, match="abc"):
                run_retention(ground.device, "main", order, ground.view, lambda _plan: None)
        else:
            assert not run_retention(ground.device, "main", order, ground.view, lambda _plan: None).removed


def test_this_machine_says_how_strong_it_is() -> None:
    strength = own_strength()
    assert strength.uptime > timedelta()
    assert strength.memory > 0
