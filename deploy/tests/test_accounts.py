"""`oort user`, `oort tenant` and `oort template` on a running stack."""

import os
from pathlib import Path

import pytest

from deploy.driver import Command, Device, Operator
from deploy.tests.here import Here

PASSWORD = "seventeen-lanterns-over-the-harbour"


@pytest.fixture
def operator(stack: Operator) -> Operator:
    """Its commands run in this process, but for those of the tests that ask for `stack`."""
    here = Operator(stack.data)
    here.oort = Here("oort")
    return here


def test_a_user_is_added_and_listed(stack: Operator) -> None:
    stack.add_user("alice", PASSWORD + "\n")
    listed = stack.oort.ok("user", "list", "--data", str(stack.data), "--json").json()
    assert {"username": "alice", "role": "user", "suspended": False} in [
        {key: user[key] for key in ("username", "role", "suspended")} for user in listed
    ]
    assert "alice" in stack.oort.ok("user", "list", "--data", str(stack.data)).stdout


def test_the_environment_stands_for_the_folder(stack: Operator) -> None:
    oort = Command("oort", env={**os.environ, **stack.env})
    oort.ok("user", "add", "from-environment", "--password-stdin", stdin=PASSWORD)
    assert "from-environment" in oort.ok("user", "list").stdout


def test_a_suspended_user_is_kept_out_until_let_in_again(operator: Operator, tmp_path: Path) -> None:
    data = ("--data", str(operator.data))
    device = Device(tmp_path / "home")
    operator.add_user("erin", PASSWORD)
    device.log_in(operator, "erin", PASSWORD)
    operator.oort.ok("user", "suspend", "erin", *data)
    listed = operator.oort.ok("user", "list", "--json", *data).json()
    assert [user["suspended"] for user in listed if user["username"] == "erin"] == [True]
    refused = device.tool.run("vault", "list")
    assert (refused.code, "suspended" in refused.stderr) == (4, True), refused
    operator.oort.ok("user", "resume", "erin", *data)
    device.tool.ok("vault", "list")


def test_neither_oneself_nor_nobody_is_suspended(operator: Operator) -> None:
    data = ("--data", str(operator.data))
    oneself = operator.oort.run("user", "suspend", operator.env["OORT_ADMIN_USER"], *data)
    assert (oneself.code, "cannot suspend yourself" in oneself.stderr) == (2, True), oneself
    nobody = operator.oort.run("user", "suspend", "nobody", *data)
    assert (nobody.code, nobody.stderr) == (
        6,
        "oort: No user is named 'nobody': `oort user list` lists those there are.\n",
    )


@pytest.mark.parametrize(
    ("name", "password", "code", "said"),
    [
        ("weak", "password1", 4, "The password is too weak"),
        ("empty", "", 2, "The password is empty"),
        ("lines", "two\nlines-of-a-password", 2, "single line"),
        ("", PASSWORD, 2, ""),
        ("no/slash", PASSWORD, 2, ""),
        ("admin", PASSWORD, 1, "taken"),
    ],
)
def test_bad_input_is_one_clear_line(operator: Operator, name: str, password: str, code: int, said: str) -> None:
    refused = operator.oort.run("user", "add", name, "--password-stdin", "--data", str(operator.data), stdin=password)
    assert refused.code == code
    assert said in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert "Traceback" not in refused.stderr


def test_a_wrong_administrators_password_is_refused(operator: Operator) -> None:
    oort = Here("oort", env={**os.environ, **operator.env, "OORT_ADMIN_PASSWORD": PASSWORD})
    refused = oort.run("user", "list")
    assert refused.code == 4
    assert refused.stderr == "oort: Wrong user name or password: check both and log in again.\n"


def test_a_server_of_another_authority_is_not_trusted(operator: Operator, tmp_path: Path) -> None:
    other = tmp_path / "ca.pem"
    other.write_bytes(_another_authority(tmp_path).read_bytes())
    oort = Here("oort", env={**os.environ, **operator.env, "OORT_CA": str(other)})
    refused = oort.run("user", "list")
    assert refused.code == 5
    assert "does not present a certificate" in refused.stderr


def _another_authority(folder: Path) -> Path:
    from datetime import UTC, datetime

    from deploy.local.certificates import CertificateAuthority

    return CertificateAuthority.open(folder / "other", datetime.now(UTC)).ca


def test_without_folder_and_environment_it_says_what_to_give() -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("OORT_")}
    refused = Here("oort", env=env).run("user", "list")
    assert refused.code == 2
    assert "--data" in refused.stderr


def test_a_tenant_has_an_administrator_of_its_own(operator: Operator) -> None:
    data = ("--data", str(operator.data))
    operator.oort.ok("tenant", "add", "acme", "--admin", "carol", "--password-stdin", *data, stdin=PASSWORD)
    assert "acme" in {tenant["name"] for tenant in operator.oort.ok("tenant", "list", "--json", *data).json()}
    templates = operator.oort.ok("template", "list", "--json", *data).json()
    assert ("default", 2) in [(template["name"], template["copies"]) for template in templates]


