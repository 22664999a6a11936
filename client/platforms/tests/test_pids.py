import os
import subprocess
import sys
from pathlib import Path

import pytest

from client.platforms.pids import is_gone, pid_space

TELL = "from client.platforms.pids import pid_space; print(pid_space(), end='')"


def test_processes_of_one_boot_and_namespace_share_a_space() -> None:
    child = subprocess.run([sys.executable, "-c", TELL], capture_output=True, text=True, check=True)
    assert child.stdout == pid_space()
    assert len(child.stdout) == 32


@pytest.mark.needs("unshare")
def test_a_container_is_another_space() -> None:
    container = ["unshare", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*container, "true"], capture_output=True, check=False).returncode:
        pytest.skip("namespaces may not be made here")
    inside = subprocess.run([*container, sys.executable, "-c", TELL], capture_output=True, text=True, check=True)
    assert len(inside.stdout) == 32
    assert inside.stdout != pid_space()


def test_another_boot_or_namespace_is_another_space(tmp_path: Path) -> None:
    def space_of(boot: str, namespace: str) -> str:
        (tmp_path / "boot").write_text(boot)
        (tmp_path / "space").unlink(missing_ok=True)
        (tmp_path / "space").symlink_to(namespace)
        return pid_space(tmp_path / "boot", tmp_path / "space")

    one = space_of("one\n", "pid:[1]")
    assert one == space_of("one\n", "pid:[1]")
    assert len({one, space_of("two\n", "pid:[1]"), space_of("one\n", "pid:[2]")}) == 3


def test_where_the_system_does_not_tell_there_is_no_space(tmp_path: Path) -> None:
    assert pid_space(tmp_path / "boot", tmp_path / "space") == ""


def test_a_process_is_gone_when_it_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert not is_gone(child.pid)
        child.communicate(b"\n")
    assert is_gone(child.pid)
    assert not is_gone(os.getpid())
    assert not is_gone(2**70)
