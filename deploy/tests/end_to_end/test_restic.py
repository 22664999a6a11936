"""A vault is a restic repository: restic reads ours, we read restic's."""

from pathlib import Path

import pytest

from client.restore.compare import differences
from deploy.driver import Device, Operator
from deploy.tests.end_to_end.restic import Restic
from deploy.tests.end_to_end.trees import NOT_TEXT, SOCKET, a_tree, every_kind, restored
from deploy.tests.end_to_end.waiting import wait_for_copies_of

pytestmark = pytest.mark.needs("restic")


def test_restic_checks_and_restores_the_copy_on_either_node(stack: Operator, device: Device, tmp_path: Path) -> None:
    source = a_tree(tmp_path / "source")
    device.backup("main", source)
    recovery = device.recovery("main")
    wait_for_copies_of(stack, recovery["bucket"])
    folders = stack.bucket_folders(recovery["bucket"])
    assert len(folders) == 2
    for number, folder in enumerate(folders):
        restic = Restic(folder, recovery["password"], "--no-lock")
        restic.check()
        target = tmp_path / f"by-restic-{number}"
        restic.run("restore", "latest", "--target", str(target))
        assert not list(differences(source, restored(target, source)))


def test_every_kind_of_file_goes_through_our_backup_and_restic_s_restore(device: Device, tmp_path: Path) -> None:
    """Holes apart, for restic restores with holes from 0.15 only: our own restore of the same snapshot has them."""
    source = every_kind(tmp_path / "source")
    device.tool.ok("vault", "add", "--local", str(tmp_path / "disk"), "--name", "disk")
    device.backup("disk", source)
    recovery = device.recovery("disk")
    restic = Restic(Path(recovery["path"]), recovery["password"])
    restic.check()
    restic.run("restore", "latest", "--target", str(tmp_path / "by-restic"))
    by_restic = restored(tmp_path / "by-restic", source)
    assert not list(differences(source, by_restic, skipped=frozenset({SOCKET, NOT_TEXT})))
    device.restore("disk", tmp_path / "by-us")
    by_us = restored(tmp_path / "by-us", source)
    assert not list(differences(source, by_us, skipped=frozenset({SOCKET}), holes=True))
    assert is_sound(device, "disk")


@pytest.mark.parametrize("version", ["1", "2"])
def test_every_kind_of_file_goes_through_restic_s_backup_and_our_restore(
    device: Device, tmp_path: Path, version: str
) -> None:
    source = every_kind(tmp_path / "source")
    restic = Restic(tmp_path / "repository", "made by restic")
    restic.run("init", "--repository-version", version)
    restic.run("backup", str(source))
    device.tool.ok(
        *("vault", "add", "--local", str(restic.repository), "--name", "theirs", "--repository-password-stdin"),
        stdin="made by restic",
    )
    (snapshot,) = device.snapshots("theirs")
    assert snapshot["paths"] == [str(source)]
    listed = device.tool.ok("ls", snapshot["short_id"], str(source), "--vault", "theirs", "--json").json()
    assert {Path(node["path"]).name for node in listed} >= {"documents", "pictures", "to-letter", "pipe"}
    device.restore("theirs", tmp_path / "by-us")
    by_us = restored(tmp_path / "by-us", source)
    assert not list(differences(source, by_us, skipped=frozenset({SOCKET, NOT_TEXT}), holes=True))
    assert is_sound(device, "theirs")


def is_sound(device: Device, vault: str) -> bool:
    """Whether the strict check has no complaint, not even a note."""
    found = device.tool.ok("check", "--vault", vault, "--read-data", "--json").json()
    return (found["errors"], found["notes"]) == (0, 0)


def test_a_wrong_repository_password_is_refused_and_nothing_is_added(device: Device, tmp_path: Path) -> None:
    restic = Restic(tmp_path / "repository", "right")
    restic.run("init")
    refused = device.tool.run(
        *("vault", "add", "--local", str(restic.repository), "--name", "theirs", "--repository-password-stdin"),
        stdin="wrong",
    )
    assert refused.code == 4
    assert [vault["name"] for vault in device.tool.ok("vault", "list", "--json").json()] == ["main"]
