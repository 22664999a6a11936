"""What is altered on one storage node costs nothing while another has it whole."""

import os
from pathlib import Path

import pytest

from client.restore.compare import differences
from deploy.driver import Device, Operator
from deploy.tests.end_to_end.conftest import a_device
from deploy.tests.end_to_end.trees import a_tree, restored
from deploy.tests.end_to_end.waiting import wait_for_copies

_RESTORES = 4  # a restore asks either node first


def packs_of(folder: Path) -> list[Path]:
    return [path for path in (folder / "data").rglob("*") if path.is_file()]


def cut_off_packs(folder: Path) -> int:
    """Leave the first kilobyte of each pack of one copy."""
    packs = packs_of(folder)
    for path in packs:
        path.chmod(0o600)
        os.truncate(path, 1_000)
    return len(packs)


def alter_packs(folder: Path) -> int:
    """Flip a byte in every 50,000 of each pack of one copy; sizes and times stay."""
    packs = packs_of(folder)
    for path in packs:
        body = bytearray(path.read_bytes())
        for at in range(20, len(body), 50_000):
            body[at] ^= 1
        path.chmod(0o600)
        path.write_bytes(body)
    return len(packs)


@pytest.mark.long
def test_what_is_altered_or_cut_off_on_one_node_is_read_from_the_other(own_stack: Operator, tmp_path: Path) -> None:
    device: Device = a_device(own_stack, tmp_path / "home")
    source = a_tree(tmp_path / "source")
    device.backup("main", source)
    device.request_vault("cut off")
    device.backup("cut off", source)
    wait_for_copies(own_stack)
    first, _second = own_stack.bucket_folders(device.recovery("main")["bucket"])
    assert alter_packs(first)
    first, _second = own_stack.bucket_folders(device.recovery("cut off")["bucket"])
    assert cut_off_packs(first)

    device.restore("cut off", tmp_path / "target")
    assert not list(differences(source, restored(tmp_path / "target", source)))

    for number in range(_RESTORES):
        target = tmp_path / f"target-{number}"
        device.restore("main", target)
        assert not list(differences(source, restored(target, source)))
        device.tool.ok("ls", "latest", "--vault", "main")
        device.tool.ok("check", "--vault", "main")
    device.tool.ok("check", "--vault", "main", "--read-data")
    (source / "new").write_text("after")
    assert device.backup("main", source)["files_new"] == 1
