"""`oort demo`, from a small source to the verdict, and interrupted."""

import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from deploy.driver import Command


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with a bit of everything that a user may restore."""
    folder = tmp_path / "a source"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "text").write_text("a line\n" * 10_000)
    (folder / "below" / "text").chmod(0o640)
    (folder / "hard").hardlink_to(folder / "below" / "text")
    (folder / "soft").symlink_to("below/text")
    (folder / "empty").touch()
    (folder / os.fsdecode(b"not-\xff-utf8")).write_bytes(os.urandom(100_000))
    os.utime(folder / "empty", ns=(1_234_567_890_123_456_789, 987_654_321_987_654_321))
    return folder


@pytest.fixture
def oort(tmp_path: Path) -> Command:
    """The command with a temporary folder of its own."""
    (tmp_path / "tmp").mkdir()
    return Command("oort", env={**os.environ, "TMPDIR": str(tmp_path / "tmp")})


def _left_in(folder: Path) -> list[object]:
    left: list[object] = list(folder.iterdir())
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder) and process.status() != psutil.STATUS_ZOMBIE:
                left.append(process.cmdline())
        except psutil.Error:
            continue
    return left


@pytest.mark.long
def test_the_demonstration_ends_well_and_leaves_nothing(oort: Command, source: Path, tmp_path: Path) -> None:
    done = oort.ok("demo", "--source", str(source))
    assert "Every restored file equals its original." in done.stdout
    assert _left_in(tmp_path / "tmp") == []


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demonstration_leaves_nothing(
    oort: Command, source: Path, tmp_path: Path, number: signal.Signals
) -> None:
    command = oort.line("demo", "--source", str(source))
    with subprocess.Popen(
        command, env=dict(oort.env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if line.startswith("3."):
                break
        os.killpg(demo.pid, number)  # as a terminal does
        _, said = demo.communicate(timeout=120)
    assert demo.returncode == 130
    assert said.splitlines()[-1] == "oort: interrupted"
    assert _left_in(tmp_path / "tmp") == []


def test_a_source_that_is_none_is_named(oort: Command, tmp_path: Path) -> None:
    refused = oort.run("demo", "--source", str(tmp_path / "none"))
    assert refused.code == 2
    assert str(tmp_path / "none") in refused.stderr
