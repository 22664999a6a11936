"""The limits of a device's line hold on the way to storage nodes."""

from pathlib import Path

import pytest

from client.cli.program import run
from client.restore.compare import differences
from client.testing.limits import Watch
from deploy.driver import Device, Operator
from deploy.tests.end_to_end.conftest import a_user
from deploy.tests.end_to_end.trees import MIB, incompressible, restored

SIZE = 48 * MIB
PACK = 16 * MIB


def test_a_backup_to_nodes_and_a_restore_from_them_go_at_the_rates_of_the_line(
    stack: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, password = a_user(stack)
    device = Device(tmp_path / "home")
    options = ("--server", stack.env["OORT_AUTH"], "--ca", stack.env["OORT_CA"], "--username", name)
    device.tool.ok("login", *options, "--password-stdin", stdin=password)
    device.request_vault("main")
    source = incompressible(tmp_path / "source/file", SIZE // MIB, seed=73).parent
    watch = Watch()
    monkeypatch.setattr("client.stores.limited.Line", watch.line)

    def command(*arguments: str) -> int:
        watch.longest = 0
        return run(["--home", str(device.home), *arguments, "--vault", "main"])

    assert command("backup", str(source), "--limit-upload", "1M") == 0
    assert SIZE / MIB <= watch.longest < SIZE / MIB + 2, "the index file waits for all packs"
    assert command("restore", "latest", "--target", str(tmp_path / "target"), "--limit-download", "2M") == 0
    assert (SIZE - PACK) / MIB / 2 <= watch.longest < SIZE / MIB / 2 + 2
    assert not list(differences(source, restored(tmp_path / "target", source)))
