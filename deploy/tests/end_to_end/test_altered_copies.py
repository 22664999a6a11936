"""What is altered on one storage node costs nothing while another has it whole, and little where none has."""

import os
from pathlib import Path

import pytest

from client.restore.compare import differences
from deploy.driver import Device, Operator
from deploy.tests.end_to_end.conftest import a_device
from deploy.tests.end_to_end.trees import MIB, a_tree, incompressible, restored
from deploy.tests.end_to_end.waiting import wait_for_copies_of

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
def test_what_is_altered_or_cut_off_on_one_node_is_read_from_the_other(stack: Operator, tmp_path: Path) -> None:
    device: Device = a_device(stack, tmp_path / "home")
    source = a_tree(tmp_path / "source")
    device.backup("main", source)
    device.request_vault("cut off")
    device.backup("cut off", source)
    for vault, harm in (("main", alter_packs), ("cut off", cut_off_packs)):
        bucket = device.recovery(vault)["bucket"]
        wait_for_copies_of(stack, bucket)
        first, _second = stack.bucket_folders(bucket)
        assert harm(first)

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


@pytest.mark.long
def test_what_is_altered_on_both_is_found_and_only_what_it_held_is_lost(stack: Operator, tmp_path: Path) -> None:
    device = a_device(stack, tmp_path / "home")
    source = incompressible(tmp_path / "source/large", 24, seed=5).parent
    small = [f"small {number}" for number in range(40)]  # some in either of the two packs that are filled at once
    for name in small:
        (source / name).write_text(f"{name} is still whole")
    device.backup("main", source)
    bucket = device.recovery("main")["bucket"]
    wait_for_copies_of(stack, bucket)
    folders = stack.bucket_folders(bucket)
    packs = sorted(folders[0].glob("data/*/*"), key=lambda path: path.stat().st_size)
    damaged = packs[-1].relative_to(folders[0])
    for folder in folders:
        body = bytearray((folder / damaged).read_bytes())
        body[len(body) // 2] ^= 1
        (folder / damaged).write_bytes(body)
    checked = device.tool.run("check", "--vault", "main", "--read-data")
    assert checked.code == 8
    assert damaged.name[:8] in checked.stdout + checked.stderr
    wait_for_copies_of(stack, bucket, missing=2)  # both are known not to be whole
    target = tmp_path / "target"
    restore = device.tool.run("restore", "latest", "--vault", "main", "--target", str(target))
    assert restore.code == 8
    assert "large" in restore.stdout + restore.stderr
    assert "Traceback" not in restore.stderr
    for name in small:
        assert (target / source.relative_to("/") / name).read_text() == f"{name} is still whole"
    lost = target / source.relative_to("/") / "large"
    assert not lost.exists() or lost.stat().st_size != 24 * MIB
