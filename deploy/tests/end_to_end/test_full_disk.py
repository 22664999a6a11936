"""Full disks and read-only ones, for real: memory disks, mounted in a namespace that only the tested command sees."""

import json
import os
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from client.restore.compare import differences
from deploy.driver import Command, Device, Operator, Outcome
from deploy.local.folder import USUAL_NODES, StackFolder
from deploy.local.roles import nodes
from deploy.tests.end_to_end.conftest import a_device
from deploy.tests.end_to_end.trees import MIB, incompressible, restored

pytestmark = pytest.mark.needs("unshare")

# The command stays the user it was, who alone owns files there: as root it would want to set owners.
NAMESPACE = ("unshare", "--user", "--map-current-user", "--keep-caps", "--mount", "sh", "-c")


def with_disks(command: Command, *disks: Path, size: str) -> Command:
    """The command in a namespace of its own, where a memory disk of `size` lies over each of these folders."""
    mounts = [f"mount -t tmpfs -o size={size} none {shlex.quote(str(disk))}" for disk in disks]
    return replace(command, prefix=(*NAMESPACE, " && ".join([*mounts, 'exec "$0" "$@"'])))


def assert_full(outcome: Outcome, *words: str) -> None:
    assert outcome.code == 7, outcome.stderr
    last = outcome.stderr.strip().splitlines()[-1]
    assert last.startswith("backup-tool: ")
    assert "full" in last or "space" in last
    assert "Traceback" not in outcome.stderr
    for word in words:
        assert word in last


@pytest.fixture
def stack_on_small_disks(tmp_path: Path) -> Iterator[Operator]:
    """A stack whose nodes have 200 MiB above the mark below which they take nothing more."""
    operator = Operator(tmp_path / "stack")
    folder = StackFolder.create(operator.data)
    disks = [folder.node(node.name) for node in nodes(USUAL_NODES)]
    for disk in disks:
        disk.mkdir(mode=0o700)
    operator.oort = with_disks(operator.oort, *disks, size="1224m")
    operator.up()
    operator.oort = replace(operator.oort, prefix=())
    yield operator
    operator.down()


@pytest.mark.long
def test_full_nodes_end_a_backup_with_one_line_go_on_serving_and_are_pruned(
    stack_on_small_disks: Operator, tmp_path: Path
) -> None:
    device = a_device(stack_on_small_disks, tmp_path / "home")
    small = tmp_path / "small"
    files = [incompressible(small / f"{number:02}", 1, seed=number) for number in range(96)]
    device.backup("main", small)
    for unneeded in files[::2]:
        unneeded.unlink()
    kept = device.backup("main", small)
    large = incompressible(tmp_path / "large/file", 320, seed=96).parent

    assert_full(device.tool.run("backup", str(large), "--vault", "main"))

    # What is needed lies in every pack: there may be room for a new one, not for all 48 MiB, and for the index file.
    pruned = device.tool.run("retention", "--keep-last", "1", "--prune", "--yes", "--json", "--vault", "main")
    assert (pruned.code, pruned.summary()["removed"] != []) == (3, True), pruned.stderr
    found = pruned.summary()["prune"]
    assert found["unmoved_packs"] > 0
    assert found["freed_bytes"] > 64 * MIB
    assert "could not be repacked" not in pruned.stderr  # with --json it is in the document
    assert [one["id"] for one in device.snapshots("main")] == [kept["snapshot"]]
    device.restore("main", tmp_path / "target")
    assert not list(differences(small, restored(tmp_path / "target", small)))
    device.tool.ok("check", "--vault", "main")


def test_a_full_target_ends_a_restore_with_one_line(device: Device, tmp_path: Path) -> None:
    source = incompressible(tmp_path / "source/file", 32, seed=3).parent
    device.backup("main", source)
    disk = tmp_path / "disk"
    disk.mkdir()
    tool = with_disks(device.tool, disk, size="8m")
    assert_full(tool.run("restore", "latest", "--vault", "main", "--target", str(disk / "target")))


