"""After a fire: the storage database is gone, the disks are not."""

import os
from pathlib import Path

import pytest

from client.testing.damage import remove
from deploy.driver import Operator
from deploy.local.folder import StackFolder
from deploy.tests.catalogue import lose_the_storage_database
from deploy.tests.end_to_end.conftest import a_device
from deploy.tests.end_to_end.trees import restored
from deploy.tests.end_to_end.waiting import wait_for_copies


@pytest.mark.long
def test_a_lost_storage_database_is_made_again_from_the_disks(own_stack: Operator, tmp_path: Path) -> None:
    device = a_device(own_stack, tmp_path / "home")
    source = tmp_path / "source"
    source.mkdir()
    for name in ("one", "two"):
        (source / name).write_bytes(os.urandom(3_000_000))
        device.backup("main", source)
    wait_for_copies(own_stack)
    folders = own_stack.bucket_folders(device.recovery("main")["bucket"])
    pack = next(folders[0].glob("data/*/*")).relative_to(folders[0])

    lose_the_storage_database(StackFolder.find(own_stack.data))
    remove(folders[0] / pack, folders[0] / pack)
    own_stack.down()
    own_stack.up()
    data = ("--data", str(own_stack.data))
    assert device.tool.run("snapshots", "--vault", "main").code != 0
    found = own_stack.oort.ok("node", "rescan", "--json", *data).json()
    assert [(one["node"], one["buckets"], one["new_homes"], one["left_out"]) for one in found] == [
        (node, 1, 1, []) for node in own_stack.status()["nodes"]
    ]
    assert sum(one["entered_keys"] for one in found) >= 1
    assert "brake" not in own_stack.oort.ok("bucket", "basket", device.recovery("main")["bucket"], *data).stdout
    wait_for_copies(own_stack)
    assert (folders[0] / pack).read_bytes() == (folders[1] / pack).read_bytes()
    own_stack.oort.ok("bucket", "scrub", "--all", *data)

    assert len(device.snapshots("main")) == 2
    device.tool.ok("check", "--vault", "main", "--read-data")
    assert device.backup("main", source)["files_unmodified"] == 2
    target = tmp_path / "target"
    device.restore("main", target)
    for name in ("one", "two"):
        assert (restored(target, source) / name).read_bytes() == (source / name).read_bytes()
    again = own_stack.oort.ok("node", "rescan", "node-b", *data)
    assert again.stdout == "node-b: buckets: 1, objects entered: 0 (0 bytes).\n"
    assert own_stack.oort.run("node", "rescan", "node-x", *data).code == 6
