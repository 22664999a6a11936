"""A vault on the nodes copied to a disk, and from there into another vault on the nodes."""

from pathlib import Path

import pytest

from client.restore.compare import differences
from deploy.driver import Device
from deploy.tests.end_to_end.restic import Restic
from deploy.tests.end_to_end.trees import a_tree, restored

pytestmark = pytest.mark.needs("restic")


def test_a_vault_goes_from_the_nodes_to_a_disk_and_back(device: Device, tmp_path: Path) -> None:
    source = a_tree(tmp_path / "source")
    device.backup("main", source)
    (source / "later").write_text("later")
    device.backup("main", source)
    device.tool.ok("vault", "add", "--local", str(tmp_path / "disk"), "--name", "disk")
    device.tool.ok("copy", "--from", "main", "--to", "disk")
    disk = Restic(tmp_path / "disk", device.recovery("disk")["password"])
    disk.check()
    assert len(device.snapshots("disk")) == 2
    device.request_vault("back")
    nothing = device.tool.ok("copy", "--from", "back", "--to", "disk", "--json").summary()
    assert (nothing["copied"], nothing["present"]) == ([], 0)  # of a vault that was never used
    device.tool.ok("copy", "--from", "disk", "--to", "back")
    again = device.tool.ok("copy", "--from", "main", "--to", "back", "--json").summary()
    assert (again["copied"], again["present"], again["uploaded_bytes"]) == ([], 2, 0)
    device.tool.ok("check", "--vault", "back", "--read-data")
    device.restore("back", tmp_path / "target")
    assert not list(differences(source, restored(tmp_path / "target", source)))
