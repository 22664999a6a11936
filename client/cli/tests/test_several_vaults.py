"""One backup to several vaults, as a person and a script see it."""

import errno
import json
import shutil
import signal
import threading
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from client.account import backup_run, choosing
from client.backup import run as engine
from client.backup import small_files
from client.backup.regular import open_regular
from client.cli.tests.terminal import Terminal
from client.errors import NothingLeft, OortError, QuotaExceeded, SessionOver, StoreError, StoreFull
from client.restore.compare import differences
from client.stores.abc import Buffer
from client.stores.local import LocalSession, LocalStore
from client.testing.files import random_bytes
from domain.jobs import JobStatus
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose

LONG = 3600.0


@pytest.fixture
def names(with_vault: Terminal, tmp_path: Path) -> tuple[str, str]:
    """Two vaults of the account, in the folders `vault` and `second`."""
    name = f"{tmp_path.name}-second"
    assert with_vault("vault", "add", "--local", str(tmp_path / "second"), "--name", name)[0] == 0
    return tmp_path.name, name


@pytest.fixture
def large(source: Path) -> Path:
    """Several packs of each vault."""
    for number in range(6):
        (source / f"large {number}").write_bytes(random_bytes(9 << 20, number))
    return source


def failing(monkeypatch: pytest.MonkeyPatch, folder: Path, errors: dict[int, StoreError]) -> None:
    """The put of a pack of that number, to the store in the folder, raises the error."""
    genuine = LocalSession.put
    lock = threading.Lock()
    puts = 0

    def put(session: LocalSession, name: ObjectName, body: Buffer, packs: Sequence[ObjectName] = ()) -> bool:
        nonlocal puts
        if name.kind is ObjectKind.PACK and session._store.path == folder:
            with lock:
                puts += 1
                error = errors.get(puts)
            if error is not None:
                raise error
        return genuine(session, name, body, packs)

    monkeypatch.setattr(LocalSession, "put", put)


def backup_to(*names: str) -> list[str]:
    return [part for name in names for part in ("--vault", name)]


def assert_restored(terminal: Terminal, vault: str, source: Path, target: Path) -> None:
    assert terminal("check", "--vault", vault, "--read-data")[0] == 0
    assert terminal("restore", "latest", "--target", str(target), "--vault", vault)[0] == 0
    assert not list(differences(source, target / source.relative_to("/")))


def test_a_backup_to_two_vaults_is_one_job_with_a_snapshot_in_each(
    with_vault: Terminal, names: tuple[str, str], source: Path, tmp_path: Path
) -> None:
    summary = with_vault.json_lines("backup", str(source), *backup_to(*names))[-1]
    results = summary["vaults"]
    assert [one["vault"] for one in results] == list(names)
    assert summary["snapshot"] == results[0]["snapshot"] != results[1]["snapshot"]
    job = with_vault.json("jobs")[0]
    assert (job["id"], job["status"]) == (summary["job"], JobStatus.SUCCESS)
    assert results_of(job) == [(one["vault"], JobStatus.SUCCESS, one["snapshot"], None) for one in results]
    log = log_of(with_vault, job["id"])
    assert all(any(one["vault"] in line and one["snapshot"] in line for line in log) for one in results)
    for name in names:
        assert_restored(with_vault, name, source, tmp_path / f"of {name}")

    (source / "letters" / "a.txt").write_text("another")
    code, output, errors = with_vault("backup", str(source), *backup_to(*names))
    assert (code, errors) == (0, "")
    *told, counts = output.splitlines()
    assert all(f"in the vault {name}" in line and "of new data" in line for name, line in zip(names, told, strict=True))
    assert counts == "0 new, 1 changed, 1 unchanged"


