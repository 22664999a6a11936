"""Small files written by processes of their own: as they would be without, whatever becomes of these."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from client import worker_process
from client.flow import Crew
from client.platforms.linux import open_folder
from client.restore import plan, processes, run
from client.restore.compare import differences
from client.restore.request import Overwrite, RestoreOptions
from client.restore.small_files import Job, Outcome, Setting, SmallFile, SmallFiles
from client.restore.tests.test_restore import flip_a_bit_of, restored, some_files
from client.testing.vaults import VaultForTests, a_vault
from client.vault.blobs import BlobKind, blob_id
from client.vault.keys import DataKeys
from client.vault.sealing import seal_batch
from client.worker_process import WorkerProcess


class Seen:
    """What the processes were asked and answered."""

    def __init__(self) -> None:
        self.processes: list[WorkerProcess] = []
        self.outcomes: list[Outcome | None] = []
        self.tasks = 0
        self.kill = False


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    seen = Seen()
    carry_out = processes._carry_out

    def carried_out(process: WorkerProcess, job: Job, body: memoryview) -> Outcome | None:
        seen.processes.append(process)
        seen.tasks += len(job.tasks)
        if seen.kill:
            os.kill(process._process.pid, signal.SIGKILL)
        outcome = carry_out(process, job, body)
        seen.outcomes.append(outcome)
        return outcome

    monkeypatch.setattr(run, "_WORTH_PROCESSES", 1)
    monkeypatch.setattr(worker_process, "processors", lambda: 2)
    monkeypatch.setattr(worker_process, "_END_SECONDS", 60.0)  # on a busy machine the end of one may take seconds
    monkeypatch.setattr(processes, "_carry_out", carried_out)
    return seen


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = some_files(tmp_path / "source")
    (source / "docs" / "empty").touch()
    (source / "docs" / "zeros").write_bytes(bytes(20_000) + b"end")
    (source / "docs" / "a copy").write_bytes((source / "pictures" / "3").read_bytes())
    (source / "docs" / "mine").write_text("mine")
    (source / "docs" / "mine").chmod(0o4640)
    return source


@pytest.fixture
def vault(tmp_path: Path, source: Path) -> VaultForTests:
    made = a_vault(tmp_path / "vault")
    made.backup(source)
    return made


def test_they_write_small_files_as_they_were(tmp_path: Path, source: Path, vault: VaultForTests, seen: Seen) -> None:
    summary = vault.restore(tmp_path / "target")

    assert not list(differences(source, tmp_path / "target" / source.relative_to("/"), holes=True))
    assert seen.tasks >= 20
    assert all(outcome == Outcome([], []) for outcome in seen.outcomes)
    assert all(process._process.returncode == 0 for process in seen.processes)
    assert (summary.files, summary.bytes) == _figures(vault, tmp_path / "without")


def test_they_are_started_once_so_many_are_planned_however_small_the_windows(
    tmp_path: Path, source: Path, vault: VaultForTests, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_WORTH_PROCESSES", 12)
    for size in ("_FIRST_WINDOW", "_WINDOW"):
        monkeypatch.setattr(plan, size, 4)

    vault.restore(tmp_path / "target")

    assert not list(differences(source, tmp_path / "target" / source.relative_to("/"), holes=True))
    assert seen.tasks


def _figures(vault: VaultForTests, target: Path) -> tuple[int, int]:
    """Files and bytes of a restore without processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker_process, "processors", lambda: 1)
        summary = vault.restore(target)
    return summary.files, summary.bytes


def test_they_replace_what_is_there(tmp_path: Path, source: Path, vault: VaultForTests, seen: Seen) -> None:
    target = tmp_path / "target"
    there = target / source.relative_to("/")
    vault.restore(target)
    seen.tasks = 0
    for path in (there / "pictures").iterdir():
        path.write_bytes(b"other")
    (there / "docs" / "a.txt").unlink()
    (there / "docs" / "a.txt").symlink_to(source / "docs" / "b.md")

    vault.restore(target, options=RestoreOptions(overwrite=Overwrite.ALWAYS))

    assert seen.tasks >= 20
    assert not list(differences(source, there))
    assert not list(target.rglob(".oort-*"))


def test_what_they_cannot_open_is_named_and_all_else_restored(
    tmp_path: Path, source: Path, vault: VaultForTests, seen: Seen
) -> None:
    flip_a_bit_of(vault, blob_id((source / "pictures" / "4").read_bytes()))

    summary = vault.restore(tmp_path / "target")

    assert [lost.path for lost in summary.damaged] == [os.fsencode(source / "pictures" / "4")]
    assert restored(tmp_path / "target", source) == restored(Path("/"), source) - {"pictures/4"}
    assert sum(len(outcome.undone) for outcome in seen.outcomes if outcome) == 1


def test_what_they_cannot_write_is_named(tmp_path: Path, source: Path, vault: VaultForTests, seen: Seen) -> None:
    target = tmp_path / "target"
    (target / source.relative_to("/") / "docs" / "b.md").mkdir(parents=True)
    (target / source.relative_to("/") / "docs" / "b.md" / "mine").touch()

    summary = vault.restore(target, options=RestoreOptions(overwrite=Overwrite.ALWAYS))

    assert [warning.path for warning in summary.warnings] == [os.fsencode(source / "docs" / "b.md")]
    assert "something in it" in summary.warnings[0].reason
    assert restored(target, source) == restored(Path("/"), source) - {"docs/b.md"} | {"docs/b.md/mine"}
    assert seen.tasks