def test_a_template_says_how_many_copies_are_waited_for(operator: Operator) -> None:
    data = ("--data", str(operator.data))
    operator.add_template("both", copies=2, ack_copies=2)
    refused = operator.oort.run("template", "add", "more", "--copies", "2", "--ack-copies", "3", *data)
    assert (refused.code, len(refused.stderr.splitlines())) == (2, 1)
    listed = operator.oort.ok("template", "list", "--json", *data).json()
    found = {template["name"]: (template["copies"], template["ack_copies"]) for template in listed}
    assert found.pop("both") == (2, 2)
    assert found["default"] == (2, 1)
    assert "more" not in found


def test_vaults_of_an_added_template_have_its_number_of_copies(operator: Operator, tmp_path: Path) -> None:
    operator.add_template("single", copies=1)
    device = Device(tmp_path / "home")
    operator.add_user("dora", PASSWORD)
    device.log_in(operator, "dora", PASSWORD)
    device.request_vault("main", template="single")
    (tmp_path / "file").write_text("in one place")
    device.backup("main", tmp_path / "file")
    assert len(operator.bucket_folders(device.recovery("main")["bucket"])) == 1


def test_users_of_another_tenant_have_vaults_of_a_template_that_was_given_to_it(
    operator: Operator, tmp_path: Path
) -> None:
    data = ("--data", str(operator.data))
    operator.oort.ok("tenant", "add", "globex", "--admin", "hank", "--password-stdin", *data, stdin=PASSWORD)
    [tenant] = [
        one["id"] for one in operator.oort.ok("tenant", "list", "--json", *data).json() if one["name"] == "globex"
    ]
    given = ("template", "add", "small", "--copies", "1", "--quota", "1G", "--tenant", tenant, *data)
    operator.oort.ok(*given)
    refused = operator.oort.run(*given)
    assert (refused.code, "already" in refused.stderr) == (1, True)
    hank = Here(
        "oort",
        env={
            **os.environ,
            **operator.env,
            "OORT_ADMIN_TENANT": "globex",
            "OORT_ADMIN_USER": "hank",
            "OORT_ADMIN_PASSWORD": PASSWORD,
        },
    )
    [small] = hank.ok("template", "list", "--json").json()
    assert (small["name"], small["copies"], small["quota_bytes"]) == ("small", 1, 1 << 30)
    hank.ok("user", "add", "ivy", "--password-stdin", stdin=PASSWORD)
    assert {user["username"] for user in hank.ok("user", "list", "--json").json()} == {"hank", "ivy"}
    assert hank.run("template", "add", "large", "--copies", "1").code == 5  # only the first tenant's may

    found = operator.env
    ivy = Device(tmp_path / "home")
    ivy.tool.ok(
        *("login", "--server", found["OORT_AUTH"], "--ca", found["OORT_CA"], "--tenant", "globex"),
        *("--username", "ivy", "--password-stdin"),
        stdin=PASSWORD,
    )
    ivy.request_vault("main", template="small")
    bucket = ivy.recovery("main")["bucket"]
    listed = operator.oort.ok("bucket", "list", "--json", *data, codes=(0, 8)).json()
    [row] = [one for one in listed if one["id"] == bucket]
    assert (row["quota_bytes"], row["vault"], row["username"], row["tenant_name"]) == (1 << 30, "main", "ivy", "globex")
    shown = operator.oort.ok("bucket", "list", *data, codes=(0, 8)).stdout.splitlines()
    assert [line.split()[1:4] for line in shown if line.startswith(bucket)] == [["globex", "ivy", "main"]]


@pytest.mark.parametrize(
    ("name", "copies", "code", "said"),
    [
        ("default", 1, 1, "There is a template named default already"),
        ("none", 0, 2, "--copies"),
        ("", 1, 2, "name"),
        ("many", 1000, 2, "--copies"),
    ],
)
def test_a_template_that_cannot_be_is_refused(operator: Operator, name: str, copies: int, code: int, said: str) -> None:
    data = ("--data", str(operator.data))
    refused = operator.oort.run("template", "add", name, "--copies", str(copies), *data)
    assert refused.code == code
    assert said in refused.stderr
    listed = operator.oort.ok("template", "list", "--json", *data).json()
    assert (name, copies) not in [(template["name"], template["copies"]) for template in listed]


def test_a_password_is_asked_for_on_a_terminal_alone(tmp_path: Path) -> None:
    refused = Here("oort").run("user", "add", "judy", "--data", str(tmp_path))
    assert (refused.code, refused.stdout, len(refused.stderr.splitlines())) == (2, "", 1)
    assert "--password-stdin" in refused.stderr
