"""A vault on a server of SFTP, through the program, and restic beside it."""

import io
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import asyncssh
import pytest

from client.cli.store_login import agree_on_terminal
from client.cli.tests.terminal import Terminal
from client.errors import UsageError
from client.stores.cloud.sftp.host_key import HostKey
from client.stores.cloud.sftp.tests.a_server import PASSWORD, a_server
from clouds.calls import Patience
from clouds.testing.line import a_line
from clouds.testing.ssh import SshServer

pytestmark = pytest.mark.needs("sshd")


@pytest.fixture
def key_file(ssh_server: SshServer, tmp_path: Path) -> Path:
    path = tmp_path / "id"
    path.write_text(ssh_server.key)
    return path


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the user's without known_hosts."""
    monkeypatch.setenv("HOME", str(tmp_path / "home-of-user"))
    return tmp_path / "home-of-user"


@pytest.fixture
def served(tmp_path: Path) -> Path:
    return tmp_path / "served" / "vault"


def add(
    terminal: Terminal, server: SshServer, folder: Path, *options: str, host_key: str = "", given: str = ""
) -> tuple[int, str, str]:
    name = folder.parents[1].name
    pinned = ("--host-key", host_key or server.host_key)
    return terminal("vault", "add", "--sftp", server.address(folder), "--name", name, *pinned, *options, given=given)


@pytest.fixture
def on_sftp(terminal: Terminal, ssh_server: SshServer, key_file: Path, served: Path) -> Terminal:
    """Logged in, with a vault on the server that is named as the test's folder."""
    assert terminal.log_in()[0] == 0
    added = add(terminal, ssh_server, served, "--key-file", str(key_file))
    assert added == (0, f"The vault {served.parents[1].name} was created.\n", "")
    return terminal