def test_a_restore_goes_on_without_them(tmp_path: Path, source: Path, vault: VaultForTests, seen: Seen) -> None:
    seen.kill = True

    vault.restore(tmp_path / "target")

    assert seen.outcomes
    assert set(seen.outcomes) == {None}
    assert not list(differences(source, tmp_path / "target" / source.relative_to("/")))


def test_a_restore_gives_no_job_to_those_of_another_version(
    tmp_path: Path, source: Path, vault: VaultForTests, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the program was upgraded since the restore began."""
    upgraded = "import client.version; client.version.VERSION = 'another'; "
    monkeypatch.setattr(processes, "_PROGRAM", upgraded + processes._PROGRAM)

    vault.restore(tmp_path / "target")

    assert seen.outcomes
    assert set(seen.outcomes) == {None}
    assert not list(differences(source, tmp_path / "target" / source.relative_to("/")))


def test_a_restore_is_interrupted_while_one_of_them_hangs(
    tmp_path: Path, vault: VaultForTests, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a target that does not answer: it has a job, and neither does it nor says so."""
    carry_out = processes._carry_out
    lock = threading.Lock()
    goes_on: list[threading.Timer] = []  # or a restore that waits for it would never end

    def hang(process: WorkerProcess, job: Job, body: memoryview) -> Outcome | None:
        os.kill(process._process.pid, signal.SIGSTOP)
        with lock:
            if not goes_on:
                os.kill(os.getpid(), signal.SIGINT)
            goes_on.append(threading.Timer(30, os.kill, (process._process.pid, signal.SIGCONT)))
            goes_on[-1].start()
        return carry_out(process, job, body)

    monkeypatch.setattr(processes, "_carry_out", hang)
    monkeypatch.setattr(run, "Crew", lambda: Crew(patience=0.1))

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            vault.restore(tmp_path / "target")
    finally:
        signal.signal(signal.SIGINT, before)
        for timer in goes_on:
            timer.cancel()
    assert {process._process.returncode for process in seen.processes} == {-signal.SIGKILL}


@pytest.mark.parametrize("lacking", ["executable", "name of one", "shared memory"])
def test_a_restore_does_without_them_where_none_can_be_started(  # noqa: PLR0917 - fixtures
    tmp_path: Path, source: Path, vault: VaultForTests, seen: Seen, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    if lacking == "shared memory":
        monkeypatch.delattr(os, "memfd_create")
    else:
        monkeypatch.setattr(sys, "executable", None if lacking == "name of one" else str(tmp_path / "none"))

    vault.restore(tmp_path / "target")

    assert not seen.tasks
    assert not list(differences(source, tmp_path / "target" / source.relative_to("/")))


def test_what_else_starts_with_python_may_say_what_it_likes(
    tmp_path: Path, source: Path, vault: VaultForTests, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('INFO: ' + 'hello ' * 100_000)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    vault.restore(tmp_path / "target")

    assert seen.tasks >= 20
    assert None not in seen.outcomes
    assert not list(differences(source, tmp_path / "target" / source.relative_to("/")))


def test_files_lie_as_deep_as_folders_go(tmp_path: Path, vault: VaultForTests, seen: Seen) -> None:
    source = tmp_path / "deep"
    source.mkdir()
    opened = os.open(source, os.O_RDONLY)
    for _ in range(sys.getrecursionlimit()):
        os.mkdir("d", dir_fd=opened)
        opened, above = os.open("d", os.O_RDONLY, dir_fd=opened), opened
        os.close(above)
    with open("file", "xb", opener=lambda name, flags: os.open(name, flags, dir_fd=opened)) as file:
        file.write(b"below")
    os.close(opened)
    made = vault.backup(source)

    summary = vault.restore(tmp_path / "target", made.snapshot.id)

    subprocess.run(["rm", "-rf", source, tmp_path / "target"], check=True)  # others give up at this depth
    assert (summary.exit_code, summary.files) == (0, 1)
    assert seen.tasks


def test_files_in_many_folders_are_made_some_here_and_some_there(
    tmp_path: Path, vault: VaultForTests, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_FOLDERS", 12)
    source = tmp_path / "many"
    for number in range(40):
        (source / str(number)).mkdir(parents=True)
        (source / str(number) / "file").write_text(str(number))
    made = vault.backup(source)

    vault.restore(tmp_path / "target", made.snapshot.id)

    assert 0 < seen.tasks < 40
    assert not list(differences(source, tmp_path / "target" / source.relative_to("/")))


def test_an_attribute_that_cannot_be_set_is_told(tmp_path: Path) -> None:
    keys = DataKeys.random()
    (blob,) = seal_batch(keys, BlobKind.DATA, [b"content"])
    target = open_folder(os.fsencode(tmp_path))
    sealed = blob.id, 0, blob.length_sealed, 0
    file = SmallFile(0, b"name", b"partial", 0o600, os.getuid(), os.getgid(), 1, 2, [("nonsense", b"")])
    try:
        files = SmallFiles(Setting(keys.encrypt, keys.mac_k, keys.mac_r, target), memoryview(blob.body))
        outcome = files.carry_out(Job([], [(sealed, [file])]))
    finally:
        os.close(target)

    assert (tmp_path / "name").read_bytes() == b"content"
    assert list(outcome.undone) == []
    assert [(task, number) for task, number, _ in outcome.complaints] == [(0, 0)]
