"""What is mounted is taken away at the end, and nothing else is."""

import os
import re
import select
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from client.mount.mounting import CannotMount, StillMounted, mounted, unmount

needs_mount = pytest.mark.needs("fusermount3")
SECONDS = 120


def mounts_at(path: Path) -> list[str]:
    """The kinds of what is mounted there. To look at the path itself would wait for who answers, which nobody does."""
    fields = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [
        kind for _, at, kind, *_ in fields if re.sub(r"\\(\d{3})", lambda one: chr(int(one[1], 8)), at) == str(path)
    ]


@needs_mount
@pytest.mark.parametrize("name", ["mount", "with spaces, commas and a \\", "ünïcode"])
def test_a_mount_is_taken_away_at_the_end(tmp_path: Path, name: str) -> None:
    at = tmp_path / name
    at.mkdir()
    with mounted(at, "vault", allow_other=False) as channel:
        assert mounts_at(at) == ["fuse.oort"]
        os.close(channel)
    assert list(at.iterdir()) == []


@needs_mount
def test_what_another_has_mounted_there_meanwhile_stays(tmp_path: Path) -> None:
    with ExitStack() as second:
        with mounted(tmp_path, "first", allow_other=False) as channel:
            used = os.open(tmp_path, os.O_PATH)  # asks nobody
            unmount(tmp_path)
            second.callback(os.close, second.enter_context(mounted(tmp_path, "second", allow_other=False)))
        assert mounts_at(tmp_path) == ["fuse.oort"]
        os.close(channel)
        os.close(used)
    assert mounts_at(tmp_path) == []


@needs_mount
def test_without_a_watch_nothing_is_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = shutil.which("fusermount3")
    assert helper
    programs, at = tmp_path / "programs", tmp_path / "mount"
    programs.mkdir()
    at.mkdir()
    (programs / "fusermount3").symlink_to(helper)
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(CannotMount, match="sh cannot be run"), mounted(at, "vault", allow_other=False):
        pass
    assert mounts_at(at) == []


@needs_mount
def test_a_mount_that_cannot_be_taken_away_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sh, helper = shutil.which("sh"), shutil.which("fusermount3")
    assert sh
    assert helper
    programs, at = tmp_path / "programs", tmp_path / "mount"
    programs.mkdir()
    at.mkdir()
    (programs / "fusermount3").symlink_to(helper)
    (programs / "sh").symlink_to(sh)

    def until_the_helper_is_gone() -> None:
        with mounted(at, "vault", allow_other=False) as channel:
            os.close(channel)
            (programs / "fusermount3").unlink()

    with monkeypatch.context() as patched:
        patched.setenv("PATH", str(programs))
        with pytest.raises(StillMounted, match="fusermount3 -u"):
            until_the_helper_is_gone()
    assert mounts_at(at) == ["fuse.oort"]
    unmount(at)


@needs_mount
def test_a_process_that_is_killed_the_moment_it_has_mounted_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from client.mount import mounting;"
        "real = mounting._channel;"
        "mounting._channel = lambda *a, **b: (real(*a, **b), os.kill(os.getpid(), signal.SIGKILL));"
        "mounting.mounted(Path(sys.argv[1]), 'vault', allow_other=False).__enter__()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with Path("/proc/self/mounts").open() as mounts:
        watch = select.poll()
        watch.register(mounts, select.POLLERR | select.POLLPRI)
        assert subprocess.run(command, check=False, timeout=SECONDS).returncode < 0
        while mounts_at(tmp_path):  # the kernel says when there are others
            assert watch.poll(SECONDS * 1000)
