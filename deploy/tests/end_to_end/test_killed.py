"""What is lost when something is killed with SIGKILL: little of the work, nothing of the data."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pytest

from client.restore.compare import differences
from deploy.driver import Device, Operator
from deploy.tests.end_to_end.conftest import a_device
from deploy.tests.end_to_end.restic import Restic
from deploy.tests.end_to_end.trees import MIB, incompressible, restored
from deploy.tests.end_to_end.waiting import wait_for_copies, wait_for_copies_of

LOST_AT_MOST = 64 * MIB
SIZE = 96 * MIB  # so much more that a kill near the end of a backup without checkpoints would lose too much


def start_backup(device: Device, vault: str, source: Path) -> "subprocess.Popen[str]":
    command = device.tool.line("backup", str(source), "--vault", vault, "--json")
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def events(process: "subprocess.Popen[str]") -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)


@pytest.mark.long
def test_a_backup_goes_on_through_the_other_node_when_one_is_killed(own_stack: Operator, tmp_path: Path) -> None:
    device = a_device(own_stack, tmp_path / "home")
    source = incompressible(tmp_path / "source/file", 1024, seed=1).parent
    killed = own_stack.status()["services"]["node-a"]["pid"]
    with start_backup(device, "main", source) as process:
        summary: dict[str, Any] = {}
        for event in events(process):
            if event["type"] == "progress" and event["uploaded_bytes"] > 400 * MIB and psutil.pid_exists(killed):
                os.kill(killed, signal.SIGKILL)
            summary = event
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 0, said
    assert not own_stack.status()["services"]["node-a"]["healthy"]
    assert not own_stack.status()["copies_complete"]

    stored = summary["stored_bytes"]
    assert stored >= 1024 * MIB
    assert summary["uploaded_bytes"] - stored <= LOST_AT_MOST
    device.tool.ok("check", "--vault", "main", "--read-data")
    device.restore("main", tmp_path / "target")
    assert not list(differences(source, restored(tmp_path / "target", source)))

    own_stack.oort.ok("stack", "restart", "node-a", "--data", str(own_stack.data))
    wait_for_copies(own_stack)
    recovery = device.recovery("main")
    for folder in own_stack.bucket_folders(recovery["bucket"]):
        names = {path.name for path in folder.rglob("*") if path.is_file()}
        assert summary["snapshot"] in names


@pytest.mark.long
@pytest.mark.case(number=14)
@pytest.mark.needs("restic")
def test_a_killed_backup_sends_little_again_and_leaves_the_vault_clean(
    stack: Operator, device: Device, tmp_path: Path
) -> None:
    random = Random(20)
    for number in range(10):
        source = incompressible(tmp_path / f"source-{number}/file", SIZE // MIB, seed=100 + number).parent
        moment = random.randint(0, SIZE // MIB - 1) * MIB
        with start_backup(device, "main", source) as process:
            sent = 0
            for event in events(process):
                if event["type"] == "progress":
                    sent = event["uploaded_bytes"]
                    if sent >= moment:
                        break
            process.kill()
            sent = max([sent, *(event["uploaded_bytes"] for event in rest(process) if event["type"] == "progress")])
        summary = device.backup("main", source)
        again = sent + summary["uploaded_bytes"] - SIZE
        assert again <= LOST_AT_MOST, f"killed after {sent} bytes, {again} were sent again"
    recovery = device.recovery("main")
    wait_for_copies_of(stack, recovery["bucket"])
    device.tool.ok("check", "--vault", "main", "--read-data")
    Restic(stack.bucket_folders(recovery["bucket"])[0], recovery["password"], "--no-lock").check()


def rest(process: "subprocess.Popen[str]") -> list[dict[str, Any]]:
    """The whole lines that a killed process had still written."""
    assert process.stdout is not None
    lines = process.stdout.read().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