@pytest.mark.needs("restic")
@pytest.mark.needs("ssh")
def test_a_backup_to_sftp_is_checked_restored_pruned_and_read_by_restic(
    on_sftp: Terminal, ssh_server: SshServer, served: Path, tmp_path: Path, source: Path
) -> None:
    name = tmp_path.name
    for size in (3 << 20, 1 << 20):
        (source / "noise").write_bytes(os.urandom(size))
        assert on_sftp("backup", str(source), "--vault", name)[0] == 0
    assert on_sftp("check", "--read-data", "--vault", name)[0] == 0
    code, _, errors = on_sftp("retention", "--vault", name, "--keep-last", "1", "--prune", "--yes")
    assert code == 0, errors
    target = tmp_path / "restored"
    assert on_sftp("restore", "latest", "--vault", name, "--target", str(target))[0] == 0
    (restored,) = target.rglob("noise")
    assert restored.read_bytes() == (source / "noise").read_bytes()
    assert list((served / "tmp").iterdir()) == []
    found = on_sftp.json("vault", "recovery", name)
    address = f"sftp://{ssh_server.address(served)}"
    assert (found["kind"], found["address"]) == ("sftp", address)
    command = " ".join(ssh_server.ssh(tmp_path / "known_hosts"))

    def restic(*arguments: str) -> str:
        environment = os.environ | {"RESTIC_PASSWORD": found["password"]}
        restic = ["restic", "--no-cache", "-o", f"sftp.command={command}", "--repo", address, *arguments]
        done = subprocess.run(restic, env=environment, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    restic("check", "--read-data")
    assert restic("dump", "latest", str(source / "letters" / "a.txt")) == "dear reader"
    restic("backup", str(source))
    assert on_sftp("check", "--read-data", "--vault", name)[0] == 0


def test_what_logs_in_is_sealed_with_the_address(on_sftp: Terminal, ssh_server: SshServer, tmp_path: Path) -> None:
    (listed,) = [vault for vault in on_sftp.json("vault", "list") if vault["name"] == tmp_path.name]
    assert (listed["kind"], listed["path"]) == ("sftp", None)
    for marker in (ssh_server.key[60:100], ssh_server.endpoint):
        assert all(marker.encode() not in sent for sent in on_sftp.office.auth.seen)
        kept = [path for path in on_sftp.home.rglob("*") if path.is_file() and marker.encode() in path.read_bytes()]
        assert kept == []


def test_a_server_keeps_its_promises_and_is_left_tidy(on_sftp: Terminal, served: Path, tmp_path: Path) -> None:
    promises = on_sftp.json_lines("vault", "test", tmp_path.name)
    assert {promise["verdict"] for promise in promises} == {"kept"}
    assert not [path for path in served.iterdir() if path.name.startswith("oort-test")]


def test_a_key_with_a_passphrase_logs_in_on_every_device(
    terminal: Terminal, ssh_server: SshServer, key_file: Path, served: Path, tmp_path: Path
) -> None:
    asyncssh.import_private_key(ssh_server.key).write_private_key(key_file, passphrase="zqx-passphrase", rounds=51)
    assert terminal.log_in()[0] == 0
    options = ("--key-file", str(key_file), "--secret-stdin")
    code, _, errors = add(terminal, ssh_server, served, *options, given="wrong\n")
    assert (code, "does not open the private key" in errors) == (2, True), errors
    assert add(terminal, ssh_server, served, *options, given="zqx-passphrase\n")[0] == 0
    key_file.unlink()
    other = Terminal(terminal.office, tmp_path / "other", terminal.capture, terminal.monkeypatch)
    assert other.log_in()[0] == 0
    assert other("snapshots", "--vault", tmp_path.name)[0] == 0


def test_an_unknown_host_key_is_told_and_nothing_is_sent(
    terminal: Terminal, ssh_server: SshServer, key_file: Path, served: Path
) -> None:
    assert terminal.log_in()[0] == 0
    address = ("--sftp", ssh_server.address(served), "--key-file", str(key_file))
    code, output, errors = terminal("vault", "add", "--name", "v", *address)
    assert (code, output) == (2, "")
    assert ssh_server.host_key in errors
    assert "give it with --host-key" in errors
    code, _, errors = add(terminal, ssh_server, served, *address[2:], host_key="SHA256:abc")
    assert (code, "somebody may stand between" in errors) == (5, True), errors
    code, _, errors = add(terminal, ssh_server, served, *address[2:], host_key="ab:cd")
    assert (code, "SHA256:..." in errors) == (2, True), errors
    assert not served.exists()


class AtATerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_host_key_is_agreed_to_at_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", AtATerminal("y\nn\n"))
    key = HostKey("ssh-ed25519", "SHA256:abc")
    agree_on_terminal(key)
    assert str(key) in capsys.readouterr().err
    with pytest.raises(UsageError, match="nothing was sent"):
        agree_on_terminal(key)


def test_a_host_key_of_known_hosts_is_taken_and_no_other(
    terminal: Terminal, ssh_server: SshServer, key_file: Path, served: Path, at_home: Path
) -> None:
    assert terminal.log_in()[0] == 0
    (at_home / ".ssh").mkdir(parents=True)
    known = at_home / ".ssh" / "known_hosts"
    host, _, port = ssh_server.endpoint.partition(":")
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    command = ("vault", "add", "--sftp", ssh_server.address(served), "--key-file", str(key_file), "--name", "known")
    known.write_text(f"[{host}]:{port} {other}")
    code, _, errors = terminal(*command)
    assert (code, "one that known_hosts has" in errors) == (5, True), errors
    ssh_server.ssh(known)
    assert terminal(*command)[0] == 0


def test_a_host_key_that_changed_is_refused_until_it_is_pinned_anew(
    on_sftp: Terminal, ssh_server: SshServer, tmp_path: Path, source: Path
) -> None:
    name, pinned = tmp_path.name, ssh_server.host_key
    for kind in ("ssh-ed25519", "ecdsa-sha2-nistp256"):
        ssh_server.change_host_key(kind)
        code, output, errors = on_sftp("backup", str(source), "--vault", name)
        assert (code, output) == (5, "")
        (line,) = errors.splitlines()
        for said in (pinned, ssh_server.host_key, "somebody may stand between", "`vault login --host-key`"):
            assert said in line
        code, _, errors = on_sftp("vault", "login", name, "--host-key", pinned)
        assert (code, "somebody may stand between" in errors) == (5, True), errors
        code, said, errors = on_sftp("vault", "login", name, "--host-key", ssh_server.host_key)
        assert (code, errors) == (0, "")
        assert on_sftp("backup", str(source), "--vault", name)[0] == 0
        pinned = ssh_server.host_key


def test_a_wrong_password_and_a_folder_without_rights_are_one_line_each(terminal: Terminal, tmp_path: Path) -> None:
    assert terminal.log_in()[0] == 0
    (tmp_path / "root").mkdir()
    with a_server(tmp_path / "root") as server:
        pinned = ("--host-key", server.host_keys[0].get_fingerprint())
        command = ("vault", "add", "--sftp", f"alice@127.0.0.1:{server.port}//vault", "--name", tmp_path.name, *pinned)
        code, _, errors = terminal(*command, "--secret-stdin", given="zqx-wrong\n")
        assert (code, "does not take this user" in errors, len(errors.splitlines())) == (5, True, 1), errors
        server.refusing = {"mkdir"}
        code, _, errors = terminal(*command, "--secret-stdin", given=f"{PASSWORD}\n")
        assert (code, "look at the rights" in errors, len(errors.splitlines())) == (5, True, 1), errors
        server.refusing = set()
        assert terminal(*command, "--secret-stdin", given=f"{PASSWORD}\n")[0] == 0
        assert terminal("snapshots", "--vault", tmp_path.name)[0] == 0


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is away is given up at once."""
    patience = Patience(total=0.5, new=0.5, first=0.001, longest=0.01)
    monkeypatch.setattr("client.stores.cloud.store.Patience", lambda: patience)


@pytest.mark.usefixtures("hasty")
def test_a_server_that_dies_in_a_backup_leaves_a_vault_that_checks_clean(  # noqa: PLR0917 - fixtures
    terminal: Terminal,
    ssh_server: SshServer,
    key_file: Path,
    served: Path,
    source: Path,
    a_free_port: Callable[[], int],
) -> None:
    name = served.parents[1].name
    assert terminal.log_in()[0] == 0
    (source / "noise").write_bytes(os.urandom(24 << 20))
    with a_line(a_free_port) as line:
        address = f"{ssh_server.user}@{line.to(ssh_server.endpoint)}/{served}"
        options = ("--name", name, "--key-file", str(key_file), "--host-key", ssh_server.host_key)
        assert terminal("vault", "add", "--sftp", address, *options)[0] == 0
        line.cut_after(10 << 20, None)
        code, _, errors = terminal("backup", str(source), "--vault", name)
        assert code == 5, errors
        assert "nothing answers there" in errors or "the connection broke" in errors
    for path in (served / "locks").iterdir():
        path.unlink()  # of the backup, which could not take it away
    again = f"{name}-again"
    directly = ("--sftp", ssh_server.address(served), "--host-key", ssh_server.host_key)
    assert terminal("vault", "add", "--name", again, "--key-file", str(key_file), *directly)[0] == 0
    assert terminal("check", "--read-data", "--vault", again)[0] == 0
    assert terminal("backup", str(source), "--vault", again)[0] == 0
    assert terminal("check", "--read-data", "--vault", again)[0] == 0