def test_a_full_local_vault_ends_a_backup_with_one_line_and_holds_no_half_object(
    device: Device, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    source = incompressible(tmp_path / "source/file", 64, seed=4).parent
    # Both commands in one namespace, since the disk is gone with it; the objects are copied out to be looked at.
    script = (
        '"$0" "$@" vault add --local "$DISK/vault" --name small && "$0" "$@" backup "$SOURCE" --vault small; '
        'code=$?; cp -r "$DISK/vault" "$COPY"; exit $code'
    )
    prefix = with_disks(device.tool, disk, size="24m").prefix
    env = {**os.environ, "DISK": str(disk), "SOURCE": str(source), "COPY": str(tmp_path / "copy")}
    tool = replace(device.tool, prefix=(*prefix, "sh", "-c", script), env=env)
    assert_full(tool.run())
    packs = [path for path in (tmp_path / "copy/data").rglob("*") if path.is_file()]
    assert not list((tmp_path / "copy/snapshots").iterdir())
    assert sum(path.stat().st_size for path in packs) < 24 * MIB
    assert all(len(path.name) == 64 for path in packs)


def test_a_full_local_vault_is_freed_by_a_prune_as_far_as_there_is_room(device: Device, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    source = tmp_path / "source"
    # So many folders of two small files each that no pack has unneeded ones alone, and none goes before others move.
    folders = [source / f"{number:03}" for number in range(192)]
    random = Random(8)
    for folder in folders:
        folder.mkdir(parents=True)
        for name in ("needed", "unneeded"):
            (folder / name).write_bytes(random.randbytes(MIB // 8))
    vault = ("--vault", "small")
    prune = ("retention", "--keep-last", "1", "--prune", "--yes", "--json", *vault)
    steps = [
        ("vault", "add", "--local", str(disk / "vault"), "--name", "small"),
        ("backup", str(source), *vault),
        ("rm", *(str(folder / "unneeded") for folder in folders)),
        ("backup", str(source), *vault),
        ("fill",),
        prune,
        ("rm", str(disk / "filler")),
        prune,
        ("check", "--read-data", *vault),
    ]
    lines = ['fill() { dd if=/dev/zero of="$DISK/filler" bs=4K 2>/dev/null; true; }']  # to the last byte
    for number, step in enumerate(steps):
        own = "" if step[0] in ("rm", "fill") else '"$0" "$@" '
        lines.append(f"{own}{shlex.join(step)} >{tmp_path}/out-{number} 2>{tmp_path}/err-{number}; echo $?")
    prefix = with_disks(device.tool, disk, size="80m").prefix
    tool = replace(device.tool, prefix=(*prefix, "sh", "-c", "\n".join(lines)), env={**os.environ, "DISK": str(disk)})
    codes = list(map(int, tool.run().stdout.split()))
    said = [(tmp_path / f"err-{number}").read_text() for number in range(len(steps))]
    assert codes == [0, 0, 0, 0, 0, 3, 0, 0, 0], said
    full, free = (json.loads((tmp_path / f"out-{number}").read_text().splitlines()[-1])["prune"] for number in (5, 7))
    assert full["unmoved_packs"] > 0
    assert (free["unmoved_packs"], full["freed_bytes"] + free["freed_bytes"] > 24 * MIB) == (0, True)


def test_a_full_disk_under_the_cache_does_not_stop_a_backup(device: Device, tmp_path: Path) -> None:
    source = incompressible(tmp_path / "source/file", 24, seed=5).parent
    cache = device.home / "vaults"
    cache.mkdir(exist_ok=True, mode=0o700)
    tool = with_disks(device.tool, cache, size="16k")
    summary = tool.ok("backup", str(source), "--vault", "main", "--json").summary()
    assert [one["id"] for one in device.snapshots("main")] == [summary["snapshot"]]


def read_only(command: Command, disk: Path) -> Command:
    """The command in a namespace of its own, where what lies in this folder cannot be written, not even by root."""
    folder = shlex.quote(str(disk))
    script = f'mount --bind {folder} {folder} && mount -o remount,bind,ro {folder} && exec "$0" "$@"'
    return replace(command, prefix=(*NAMESPACE, script))


def assert_refused(outcome: Outcome, code: int, place: Path) -> None:
    (line,) = outcome.stderr.splitlines()
    assert outcome.code == code, line
    assert line.startswith("backup-tool: ")
    assert str(place) in line
    assert "read-only" in line.lower()


def test_a_read_only_target_refuses_a_restore_with_one_line(device: Device, tmp_path: Path) -> None:
    source = incompressible(tmp_path / "source/file", 1, seed=6).parent
    device.backup("main", source)
    disk = tmp_path / "disk"
    (disk / "empty").mkdir(parents=True)
    tool = read_only(device.tool, disk)
    for target in (disk / "new", disk / "empty"):
        assert_refused(tool.run("restore", "latest", "--vault", "main", "--target", str(target)), 2, target)
    assert [path.name for path in disk.rglob("*")] == ["empty"]
    assert [job["status"] for job in device.tool.ok("jobs", "--json").json()] == [7002, 7002, 5000]


def test_a_read_only_local_vault_is_restored_from_and_refuses_a_backup(device: Device, tmp_path: Path) -> None:
    source = incompressible(tmp_path / "source/file", 1, seed=7).parent
    vault = tmp_path / "disk/vault"
    device.tool.ok("vault", "add", "--local", str(vault), "--name", "disk")
    device.backup("disk", source)
    tool = read_only(device.tool, vault.parent)
    tool.ok("restore", "latest", "--vault", "disk", "--target", str(tmp_path / "target"))
    assert not list(differences(source, restored(tmp_path / "target", source)))
    tool.ok("check", "--vault", "disk", "--read-data")
    (source / "new").write_text("new")
    assert_refused(tool.run("backup", str(source), "--vault", "disk"), 5, vault)
    assert len(device.snapshots("disk")) == 1
    device.backup("disk", source)
