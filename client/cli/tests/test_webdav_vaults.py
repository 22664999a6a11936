"""A vault on a server of WebDAV, through the program, and restic beside it in the folder that is served."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from client.cli.tests.terminal import Terminal
from clouds.testing.webdav import a_webdav_server

pytestmark = pytest.mark.needs("rclone")

USER, PASSWORD = "zqx-user-7420", "zqx-password-7421"


@pytest.fixture
def served(tmp_path: Path) -> Path:
    folder = tmp_path / "served"
    folder.mkdir()
    return folder


def add(terminal: Terminal, name: str, address: str, password: str) -> tuple[int, str, str]:
    url = ("--url", f"webdav+http://{address}/vault", "--access-key", USER, "--secret-stdin")
    return terminal("vault", "add", *url, "--name", name, given=f"{password}\n")


@pytest.fixture
def on_webdav(terminal: Terminal, served: Path, a_free_port: Callable[[], int], tmp_path: Path) -> Iterator[Terminal]:
    """Logged in, with a vault in a folder `vault` of the server, named as the test's folder."""
    assert terminal.log_in()[0] == 0
    with a_webdav_server(served, a_free_port(), USER, PASSWORD) as address:
        assert add(terminal, tmp_path.name, address, PASSWORD)[0] == 0
        yield terminal


@pytest.mark.needs("restic")
def test_a_backup_to_webdav_is_checked_restored_pruned_and_read_by_restic(
    on_webdav: Terminal, served: Path, tmp_path: Path, source: Path
) -> None:
    name = tmp_path.name
    for size in (3 << 20, 1 << 20):
        (source / "noise").write_bytes(os.urandom(size))
        assert on_webdav("backup", str(source), "--vault", name)[0] == 0
    assert on_webdav("check", "--read-data", "--vault", name)[0] == 0
    code, _, errors = on_webdav("retention", "--vault", name, "--keep-last", "1", "--prune", "--yes")
    assert code == 0, errors
    target = tmp_path / "restored"
    assert on_webdav("restore", "latest", "--vault", name, "--target", str(target))[0] == 0
    (restored,) = target.rglob("noise")
    assert restored.read_bytes() == (source / "noise").read_bytes()
    assert list((served / "vault" / "tmp").iterdir()) == []
    environment = os.environ | {"RESTIC_PASSWORD": on_webdav.json("vault", "recovery", name)["password"]}
    for arguments in (["check", "--read-data"], ["dump", "latest", str(source / "letters" / "a.txt")]):
        command = ["restic", "--no-cache", "--no-lock", "--repo", str(served / "vault"), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
    assert done.stdout == "dear reader"


def test_a_password_that_was_changed_is_said_anew_and_tried_out_first(
    terminal: Terminal, served: Path, a_free_port: Callable[[], int], tmp_path: Path
) -> None:
    name, port = tmp_path.name, a_free_port()
    assert terminal.log_in()[0] == 0
    with a_webdav_server(served, port, USER, PASSWORD) as address:
        code, _, errors = add(terminal, name, address, "wrong")
        assert (code, "it does not take this user with this password: check both" in errors) == (5, True), errors
        assert add(terminal, name, address, PASSWORD)[0] == 0
    with a_webdav_server(served, port, USER, "another"):
        assert terminal("snapshots", "--vault", name)[0] == 5
        command = ("vault", "login", name, "--access-key", USER, "--secret-stdin")
        code, _, errors = terminal(*command, given="wrong\n")
        assert (code, "check both" in errors) == (5, True), errors
        code, _, errors = terminal(*command, given="another\n")
        assert (code, errors) == (0, "")
        assert terminal("snapshots", "--vault", name)[0] == 0


@pytest.mark.needs("restic")
def test_what_the_recovery_says_lets_restic_read_the_vault_where_the_server_alone_has_it(
    on_webdav: Terminal, tmp_path: Path, source: Path
) -> None:
    name = tmp_path.name
    assert on_webdav("backup", str(source), "--vault", name)[0] == 0
    recovery = on_webdav("vault", "recovery", name)[1]
    assert PASSWORD not in recovery
    assert f"User      {USER} (the password is yours to keep)" in recovery
    assert "# SECRET is the store's password" in recovery
    commands = [line for line in recovery.splitlines() if line.startswith(("export ", "restic "))]
    script = "\n".join(commands).replace("SECRET", PASSWORD).replace("restic ", "restic --no-cache --no-lock ")
    found = on_webdav.json("vault", "recovery", name)
    environment = os.environ | {"RESTIC_PASSWORD": found["password"]}
    done = subprocess.run(
        ["sh", "-ec", script], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert str(source) in done.stdout
    assert found["repository"] == "rclone:oort:vault"
    assert found["environment"]["RCLONE_CONFIG_OORT_USER"] == USER
