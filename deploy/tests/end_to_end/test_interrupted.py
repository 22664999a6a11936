"""A backup or restore that is interrupted ends at once, as a cancelled job, and leaves nothing half-done."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from client.restore.compare import differences
from deploy.driver import Device
from deploy.tests.end_to_end.test_killed import events, start_backup
from deploy.tests.end_to_end.trees import MIB, incompressible, restored

CANCELLED = 7005
PROMPT_SECONDS = 60.0


def last_job(device: Device) -> int:
    found: int = device.tool.ok("jobs", "--json").json()[0]["status"]
    return found


def interrupt(process: "subprocess.Popen[str]", number: signal.Signals) -> None:
    """Interrupt, and see it end; Popen would hang where a thread of the process is left."""
    sent = time.monotonic()
    process.send_signal(number)
    _, said = process.communicate(timeout=PROMPT_SECONDS)
    assert process.returncode == 130, said
    assert json.loads(said)["error"] == "Interrupted"
    assert time.monotonic() - sent < PROMPT_SECONDS


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_backup_ends_at_once_and_the_next_goes_on(
    device: Device, tmp_path: Path, number: signal.Signals
) -> None:
    source = incompressible(tmp_path / "source/file", 192, seed=31).parent
    with start_backup(device, "main", source) as process:
        for event in events(process):
            if event["type"] == "progress" and event["uploaded_bytes"] > 80 * MIB:
                break
        interrupt(process, number)
    assert last_job(device) == CANCELLED
    assert device.snapshots("main") == []
    summary = device.backup("main", source)
    assert summary["uploaded_bytes"] < 192 * MIB
    device.tool.ok("check", "--vault", "main", "--read-data")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_restore_ends_at_once_and_the_same_command_goes_on(
    device: Device, tmp_path: Path, number: signal.Signals
) -> None:
    for each in range(8):
        incompressible(tmp_path / f"source/file-{each}", 24, seed=40 + each)
    source = tmp_path / "source"
    device.backup("main", source)
    target = tmp_path / "target"
    line = device.tool.line("restore", "latest", "--target", str(target), "--vault", "main", "--json")
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for event in events(process):
            if event["type"] == "progress" and event["done_bytes"]:
                break
        interrupt(process, number)
    assert last_job(device) == CANCELLED
    for path in target.rglob("file-*"):
        assert path.read_bytes() == (source / path.name).read_bytes()
    summary = device.tool.ok("restore", "latest", "--target", str(target), "--vault", "main", "--json").summary()
    assert summary["resumed"]
    assert summary["fetched_bytes"] < 8 * 24 * MIB
    assert not list(differences(source, restored(target, source)))
    assert not list(target.rglob(".oort-*"))
