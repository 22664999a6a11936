"""Bad input gets one clear line that says what to do, the right exit code, no traceback, and leaves nothing behind."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from deploy.driver import Device, Operator, Outcome
from deploy.local.certificates import CertificateAuthority
from deploy.tests.end_to_end.conftest import a_user
from deploy.tests.end_to_end.trees import a_tree


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


def test_a_wrong_ca_and_a_wrong_address_are_told_apart(
    stack: Operator, tmp_path: Path, a_free_port: Callable[[], int]
) -> None:
    name, password = a_user(stack)
    device = Device(tmp_path / "home")
    other = CertificateAuthority.open(tmp_path / "other-ca", datetime.now(UTC))
    assert_refused(log_in(device, stack, name, password, ca=str(other.ca)), 5, "certificate")
    nowhere = f"127.0.0.1:{a_free_port()}"
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
