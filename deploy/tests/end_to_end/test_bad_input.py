"""Bad input gets one clear line that says what to do, the right exit code, no traceback, and leaves nothing behind."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.driver import Device, Operator, Outcome
from deploy.local.certificates import CertificateAuthority
from deploy.local.ports import free_port
from deploy.tests.end_to_end.conftest import a_device, a_user
from deploy.tests.end_to_end.trees import MIB, a_tree, incompressible
from deploy.tests.end_to_end.waiting import wait_for_copies, wait_until


def assert_refused(outcome: Outcome, code: int, *words: str) -> None:
    said = outcome.stderr
    assert outcome.code == code, said
    assert len(said.strip().splitlines()) == 1, said
    assert "Traceback" not in said
    for word in words:
        assert word in said, said


def log_in(device: Device, operator: Operator, name: str, password: str, **changed: str) -> Outcome:
    found = {"server": operator.env["OORT_AUTH"], "ca": operator.env["OORT_CA"], **changed}
    options = ("--server", found["server"], "--ca", found["ca"], "--username", name, "--password-stdin")
    return device.tool.run("login", *options, stdin=password)


def test_a_weak_password_is_refused_for_a_new_user(stack: Operator) -> None:
    options = ("--password-stdin", "--data", str(stack.data))
    assert_refused(stack.oort.run("user", "add", "weak", *options, stdin="12345678"), 4, "weak")
    listed = stack.oort.ok("user", "list", "--data", str(stack.data), "--json").json()
    assert "weak" not in {user["username"] for user in listed}


def test_a_wrong_password_and_an_unknown_user_are_told_the_same(stack: Operator, tmp_path: Path) -> None:
    name, _ = a_user(stack)
    device = Device(tmp_path / "home")
    wrong = log_in(device, stack, name, "not the password 1")
    unknown = log_in(device, stack, "nobody-at-all", "not the password 1")
    assert_refused(wrong, 4, "Wrong user name or password")
    assert_refused(unknown, 4)
    assert wrong.stderr == unknown.stderr
    assert_refused(device.tool.run("vault", "list"), 4, "not logged in")


def test_a_wrong_ca_and_a_wrong_address_are_told_apart(stack: Operator, tmp_path: Path) -> None:
    name, password = a_user(stack)
    device = Device(tmp_path / "home")
    other = CertificateAuthority.open(tmp_path / "other-ca", datetime.now(UTC))
    assert_refused(log_in(device, stack, name, password, ca=str(other.ca)), 5, "certificate")
    nowhere = f"127.0.0.1:{free_port()}"
    assert_refused(log_in(device, stack, name, password, server=nowhere), 5, nowhere)
    assert_refused(log_in(device, stack, name, password, ca=str(tmp_path / "no.pem")), 2, "no.pem")


def test_a_missing_template_a_taken_name_and_an_unknown_vault_are_named(device: Device, tmp_path: Path) -> None:
    assert_refused(device.tool.run("vault", "request", "--template", "gold", "--name", "v"), 6, "gold", "default")
    assert_refused(device.tool.run("vault", "request", "--template", "default", "--name", "main"), 1, "main")
    local = tmp_path / "disk"
    assert_refused(device.tool.run("vault", "add", "--local", str(local), "--name", "main"), 1, "main")
    assert not local.exists()
    assert_refused(device.tool.run("snapshots", "--vault", "other"), 6, "other")
    assert [vault["name"] for vault in device.tool.ok("vault", "list", "--json").json()] == ["main"]


def test_a_path_that_does_not_exist_and_a_target_that_is_not_empty_are_refused(device: Device, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert_refused(device.tool.run("backup", str(missing), "--vault", "main"), 2, str(missing))
    assert device.snapshots("main") == []
    device.backup("main", a_tree(tmp_path / "source"))
    target = tmp_path / "target"
    target.mkdir()
    (target / "mine").write_text("mine")
    assert_refused(device.tool.run("restore", "latest", "--vault", "main", "--target", str(target)), 2, str(target))
    assert [path.name for path in target.iterdir()] == ["mine"]
    assert_refused(
        device.tool.run("restore", "0123abcd", "--vault", "main", "--target", str(tmp_path / "t")), 6, "0123abcd"
    )


@pytest.mark.long
def test_an_altered_object_is_found_and_only_what_it_held_is_lost(own_stack: Operator, tmp_path: Path) -> None:
    device = a_device(own_stack, tmp_path / "home")
    source = incompressible(tmp_path / "source/large", 24, seed=5).parent
    small = [f"small {number}" for number in range(40)]  # some in either of the two packs that are filled at once
    for name in small:
        (source / name).write_text(f"{name} is still whole")
    device.backup("main", source)
    wait_for_copies(own_stack)
    folders = own_stack.bucket_folders(device.recovery("main")["bucket"])
    packs = sorted(folders[0].glob("data/*/*"), key=lambda path: path.stat().st_size)
    damaged = packs[-1].relative_to(folders[0])
    for folder in folders:
        body = bytearray((folder / damaged).read_bytes())
        body[len(body) // 2] ^= 1
        (folder / damaged).write_bytes(body)
    checked = device.tool.run("check", "--vault", "main", "--read-data")
    assert checked.code == 8
    assert damaged.name[:8] in checked.stdout + checked.stderr
    wait_until(own_stack, "both copies are known not to be whole", lambda status: status["missing_copies"] == 2)
    target = tmp_path / "target"
    restore = device.tool.run("restore", "latest", "--vault", "main", "--target", str(target))
    assert restore.code == 8
    assert "large" in restore.stdout + restore.stderr
    assert "Traceback" not in restore.stderr
    for name in small:
        assert (target / source.relative_to("/") / name).read_text() == f"{name} is still whole"
    lost = target / source.relative_to("/") / "large"
    assert not lost.exists() or lost.stat().st_size != 24 * MIB
