"""Several devices of one user: one vault, each other's snapshots, nothing sent twice."""

from pathlib import Path

from client.restore.compare import differences
from deploy.driver import Device, Operator
from deploy.tests.end_to_end.conftest import a_user
from deploy.tests.end_to_end.trees import a_tree, restored


def test_a_second_device_sees_the_vault_and_sends_at_most_a_hundredth_again(stack: Operator, tmp_path: Path) -> None:
    name, password = a_user(stack)
    first, second = Device(tmp_path / "first"), Device(tmp_path / "second")
    first.log_in(stack, name, password)
    first.request_vault("shared")
    second.log_in(stack, name, password)
    source = a_tree(tmp_path / "source")

    sent = first.backup("shared", source)
    again = second.backup("shared", source)

    assert sent["uploaded_bytes"] > 9_000_000
    assert again["uploaded_bytes"] <= sent["uploaded_bytes"] / 100
    assert [vault["name"] for vault in second.tool.ok("vault", "list", "--json").json()] == ["shared"]
    assert sent["snapshot"][:8] not in second.tool.ok("snapshots", "--vault", "shared").stdout
    assert sent["snapshot"][:8] in second.tool.ok("snapshots", "--vault", "shared", "--all-devices").stdout
    seen = {device.home: {one["id"] for one in device.snapshots("shared")} for device in (first, second)}
    assert seen[first.home] == seen[second.home] == {sent["snapshot"], again["snapshot"]}
    second.restore("shared", tmp_path / "target", sent["snapshot"])
    assert not list(differences(source, restored(tmp_path / "target", source)))


def test_a_password_change_on_one_device_leaves_the_other_working(stack: Operator, tmp_path: Path) -> None:
    name, password = a_user(stack)
    first, second = Device(tmp_path / "first"), Device(tmp_path / "second")
    for device in (first, second):
        device.log_in(stack, name, password)
    first.request_vault("shared")
    source = a_tree(tmp_path / "source")
    first.backup("shared", source)

    changed = "a quite different pass phrase 91"
    first.tool.ok("password", "change", "--password-stdin", stdin=f"{password}\n{changed}\n")

    second.backup("shared", source)
    first.backup("shared", source)
    third = Device(tmp_path / "third")
    found = stack.env
    login = ("login", "--server", found["OORT_AUTH"], "--ca", found["OORT_CA"], "--username", name, "--password-stdin")
    assert third.tool.run(*login, stdin=password).code == 4
    third.tool.ok(*login, stdin=changed)
    refused = third.tool.run("restore", "latest", "--target", str(tmp_path / "none"), "--vault", "shared")
    assert (refused.code, "--all-devices" in refused.stderr) == (6, True)
    third.restore("shared", tmp_path / "target", "latest", "--all-devices")
    assert not list(differences(source, restored(tmp_path / "target", source)))


def test_an_unchanged_backup_sends_next_to_nothing(device: Device, tmp_path: Path) -> None:
    source = a_tree(tmp_path / "source")
    device.backup("main", source)
    again = device.backup("main", source)
    assert again["files_new"] == again["files_changed"] == 0
    # The folders above the source are part of the snapshot, and others change the one for temporary files.
    assert again["new_bytes"] < 5_000
    assert again["uploaded_bytes"] < 10_000


def test_jobs_tell_what_was_done(device: Device, tmp_path: Path) -> None:
    source = a_tree(tmp_path / "source")
    summary = device.backup("main", source)
    (job,) = device.tool.ok("jobs", "--json").json()
    assert (job["id"], job["status"], job["kind"]) == (summary["job"], 5000, 4001)
    assert job["snapshot"] == summary["snapshot"]
