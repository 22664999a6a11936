"""What comes through a pipe: all of it is in the snapshot, or there is no snapshot."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from client.backup.programs import ProgramOutput
from client.backup.request import BackupSummary, NoProgress, Tally
from client.backup.stream import StandardInput, Stream, stream_path
from client.errors import StoreFull, StreamIncomplete, UsageError
from client.stores.abc import StoreSession
from client.testing.faults import FailingPut
from client.testing.files import random_bytes
from client.testing.threads import none_left
from client.testing.vaults import PASSWORD, VaultForTests, a_vault
from domain.names import ObjectKind

MIB = 1 << 20


@pytest.fixture
def vault(tmp_path: Path) -> VaultForTests:
    return a_vault(tmp_path / "vault")


@contextmanager
def a_pipe_with(content: bytes) -> Iterator[StandardInput]:
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(content)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield StandardInput(reading)
    finally:
        writer.join()
        os.close(reading)


def python(program: str) -> ProgramOutput:
    return ProgramOutput([sys.executable, "-c", program])


def backed_up(vault: VaultForTests, content: bytes, name: str = "/dump.sql", **options: object) -> BackupSummary:
    with a_pipe_with(content) as stream:
        return vault.backup(name, stream=stream, **options)  # type: ignore[arg-type]


def refused(vault: VaultForTests, stream: Stream) -> str:
    """What is said of a stream of which there must be no snapshot."""
    with none_left(), pytest.raises(StreamIncomplete) as raised:
        vault.backup("/dump.sql", stream=stream)
    assert vault.objects(ObjectKind.SNAPSHOT) == []
    return str(raised.value)


@pytest.mark.parametrize("size", [1, 600_000, 21 * MIB + 1])
def test_what_came_through_a_pipe_comes_back(vault: VaultForTests, tmp_path: Path, size: int) -> None:
    content = random_bytes(size)
    summary = backed_up(vault, content, "/backups/db/dump.sql")
    assert (summary.files_new, summary.total_files, summary.total_bytes, summary.dirs) == (1, 1, size, 0)
    vault.restore(tmp_path / "target")
    restored = tmp_path / "target" / "backups" / "db" / "dump.sql"
    assert restored.read_bytes() == content
    assert restored.stat().st_mode & 0o777 == 0o644
    assert vault.problems() == []


@pytest.mark.needs("restic")
def test_restic_gives_a_stream_back_and_we_give_back_one_of_restic(vault: VaultForTests, tmp_path: Path) -> None:
    content = random_bytes(3 * MIB)
    backed_up(vault, content)
    assert restic(vault, "dump", "latest", "/dump.sql") == content
    restic(vault, "forget", "latest")
    restic(vault, "backup", "--stdin", "--stdin-filename", "theirs", given=content)
    vault.restore(tmp_path / "target")
    assert (tmp_path / "target" / "theirs").read_bytes() == content


def restic(vault: VaultForTests, *arguments: str, given: bytes = b"") -> bytes:
    command = ["restic", "--repo", str(vault.path), "--no-cache", "--quiet", *arguments]
    environment = {**os.environ, "RESTIC_PASSWORD": PASSWORD}
    return subprocess.run(command, env=environment, input=given, stdout=subprocess.PIPE, check=True).stdout


def test_the_next_stream_of_the_same_name_stores_only_what_is_new(vault: VaultForTests) -> None:
    content = random_bytes(12 * MIB)
    first = backed_up(vault, content)
    second = backed_up(vault, content + b"more", parent=first.snapshot)
    assert (second.files_changed, second.parent) == (1, first.snapshot)
    assert second.new_bytes < 9 * MIB
    assert vault.problems() == []


def test_a_stream_with_nothing_in_it_is_no_backup(vault: VaultForTests) -> None:
    with a_pipe_with(b"") as nothing:
        assert refused(vault, nothing) == "standard input gave nothing: no snapshot was made."
    folder = os.open("/", os.O_RDONLY)
    assert "standard input could not be read: is a directory" in refused(vault, StandardInput(folder))
    os.close(folder)


def test_a_program_s_output_is_a_file(vault: VaultForTests, tmp_path: Path) -> None:
    summary = vault.backup("/out", stream=python("import sys; print(sys.stdin.read() + 'text' * 1000000)"))
    assert (summary.total_bytes, summary.warnings) == (4_000_001, ())
    vault.restore(tmp_path / "target")
    assert (tmp_path / "target" / "out").read_text() == "text" * 1_000_000 + "\n"


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("print('half a dump'); raise SystemExit(3)", "ended with exit code 3: no snapshot was made."),
        ("raise SystemExit(7)", "ended with exit code 7"),
        ("import os; print(1, flush=True); os.kill(os.getpid(), 9)", "was ended by SIGKILL"),
        ("import os; os.kill(os.getpid(), 40)", "was ended by signal 40"),
        ("", "gave nothing"),
    ],
)
def test_a_program_that_fails_makes_no_snapshot(vault: VaultForTests, program: str, told: str) -> None:
    assert told in refused(vault, python(program))


def test_what_a_program_complains_of_is_a_warning_line_by_line(vault: VaultForTests) -> None:
    long = "x" * 5000
    complaints = f"import sys; print('data'); sys.stderr.write('careful\\n\\n  \\xffoops \\n{long}\\nlast')"
    summary = vault.backup("/dump.sql", stream=python(complaints))
    name = Path(sys.executable).name
    told = [warned.reason for warned in summary.warnings]
    assert {warned.path for warned in summary.warnings} == {b"/dump.sql"}
    assert told[:2] == [f"{name}: careful", f"{name}: ÿoops"]
    assert told[-1] == f"{name}: last"
    assert "".join(line.removeprefix(f"{name}: ") for line in told[2:-1]) == long


def test_a_program_s_complaints_are_heard_when_it_fails_too(vault: VaultForTests) -> None:
    heard: list[str] = []

    class Hearing(NoProgress):
        def warned(self, path: bytes, reason: str) -> None:  # noqa: ARG002 - the protocol's
            heard.append(reason)

    with pytest.raises(StreamIncomplete):
        vault.backup("/dump.sql", stream=python("import sys; sys.exit('no such database')"), progress=Hearing())
    assert [reason.partition(": ")[2] for reason in heard] == ["no such database"]


def test_what_a_program_leaves_running_holds_nobody_up(vault: VaultForTests, tmp_path: Path) -> None:
    """A child that keeps standard error open for as long as this test wants."""
    os.mkfifo(tmp_path / "fifo")
    holding = os.open(tmp_path / "fifo", os.O_RDWR)
    try:
        summary = vault.backup(
            "/x", stream=ProgramOutput(["sh", "-c", f"cat '{tmp_path}/fifo' >/dev/null & echo data"])
        )
    finally:
        os.close(holding)
    assert (summary.total_bytes, summary.warnings) == (5, ())


@pytest.mark.parametrize("error", [StoreFull(place="the disk", detail="full"), KeyboardInterrupt()])
def test_a_program_that_would_go_on_for_ever_is_ended_with_the_backup(
    vault: VaultForTests, tmp_path: Path, error: BaseException
) -> None:
    """It says who it is, fills some packs, and then is silent."""
    told = tmp_path / "pid"
    program = (
        f"import os, signal, sys; open({str(told)!r}, 'w').write(str(os.getpid()));"
        "sys.stdout.buffer.write(os.urandom(40 << 20)); sys.stdout.flush(); signal.pause()"
    )

    def failing(session: StoreSession) -> FailingPut:
        return FailingPut(session, ObjectKind.PACK, 1, error)

    with pytest.raises(type(error)):
        vault.backup("/x", stream=python(program), around=failing)
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), signal.SIGCONT)
    assert vault.objects(ObjectKind.SNAPSHOT) == []


def test_a_stream_is_read_no_faster_than_it_is_stored(vault: VaultForTests) -> None:
    """What is read and not yet stored is bounded, so that memory is."""
    ahead: list[int] = []

    class Measuring(NoProgress):
        def advanced(self, tally: Tally) -> None:
            ahead.append(tally.total_bytes - tally.done_bytes)

    program = "import sys\nfor _ in range(160): sys.stdout.buffer.write(b'x' * (1 << 20))"
    vault.backup("/x", stream=python(program), progress=Measuring())
    assert max(ahead) <= 40 * MIB


@pytest.mark.parametrize(
    ("name", "path"),
    [
        *(("stdin", b"/stdin"), ("/a/b", b"/a/b"), ("a\udcff", b"/a\xff")),
        *(("/", None), ("", None), ("a/../b", None), ("a\0", None)),
    ],
)
def test_a_stream_s_name_is_a_path_in_the_snapshot(name: str, path: bytes | None) -> None:
    if path is None:
        with pytest.raises(UsageError, match="is no name"):
            stream_path(name)
    else:
        assert stream_path(name) == path


@pytest.mark.parametrize("command", [[], ["no-such-program-anywhere"], ["/etc/passwd"]])
def test_a_command_that_cannot_be_run_is_refused_at_once(command: list[str]) -> None:
    with pytest.raises(UsageError):
        ProgramOutput(command)
