"""LMDB environments on disks that are full, and beside others that write."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from client.vault.environments import Database, Environments, Opened

BUDGET = 1 << 20
NAMESPACE = ("unshare", "--user", "--map-current-user", "--keep-caps", "--mount", "sh", "-c")
OPEN = """
import os, sys
from pathlib import Path
from client.vault.environments import Database, environments

disk = Path(sys.argv[1])
with open(disk / "fill", "wb", buffering=0) as file:
    try:
        while file.write(bytes(1 << 12)):
            pass
    except OSError:
        pass
try:
    environments.open(disk / "cache", 1 << 20, [Database(b"one")])
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.needs("unshare")
def test_a_full_disk_is_an_error_and_not_the_end_of_the_program(tmp_path: Path) -> None:
    script = 'mount -t tmpfs -o size=1m none "$0" && exec "$@"'
    command = [*NAMESPACE, script, str(tmp_path), sys.executable, "-c", OPEN, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "No space left on device\n", "")


def test_what_a_drop_has_left_that_was_killed_goes_when_the_folder_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environments, folder, databases = Environments(), tmp_path / "cache", [Database(b"one")]
    (tmp_path / "other.0123abcd.dropped").mkdir()
    environments.open(folder, BUDGET, databases)
    with monkeypatch.context() as killed:
        killed.setattr(shutil, "rmtree", lambda *_, **__: None)
        environments.drop(folder)
    (left,) = tmp_path.glob("cache.*.dropped")
    assert (left / "data.mdb").exists()

    opened = environments.open(folder, BUDGET, databases)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "cache.lock", "other.0123abcd.dropped"]
    environments.close(folder, opened.environment)


WRITE = """
import sys
from pathlib import Path
from client.vault.environments import Database, environments

opened = environments.open(Path(sys.argv[1]), 1 << 20, [Database(b"one")])
with opened.environment.begin(write=True, db=opened.handles[0]) as change:
    change.put(b"key", b"value")
    print("writing", flush=True)
    sys.stdin.readline()
"""


def test_the_interpreter_goes_on_while_another_process_writes(tmp_path: Path) -> None:
    environments = Environments()
    opened: list[Opened] = []

    def open_it() -> None:
        opened.append(environments.open(tmp_path / "cache", BUDGET, [Database(b"one")]))

    command = [sys.executable, "-c", WRITE, str(tmp_path / "cache")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        opening = threading.Thread(target=open_it)
        opening.start()
        writer.communicate("end\n")
        opening.join()
    with opened[0].environment.begin() as reading:
        assert reading.get(b"key", db=opened[0].handles[0]) == b"value"
    environments.close(tmp_path / "cache", opened[0].environment)
