"""SIGKILL at any moment on a vault that lies on a disk of the device: nothing half-written, and the next run works."""

import subprocess
from pathlib import Path
from random import Random

from client.restore.compare import differences
from deploy.driver import Device
from deploy.tests.end_to_end.test_killed import events, start_backup
from deploy.tests.end_to_end.trees import MIB, incompressible, restored

FILES = 4
FILE_MIB = 16
# What is in flight or not listed yet when a backup is killed, and so sent again (docs/decisions/checkpoints.md).
LOST_AT_MOST = 64 * MIB


def test_killed_backups_and_restores_leave_nothing_half_written(device: Device, tmp_path: Path) -> None:
    random = Random(9)
    for number in range(FILES):
        incompressible(tmp_path / f"source/file-{number}", FILE_MIB, seed=90 + number)
    source, vault = tmp_path / "source", tmp_path / "disk"
    device.tool.ok("vault", "add", "--local", str(vault), "--name", "disk")

    for _ in range(2):
        with start_backup(device, "disk", source) as process:
            kill_after(process, "uploaded_bytes", random.randint(0, FILES * FILE_MIB // 2) * MIB)
        device.tool.ok("check", "--vault", "disk", "--read-data")
    stored = sum(path.stat().st_size for path in (vault / "data").rglob("*") if path.is_file())
    summary = device.backup("disk", source)
    assert stored + summary["uploaded_bytes"] <= FILES * FILE_MIB * MIB + 2 * LOST_AT_MOST
    device.tool.ok("check", "--vault", "disk", "--read-data")

    for number in range(2):
        target = tmp_path / f"killed-{number}"
        line = device.tool.line("restore", "latest", "--target", str(target), "--vault", "disk", "--json")
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            kill_after(process, "done_bytes", random.randint(1, FILES * FILE_MIB - 1) * MIB)
        for path in target.rglob("*"):
            if path.is_file() and not path.name.startswith(".oort-"):
                assert path.read_bytes() == (source / path.name).read_bytes()
        is_done = target.exists() and any(target.iterdir()) and not (target / ".oort-restore").exists()
        if not is_done:
            device.restore("disk", target)
        assert not list(differences(source, restored(target, source)))


def kill_after(process: "subprocess.Popen[str]", counted: str, size: int) -> None:
    """End it by SIGKILL when it says that it has come so far, unless it is done before."""
    for event in events(process):
        if event["type"] == "progress" and event[counted] >= size:
            break
    process.kill()