@pytest.mark.parametrize("failed", [0, 1])
def test_one_vault_that_fails_in_the_middle_leaves_the_other_complete_and_the_job_a_warning_that_names_it(  # noqa: PLR0917 - fixtures
    with_vault: Terminal,
    names: tuple[str, str],
    large: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failed: int,
) -> None:
    folder = tmp_path / ("vault", "second")[failed]
    failing(monkeypatch, folder, {3: StoreFull(place=folder, detail="no space left on device")})

    code, output, errors = with_vault("backup", str(large), *backup_to(*names), "--json")

    *lines, summary = map(json.loads, output.splitlines())
    told = [(line["vault"], line["error"]) for line in lines if line["type"] == "failed"]
    assert (code, errors) == (3, "")
    assert told == [(names[failed], "StoreFull")]
    lost, whole = summary["vaults"][failed], summary["vaults"][1 - failed]
    assert (lost["vault"], lost["snapshot"], lost["error"], lost["exit_code"]) == (names[failed], None, "StoreFull", 7)
    assert summary["snapshot"] == whole["snapshot"]
    job = with_vault.json("jobs")[0]
    assert (job["id"], job["status"]) == (summary["job"], JobStatus.WARNING)
    assert any(names[failed] in line and "no space left" in line for line in log_of(with_vault, job["id"]))
    results = results_of(job)
    assert results[1 - failed] == (names[1 - failed], JobStatus.SUCCESS, whole["snapshot"], None)
    assert results[failed] == (names[failed], JobStatus.ERROR, None, lost["message"])
    assert ", ".join(names) in with_vault("jobs")[1]
    assert_restored(with_vault, names[1 - failed], large, tmp_path / "target")

    code, output, errors = with_vault("backup", str(large), *backup_to(*names))
    assert (code, errors) == (0, "")
    assert_restored(with_vault, names[failed], large, tmp_path / "of the other")


@pytest.mark.parametrize("hangs", [False, True])
@pytest.mark.parametrize("failed", [0, 1])
def test_one_that_fails_has_no_lock_and_no_session_any_more_while_the_other_goes_on(  # noqa: PLR0917 - fixtures
    with_vault: Terminal,
    names: tuple[str, str],
    large: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failed: int,
    hangs: bool,
) -> None:
    folders = [tmp_path / "vault", tmp_path / "second"]
    lost, other = folders[failed], folders[1 - failed]
    genuine, commit, opened = LocalSession.put, LocalSession.commit, LocalStore.open
    sessions: list[LocalSession] = []
    hanging: list[LocalSession] = []
    once = threading.Lock()  # two packs may be stored at the same time
    locks: list[list[Path]] = []

    def opening(store: LocalStore, purpose: Purpose, parent: ObjectName | None = None) -> LocalSession:
        session = opened(store, purpose, parent)
        if store.path == lost:
            sessions.append(session)
        return session

    def put(session: LocalSession, name: ObjectName, body: Buffer, packs: Sequence[ObjectName] = ()) -> bool:
        if name.kind is ObjectKind.PACK and session._store.path == lost:
            if hangs and once.acquire(blocking=False):
                hanging.append(session)
                assert session._over.wait(60)
                raise SessionOver(place=lost)
            raise StoreFull(place=lost, detail="no space left on device")
        return genuine(session, name, body, packs)

    def waiting(session: LocalSession, snapshot: ObjectName, body: Buffer) -> None:
        assert session._store.path == other
        eventually(lambda: not list((lost / "locks").iterdir()) and all(one._over.is_set() for one in sessions))
        locks.append(list((other / "locks").iterdir()))
        commit(session, snapshot, body)

    monkeypatch.setattr(LocalStore, "open", opening)
    monkeypatch.setattr(LocalSession, "put", put)
    monkeypatch.setattr(LocalSession, "commit", waiting)
    before = signal.getsignal(signal.SIGHUP)

    assert with_vault("backup", str(large), *backup_to(*names))[0] == 3

    assert [len(some) for some in locks] == [1]
    assert signal.getsignal(signal.SIGHUP) == before
    assert bool(hanging) == hangs


