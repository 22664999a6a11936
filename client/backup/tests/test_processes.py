"""Files read and sealed by processes of their own: as without them; the loss of one ends the backup."""

import contextlib
import mmap
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from client import worker_process
from client.backup import processes, read, small_files, staff
from client.backup.regular import Seen
from client.backup.small_files import BATCH_BYTES, Wanted, read_batch
from client.backup.stream import StandardInput
from client.backup.worker import Message, Sealing, Span, VaultSealing
from client.errors import DamagedVault, WorkerLost
from client.restore.compare import differences
from client.testing.files import random_bytes
from client.testing.threads import none_left
from client.testing.vaults import a_vault
from client.vault.chunker import Chunker
from client.vault.keys import DataKeys
from client.vault.sealing import Compression
from domain.names import ObjectKind


class Asked:
    """What the processes were asked; `kill` ends each at its first task of that kind."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.processes: list[processes.ProcessWorker] = []
        self.kill: str | None = None


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    asked = Asked()
    ask, start = processes.ProcessWorker._ask, processes.ProcessWorker.__init__

    def started(worker: processes.ProcessWorker, process: worker_process.WorkerProcess) -> None:
        start(worker, process)
        asked.processes.append(worker)
        process._await_ready()

    def asked_for(worker: processes.ProcessWorker, message: Message) -> object:
        asked.messages.append(message)
        if type(message).__name__ == asked.kill:
            os.kill(worker._process._process.pid, signal.SIGKILL)
        return ask(worker, message)

    monkeypatch.setattr(staff, "_WORTH_FILES", 0)
    monkeypatch.setattr(worker_process, "processors", lambda: 2)
    monkeypatch.setattr(worker_process, "_END_SECONDS", 60.0)  # on a busy machine the end of one may take seconds
    monkeypatch.setattr(processes.ProcessWorker, "__init__", started)
    monkeypatch.setattr(processes.ProcessWorker, "_ask", asked_for)
    return asked


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Small files, a copy, an empty and an unreadable one, and a large file."""
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    for number in range(20):
        (source / "below" / f"{number}").write_bytes(random_bytes(40_000, number))
    (source / "copy").write_bytes(random_bytes(40_000, 3))
    (source / "empty").touch()
    (source / "text").write_text("words " * 100_000)
    (source / "large").write_bytes(random_bytes(9 << 20, 99))
    return source


def ends(asked: Asked) -> set[int | None]:
    return {worker._process._process.returncode for worker in asked.processes}


def test_they_store_what_threads_store(tmp_path: Path, source: Path, asked: Asked) -> None:
    vault = a_vault(tmp_path / "vault")

    with none_left():
        first = vault.backup(source)
        (source / "below" / "7").write_text("changed")
        second = vault.backup(source, parent=first.snapshot)

    kinds = {type(message).__name__ for message in asked.messages}
    assert kinds == {"Read", "Hash", "Seal"}
    assert ends(asked) == {-signal.SIGKILL}
    assert (first.files_new, second.files_changed, second.files_unmodified) == (24, 1, 23)
    assert vault.problems() == []
    vault.restore(tmp_path / "target")
    assert not list(differences(source, tmp_path / "target" / source.relative_to("/")))


@pytest.mark.usefixtures("asked")
def test_what_a_large_task_took_of_their_memory_is_given_back_once_the_next_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given_back: list[int] = []
    give_back = worker_process.WorkerProcess.give_back_room

    def watched(process: worker_process.WorkerProcess, start: int) -> None:
        given_back.append(start)
        give_back(process, start)

    monkeypatch.setattr(processes, "_KEPT_ROOM", mmap.PAGESIZE)
    monkeypatch.setattr(worker_process.WorkerProcess, "give_back_room", watched)
    keys, memory, large = DataKeys.random(), processes.ChunkMemory(1 << 20), 1 << 20
    memory.view[:] = random_bytes(large, 1)

    with contextlib.closing(memory):
        worker = processes.start_worker(Sealing([VaultSealing(keys, 2)], Compression.OFF, 1), memory)
        assert worker is not None
        with contextlib.closing(worker):
            for size, given_before in ((large, 0), (100, 1), (large, 1), (large, 2)):
                ids = worker.hash([(0, size)])
                assert given_back == [mmap.PAGESIZE] * given_before
                (sealed,) = worker.seal(0, ids, [0])
                assert given_back == [mmap.PAGESIZE] * given_before
                assert keys.open(sealed.body) == memory.view[:size]


def test_they_store_a_stream_once_enough_of_it_has_come(
    tmp_path: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staff, "_WORTH_FILES", 2)
    vault, content = a_vault(tmp_path / "vault"), tmp_path / "content"
    content.write_bytes(random_bytes(9 << 20, 5))

    for worth, is_worth_it in ((10 << 20, False), (1 << 20, True)):
        monkeypatch.setattr(staff, "_WORTH_BYTES", worth)
        with content.open("rb") as stream:
            vault.backup("/stream", stream=StandardInput(stream.fileno()))
        assert bool(asked.messages) == is_worth_it

    assert vault.problems() == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_they_cannot_read_is_named(tmp_path: Path, source: Path, asked: Asked) -> None:
    (source / "below" / "4").chmod(0)

    summary = a_vault(tmp_path / "vault").backup(source)

    assert asked.messages
    assert [(warned.path, warned.reason) for warned in summary.warnings] == [
        (os.fsencode(source / "below" / "4"), "permission denied")
    ]