def eventually(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def results_of(job: dict[str, Any]) -> list[tuple[str, int, str | None, str | None]]:
    """Of each vault of a job, in the order given, what became of it."""
    return [(one["vault"], one["status"], one["snapshot"], one["error"]) for one in job["vaults"]]


def log_of(terminal: Terminal, job: str) -> list[str]:
    return terminal("jobs", "--log", job)[1].splitlines()


def test_a_vault_that_cannot_be_opened_is_named_and_the_others_are_backed_up(
    with_vault: Terminal, names: tuple[str, str], source: Path, tmp_path: Path
) -> None:
    assert with_vault("backup", str(source), *backup_to(*names))[0] == 0
    shutil.move(tmp_path / "vault", tmp_path / "unplugged")

    code, output, errors = with_vault("backup", str(source), *backup_to(*names))

    assert code == 3
    assert f"no snapshot in the vault {names[0]}" in errors
    assert f"in the vault {names[1]}" in output
    assert with_vault.json("jobs")[0]["status"] == JobStatus.WARNING

    shutil.move(tmp_path / "second", tmp_path / "unplugged too")
    code, output, errors = with_vault("backup", str(source), *backup_to(*names))
    assert (code, output) == (5, "")
    assert all(name in errors for name in names)
    job = with_vault.json("jobs")[0]
    assert job["status"] == JobStatus.ERROR
    assert [(name, status, snapshot) for name, status, snapshot, _ in results_of(job)] == [
        (name, JobStatus.ERROR, None) for name in names
    ]
    assert all("there is no vault here now" in str(error) for *_, error in results_of(job))
    assert all(b"no vault here" not in sent for sent in with_vault.office.auth.seen)


def test_a_vault_whose_session_is_ended_goes_on_in_another_alone(
    with_vault: Terminal, names: tuple[str, str], large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has got is found then: files are cut as they were in the session before."""
    for number in range(3):
        (large / f"large {number}").write_bytes(random_bytes(30 << 20, number))
    failing(monkeypatch, tmp_path / "second", {9: SessionOver(place="the node")})

    summary = with_vault.json_lines("backup", str(large), *backup_to(*names))[-1]

    whole, resumed = summary["vaults"]
    assert resumed["snapshot"]
    assert resumed["new_bytes"] < whole["new_bytes"] - (20 << 20)  # no ninth pack goes before 24 MiB are listed
    for name in names:
        assert len(with_vault.json("snapshots", "--vault", name)) == 1
        assert_restored(with_vault, name, large, tmp_path / f"of {name}")


def test_what_ends_the_second_session_leaves_the_snapshot_that_another_vault_has(
    with_vault: Terminal, names: tuple[str, str], large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, tmp_path / "second", {2: SessionOver(place="the node")})
    sessions = count(1)

    def all_gone(*arguments: Any) -> Any:
        if next(sessions) > 1:
            raise NothingLeft(paths="all")
        return engine.backup(*arguments)

    monkeypatch.setattr(backup_run, "backup", all_gone)

    code, output, _ = with_vault("backup", str(large), *backup_to(*names), "--json")

    whole, lost = json.loads(output.splitlines()[-1])["vaults"]
    assert (code, bool(whole["snapshot"]), lost["error"]) == (3, True, "NothingLeft")
    job = with_vault.json("jobs")[0]
    assert job["status"] == JobStatus.WARNING
    assert results_of(job)[1] == (names[1], JobStatus.ERROR, None, lost["message"])


def test_a_vault_that_failed_before_all_did_keeps_its_own_reason(
    with_vault: Terminal, names: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, tmp_path / "second", {1: QuotaExceeded(place="the node", detail="over the quota")})
    told = tmp_path / "told"
    genuine = backup_run._BackupRun.failed

    def failed(run: backup_run._BackupRun, vault: int, error: OortError) -> None:
        genuine(run, vault, error)
        told.touch()

    monkeypatch.setattr(backup_run._BackupRun, "failed", failed)
    program = f"head -c 60000000 /dev/urandom; until test -e '{told}'; do sleep 0.05; done; exit 3"

    assert with_vault("backup", "--stdin-command", *backup_to(*names), "--", "sh", "-c", program)[0] != 0

    first, second = results_of(with_vault.json("jobs")[0])
    assert (first[1], second[1]) == (JobStatus.ERROR, JobStatus.QUOTA_EXCEEDED)
    assert "exit code 3" in (first[3] or "")
    assert "over the quota" in (second[3] or "")


def test_the_retention_that_is_due_follows_in_each_vault_that_has_its_snapshot(
    with_vault: Terminal, names: tuple[str, str], source: Path
) -> None:
    for name in names:
        assert with_vault("vault", "retention", name, "--keep-last", "1")[0] == 0
    backup = ("backup", str(source), *backup_to(*names), "--auto-retention", "immediate")
    with_vault.json_lines(*backup)
    lines = with_vault.json_lines(*backup)
    assert [len(line["removed"]) for line in lines if line["type"] == "retention"] == [1, 1]
    assert [len(with_vault.json("snapshots", "--vault", name)) for name in names] == [1, 1]


def test_what_is_wrong_with_the_names_is_one_line_and_nothing_is_done(
    with_vault: Terminal, names: tuple[str, str], source: Path, tmp_path: Path
) -> None:
    first, second = names
    before = with_vault.json("jobs")
    (tmp_path / "link").symlink_to(tmp_path / "vault")
    password = with_vault.json("vault", "recovery", first)["password"]
    twin = ("vault", "add", "--local", str(tmp_path / "link"), "--name", f"{first}-twin", "--repository-password-stdin")
    assert with_vault(*twin, given=f"{password}\n")[0] == 0
    for wanted, exit_code, said in (
        ((first, first), 2, "named twice"),
        ((first, f"{first}-unknown"), 6, f"{first}-unknown"),
        ((first, second, f"{first}-twin"), 2, "are one place"),
        ((*names, "a", "b", "c"), 2, "4 vaults at most"),
    ):
        code, output, errors = with_vault("backup", str(source), *backup_to(*wanted))
        assert (code, output) == (exit_code, "")
        assert said in errors
        assert len(errors.splitlines()) == 1
    assert with_vault.json("jobs") == before
    assert with_vault.json("snapshots", "--vault", first) == []


def test_two_names_of_what_was_copied_file_by_file_are_refused_before_anything_is_stored(
    with_vault: Terminal, names: tuple[str, str], source: Path, tmp_path: Path
) -> None:
    first = names[0]
    assert with_vault("backup", str(source), "--vault", first)[0] == 0
    shutil.copytree(tmp_path / "vault", tmp_path / "twin")
    password = with_vault.json("vault", "recovery", first)["password"]
    twin = ("vault", "add", "--local", str(tmp_path / "twin"), "--name", f"{first}-twin", "--repository-password-stdin")
    assert with_vault(*twin, given=f"{password}\n")[0] == 0

    code, output, errors = with_vault("backup", str(source), *backup_to(first, f"{first}-twin"))

    assert (code, output) == (2, "")
    assert "file by file" in errors
    assert len(with_vault.json("snapshots", "--vault", first)) == 1


def test_that_files_are_cut_otherwise_from_now_on_is_said_once_and_stays_so(
    with_vault: Terminal, names: tuple[str, str], source: Path, tmp_path: Path
) -> None:
    """Also when the vault is backed up to alone, the one that its files are cut for is away, or caches were cleared."""
    large = source / "large"
    large.write_bytes(random_bytes(24 << 20))

    def new_bytes(*vaults: str, said: str = "", code: int = 0) -> int:
        """Of the second vault, after the beginning of the large file has changed."""
        large.write_bytes(b"more" + large.read_bytes())
        answered, output, errors = with_vault("backup", str(source), *backup_to(*vaults), "--json")
        assert (answered, said in errors, bool(errors)) == (code, True, bool(said))
        return int(json.loads(output.splitlines()[-1])["vaults"][-1]["new_bytes"])

    assert new_bytes(names[1]) > 24 << 20
    assert new_bytes(names[1]) < 20 << 20
    assert new_bytes(names[0]) > 24 << 20
    assert new_bytes(*names, said=f"cut as the vault {names[0]} has them") > 24 << 20
    assert new_bytes(*names) < 20 << 20
    large.write_bytes(random_bytes(24 << 20, 1))  # nothing of it was ever cut otherwise
    assert new_bytes(*names) > 24 << 20
    shutil.rmtree(with_vault.home / "vaults")
    assert new_bytes(names[1]) < 20 << 20
    shutil.move(tmp_path / "vault", tmp_path / "unplugged")
    assert new_bytes(*names, code=3) < 20 << 20


def test_files_are_cut_for_the_vault_whose_parent_they_are_compared_with_also_if_a_new_one_is_named_first(
    with_vault: Terminal, names: tuple[str, str], large: Path
) -> None:
    assert with_vault("backup", str(large), "--vault", names[1])[0] == 0

    new, old = with_vault.json_lines("backup", str(large), *backup_to(*names))[-1]["vaults"]

    assert (new["new_bytes"] > 54 << 20, old["new_bytes"] < 1 << 20) == (True, True)
    assert (old["files_changed"], old["files_unmodified"]) == (0, 8)
    again = with_vault.json_lines("backup", str(large), *backup_to(*names))[-1]["vaults"]
    assert max(one["new_bytes"] for one in again) < 1 << 20


def interrupting(monkeypatch: pytest.MonkeyPatch, folder: Path, method: str, kind: ObjectKind) -> None:
    """Ctrl-C comes while the store in the folder is asked to do that with an object of the kind."""
    genuine = getattr(LocalSession, method)

    def interrupted(session: LocalSession, name: ObjectName, *arguments: Any) -> Any:
        if name.kind is kind and session._store.path == folder:
            raise KeyboardInterrupt
        return genuine(session, name, *arguments)

    monkeypatch.setattr(LocalSession, method, interrupted)


def assert_told_when_interrupted(terminal: Terminal, names: tuple[str, str], source: Path) -> None:
    """A backup that is cancelled says which snapshot there is, that of the first vault, and so does its log."""
    code, output, errors = terminal("backup", str(source), *backup_to(*names))
    assert (code, output) == (130, "")
    snapshot = terminal.json("snapshots", "--vault", names[0])[0]["id"]
    assert f"snapshot {snapshot} exists in the vault {names[0]}" in errors
    assert terminal.json("snapshots", "--vault", names[1]) == []
    job = terminal.json("jobs")[0]
    assert job["status"] == JobStatus.CANCELLED
    assert any(snapshot in line and names[0] in line for line in log_of(terminal, job["id"]))
    assert results_of(job) == [
        (names[0], JobStatus.SUCCESS, snapshot, None),
        (names[1], JobStatus.CANCELLED, None, None),
    ]


def test_a_snapshot_that_one_vault_has_is_told_when_the_commit_of_another_is_interrupted(
    with_vault: Terminal, names: tuple[str, str], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupting(monkeypatch, tmp_path / "second", "commit", ObjectKind.SNAPSHOT)
    assert_told_when_interrupted(with_vault, names, source)


def test_a_snapshot_that_one_vault_has_is_told_when_the_second_session_of_another_is_interrupted(
    with_vault: Terminal, names: tuple[str, str], large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, tmp_path / "second", {2: SessionOver(place="the node")})
    sessions = count(1)

    def interrupted(*arguments: Any) -> Any:
        if next(sessions) > 1:
            raise KeyboardInterrupt
        return engine.backup(*arguments)

    monkeypatch.setattr(backup_run, "backup", interrupted)
    assert_told_when_interrupted(with_vault, names, large)


@pytest.mark.parametrize("interrupted", [0, 1])
def test_an_interruption_while_the_lock_of_one_vault_is_given_up_leaves_none_in_another(  # noqa: PLR0917 - fixtures
    with_vault: Terminal,
    names: tuple[str, str],
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interrupted: int,
) -> None:
    folders = [tmp_path / "vault", tmp_path / "second"]
    interrupting(monkeypatch, folders[interrupted], "remove", ObjectKind.LOCK)
    assert with_vault("backup", str(source), *backup_to(*names))[0] == 130
    assert list((folders[1 - interrupted] / "locks").iterdir()) == []


@pytest.mark.parametrize("locked", [0, 1])
def test_a_lock_that_cannot_be_given_up_is_a_warning_that_names_the_snapshot(  # noqa: PLR0917 - fixtures
    with_vault: Terminal,
    names: tuple[str, str],
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    locked: int,
) -> None:
    genuine = LocalSession.remove
    folder = tmp_path / ("vault", "second")[locked]

    def remove(session: LocalSession, name: ObjectName) -> None:
        if name.kind is ObjectKind.LOCK and session._store.path == folder:
            raise StoreError(place=folder, detail="no permission")
        genuine(session, name)

    monkeypatch.setattr(LocalSession, "remove", remove)

    code, output, errors = with_vault("backup", str(source), *backup_to(*names), "--json")

    *lines, summary = map(json.loads, output.splitlines())
    assert (code, errors, summary["warnings"]) == (3, "", 1)
    assert not [line for line in lines if line["type"] == "failed"]
    assert [one["warnings"] for one in summary["vaults"]] == [1 - locked, locked]
    statuses = [status for _, status, _, _ in results_of(with_vault.json("jobs")[0])]
    assert (statuses[locked], statuses[1 - locked]) == (JobStatus.WARNING, JobStatus.SUCCESS)
    [warning] = [line for line in lines if line["type"] == "warning"]
    assert summary["vaults"][locked]["snapshot"] in warning["path"]
    assert f"it exists in the vault {names[locked]}" in warning["reason"]
    job = with_vault.json("jobs")[0]
    assert job["status"] == JobStatus.WARNING
    assert any("no permission" in line for line in log_of(with_vault, job["id"]))


def test_the_latest_of_several_vaults_is_the_newest_that_any_of_them_has(
    with_vault: Terminal, names: tuple[str, str], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "SILENT_SECONDS", LONG)
    assert with_vault("backup", str(source), *backup_to(*names))[0] == 0
    (source / "newest").write_text("stored in the second alone")
    with monkeypatch.context() as full:
        failing(full, tmp_path / "vault", {1: StoreFull(place="the disk", detail="no space left on device")})
        assert with_vault("backup", str(source), *backup_to(*names))[0] == 3

    code, _, errors = with_vault("restore", "latest", "--target", str(tmp_path / "target"), *backup_to(*names))

    assert (code, errors) == (0, "")
    assert not list(differences(source, tmp_path / "target" / source.relative_to("/")))


def test_a_restore_reads_the_first_vault_that_answers_and_has_the_snapshot(
    with_vault: Terminal, names: tuple[str, str], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "SILENT_SECONDS", LONG)
    snapshots = [
        one["snapshot"] for one in with_vault.json_lines("backup", str(source), *backup_to(*names))[-1]["vaults"]
    ]

    def restored(snapshot: str, target: str) -> tuple[int, str]:
        wanted = ("restore", snapshot, "--target", str(tmp_path / target), *backup_to(*names), "--json")
        code, output, errors = with_vault(*wanted)
        assert not list(differences(source, tmp_path / target / source.relative_to("/")))
        assert json.loads(output.splitlines()[-1])["snapshot"] in snapshots
        return code, errors

    assert restored("latest", "of both") == (0, "")
    code, errors = restored(snapshots[1], "of the second")
    assert (code, f"not from the vault {names[0]}" in errors) == (0, True)
    shutil.move(tmp_path / "vault", tmp_path / "unplugged")
    code, errors = restored("latest", "of the one left")
    assert (code, f"not from the vault {names[0]}" in errors) == (0, True)
    shutil.move(tmp_path / "second", tmp_path / "unplugged too")
    code, output, errors = with_vault("restore", "latest", "--target", str(tmp_path / "none"), *backup_to(*names))
    assert (code, output) == (5, "")
    assert with_vault("restore", "latest", "--target", str(tmp_path / "none"), *backup_to("unknown", names[0]))[0] == 6


def test_what_only_the_snapshot_of_a_second_session_lacks_is_a_warning_too(
    with_vault: Terminal, names: tuple[str, str], large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, tmp_path / "second", {2: SessionOver(place="the node")})
    sessions = count()
    at_work = 0

    def in_session(*arguments: Any) -> Any:
        nonlocal at_work
        at_work = next(sessions)
        return engine.backup(*arguments)

    def unreadable(path: bytes, owner: int) -> object:
        if at_work and path.endswith(b"a.txt"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return open_regular(path, owner)

    monkeypatch.setattr(backup_run, "backup", in_session)
    monkeypatch.setattr(small_files, "open_regular", unreadable)

    code, output, _ = with_vault("backup", str(large), *backup_to(*names), "--json")

    summary = json.loads(output.splitlines()[-1])
    assert (code, summary["warnings"]) == (3, 1)
    assert [one["warnings"] for one in summary["vaults"]] == [0, 1]
    assert with_vault.json("jobs")[0]["status"] == JobStatus.WARNING