@pytest.mark.parametrize("kind", ["Read", "Seal"])
def test_a_backup_that_loses_one_ends_and_the_next_is_whole(
    tmp_path: Path, source: Path, asked: Asked, kind: str
) -> None:
    vault = a_vault(tmp_path / "vault")
    asked.kill = kind

    with none_left(), pytest.raises(WorkerLost, match="was ended by signal 9: no snapshot was made"):
        vault.backup(source)

    assert None not in ends(asked)
    assert vault.objects(ObjectKind.SNAPSHOT) == []
    asked.kill = None
    vault.backup(source)
    assert vault.errors() == []


def test_what_fails_in_one_is_told(tmp_path: Path, source: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = processes.ProcessWorker.hash
    nowhere: list[Span] = [(-5, "much")]  # type: ignore[list-item]
    monkeypatch.setattr(processes.ProcessWorker, "hash", lambda process, _spans: hashed(process, nowhere))

    with pytest.raises(WorkerLost, match=r"failed \(TypeError"):
        a_vault(tmp_path / "vault").backup(source)

    assert None not in ends(asked)


def test_damage_in_one_is_damage(tmp_path: Path, source: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    faulty = tmp_path / "sitecustomize.py"
    faulty.write_text(
        "from client.vault.keys import DataKeys\n"
        "genuine = DataKeys.seal_into\n"
        "def flipped(keys, plaintext, room):\n"
        "    length = genuine(keys, plaintext, room)\n"
        "    room[20] ^= 1\n"
        "    return length\n"
        "DataKeys.seal_into = flipped\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[3]}")

    with pytest.raises(DamagedVault, match="did not open to what was sealed"):
        a_vault(tmp_path / "vault").backup(source)

    assert asked.messages


@pytest.mark.parametrize("lacking", ["executable", "name of one", "shared memory", "source"])
def test_a_backup_does_without_them_where_none_can_be_started(
    tmp_path: Path, source: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    vault = a_vault(tmp_path / "vault")
    if lacking == "shared memory":
        monkeypatch.delattr(os, "memfd_create")
    elif lacking == "source":
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    else:
        monkeypatch.setattr(sys, "executable", None if lacking == "name of one" else str(tmp_path / "none"))

    vault.backup(source)

    assert not asked.messages
    assert vault.problems() == []


_KILLED = """
import sys, time
from pathlib import Path
from client import worker_process
from client.backup import staff
from client.testing.faults import Watched
from client.testing.vaults import VaultForTests

staff._WORTH_FILES = 0
worker_process.processors = lambda: 2
def on_put(name):
    print("storing", flush=True)
    sys.stdin.read()

VaultForTests(Path(sys.argv[1])).backup(Path(sys.argv[2]), around=lambda session: Watched(session, on_put))
"""


def test_they_end_with_a_backup_that_is_killed(tmp_path: Path, source: Path) -> None:
    (source / "more").write_bytes(random_bytes(40 << 20, 7))
    vault = a_vault(tmp_path / "vault")
    backup = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(vault.path), str(source)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    with backup:
        assert backup.stdout is not None
        backup.stdout.readline()
        beside = psutil.Process(backup.pid).children()
        backup.kill()
    assert beside
    _, alive = psutil.wait_procs(beside, timeout=60)
    assert not alive


def test_a_batch_holds_what_was_read_whatever_was_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of files of /proc, which announce nothing and hold much."""
    wanted = []
    for number in range(6):
        path = tmp_path / f"{number}"
        path.write_bytes(bytes(BATCH_BYTES // 2))
        wanted.append(Wanted(os.fsencode(path), os.fsencode(path.name), Seen.of(path.stat())))
    content = small_files._content
    monkeypatch.setattr(small_files, "_content", lambda opened, _size: content(opened, 0))
    chunker = Chunker(1)

    sizes = []
    while wanted:
        batch, chunks = read_batch(wanted, chunker)
        wanted = wanted[len(batch.nodes) :]
        sizes.append(sum(map(len, chunks)))
        assert batch.size == sizes[-1]
        assert not any(remark.as_listed for remark in batch.remarks)

    assert sizes == [BATCH_BYTES] * 3


def test_what_is_too_much_for_one_task_is_read_with_the_next(
    tmp_path: Path, source: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "BATCH_BYTES", 3 * BATCH_BYTES)  # as if the scan had seen less
    for number in range(6):
        (source / f"medium {number}").write_bytes(random_bytes(BATCH_BYTES // 3 + 1, 200 + number))
    vault = a_vault(tmp_path / "vault")

    summary = vault.backup(source)

    assert sum(type(message).__name__ == "Read" for message in asked.messages) == 3
    assert summary.files_new == 30
    vault.restore(tmp_path / "target")
    assert not list(differences(source, tmp_path / "target" / source.relative_to("/")))
