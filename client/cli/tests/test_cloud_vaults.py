"""A vault on a store of the net, through the program, and restic beside it."""

import os
from pathlib import Path

import pytest

from client.account.promises import Promise, Verdict
from client.account.tests.an_auth import PASSWORD
from client.cli.tests.on_s3 import KEY, SECRET, add, restic
from client.cli.tests.terminal import Terminal


@pytest.fixture
def on_s3(terminal: Terminal, s3_bucket: str, tmp_path: Path) -> str:
    """Logged in, with a vault in a bucket that is named as the test's folder; answers ENDPOINT/BUCKET/PREFIX."""
    assert terminal.log_in()[0] == 0
    address = f"{s3_bucket}/deep/er"
    added = add(terminal, tmp_path.name, address)
    assert added == (0, f"The vault {tmp_path.name} was created.\n", "")
    return address


@pytest.mark.needs("restic")
def test_a_backup_to_s3_is_checked_restored_pruned_and_read_by_restic(
    terminal: Terminal, on_s3: str, tmp_path: Path, source: Path
) -> None:
    name = tmp_path.name
    (source / "noise").write_bytes(os.urandom(3 << 20))
    assert terminal("backup", str(source), "--vault", name)[0] == 0
    (source / "noise").write_bytes(os.urandom(1 << 20))
    assert terminal("backup", str(source), "--vault", name)[0] == 0
    assert terminal("check", "--read-data", "--vault", name)[0] == 0
    code, _, errors = terminal("retention", "--vault", name, "--keep-last", "1", "--prune", "--yes")
    assert (code, errors) == (0, errors)
    target = tmp_path / "restored"
    assert terminal("restore", "latest", "--vault", name, "--target", str(target))[0] == 0
    (restored,) = target.rglob("noise")
    assert restored.read_bytes() == (source / "noise").read_bytes()
    found = terminal.json("vault", "recovery", name)
    assert (found["kind"], found["address"], found["key_id"]) == ("s3", f"s3:{on_s3}", KEY)
    restic(on_s3, found["password"], "check", "--read-data")
    assert restic(on_s3, found["password"], "dump", "latest", str(source / "letters" / "a.txt")) == "dear reader"


@pytest.mark.needs("restic")
def test_a_repository_of_restic_on_s3_becomes_a_vault_and_keeps_its_history(
    terminal: Terminal, s3_bucket: str, tmp_path: Path, source: Path
) -> None:
    address = f"{s3_bucket}/theirs"
    restic(address, "their password", "init")
    restic(address, "their password", "backup", str(source))
    assert terminal.log_in()[0] == 0
    code, _, errors = add(terminal, tmp_path.name, address)
    assert (code, "--repository-password-stdin" in errors) == (2, True)
    code, _, errors = add(terminal, tmp_path.name, address, "--repository-password-stdin", password="wrong")
    assert code == 4, errors
    code, said, errors = add(terminal, tmp_path.name, address, "--repository-password-stdin", password="their password")
    assert (code, said) == (0, f"The vault {tmp_path.name} was taken in.\n"), errors
    assert terminal("backup", str(source), "--vault", tmp_path.name)[0] == 0
    assert len(terminal.json("snapshots", "--vault", tmp_path.name)) == 2
    assert terminal("check", "--vault", tmp_path.name)[0] == 0


def test_another_device_gets_the_vault_with_its_keys_and_no_server_sees_them(
    terminal: Terminal, on_s3: str, tmp_path: Path, source: Path
) -> None:
    assert terminal("backup", str(source), "--vault", tmp_path.name)[0] == 0
    other = Terminal(terminal.office, tmp_path / "other", terminal.capture, terminal.monkeypatch)
    assert other.log_in(PASSWORD)[0] == 0
    target = tmp_path / "restored"
    code, _, errors = other("restore", "latest", "--all-devices", "--vault", tmp_path.name, "--target", str(target))
    assert code == 0, errors
    (listed,) = [vault for vault in other.json("vault", "list") if vault["name"] == tmp_path.name]
    assert (listed["kind"], listed["address"], listed["path"]) == ("s3", f"s3:{on_s3}", None)
    for marker in (KEY, SECRET, "deep/er", on_s3):
        assert all(marker.encode() not in sent for sent in terminal.office.auth.seen)
        for home in (terminal.home, other.home):
            kept = [path for path in home.rglob("*") if path.is_file() and marker.encode() in path.read_bytes()]
            assert kept == []


def test_a_store_that_keeps_its_promises_is_said_to_and_left_tidy(
    terminal: Terminal, on_s3: str, tmp_path: Path
) -> None:
    before = terminal.json("vault", "list")
    promises = terminal.json_lines("vault", "test", tmp_path.name)
    assert {promise["verdict"] for promise in promises} == {"kept"}
    assert [promise["promise"] for promise in promises][:3] == ["first use", "upload", "read after write"]
    code, said, _ = terminal("vault", "test", tmp_path.name)
    assert code == 0
    assert all(line.startswith("kept ") for line in said.splitlines())
    assert terminal.json("vault", "list") == before
    other = tmp_path / "other"
    assert add(terminal, f"{tmp_path.name}-again", on_s3)[0] == 1, "it is a vault already"
    assert not other.exists()


@pytest.mark.usefixtures("on_s3")
def test_a_promise_that_is_not_kept_ends_with_1(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [Promise("listing", Verdict.BROKEN, "a list lacks what was just stored")]
    monkeypatch.setattr("client.account.promises.try_out", lambda *_: iter(broken))
    code, said, errors = terminal("vault", "test", tmp_path.name)
    assert code == 1
    assert said == "broken  listing: a list lacks what was just stored.\n"
    assert "does not keep what a vault needs: listing" in errors


def test_a_folder_with_other_things_in_it_is_left_alone(terminal: Terminal, on_s3: str, tmp_path: Path) -> None:
    code, _, errors = add(terminal, f"{tmp_path.name}-above", on_s3.rpartition("/")[0])
    assert code == 2
    assert "neither empty nor a vault" in errors


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "one of --local, --s3, --url and --sftp"),
        (("--local", "x", "--s3", "host/b"), "one of --local, --s3, --url and --sftp"),
        (("--local", "x", "--region", "y"), "A folder has no region"),
        (("--local", "x", "--access-key", "y"), "A folder has no region and no key"),
        (("--url", "gcs://b", "--access-key", "y", "--secret-stdin"), "takes no --access-key"),
        (("--url", "gcs://b", "--region", "y"), "has no --region"),
        (("--s3", "s3://bucket/prefix"), "say ENDPOINT/BUCKET/PREFIX"),
        (("--s3", "host"), "names no bucket"),
        (("--url", "ftp://host/x"), "none of the schemes"),
        (("--url", "https://host/x"), "For WebDAV say webdav:// in place of https://"),
        (("--url", "http://host/x"), "For WebDAV say webdav+http:// in place of http://"),
        (("--s3", "host/b", "--secret-stdin"), "needs --access-key"),
    ],
)
def test_a_wrong_command_line_is_one_line(terminal: Terminal, arguments: tuple[str, ...], said: str) -> None:
    code, output, errors = terminal("vault", "add", "--name", "v", *arguments, given="secret\n")
    assert (code, output) == (2, "")
    assert said in errors


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (("--s3", "host/b", "--access-key", "y"), "secret access key of the store"),
        (("--url", "webdav://host/x", "--access-key", "y"), "password of the store"),
        (("--url", "gcs://b"), "service account's key of the store"),
    ],
)
def test_the_secret_is_asked_for_as_the_kind_of_store_calls_it(
    terminal: Terminal, arguments: tuple[str, ...], asked: str
) -> None:
    code, _, errors = terminal("vault", "add", "--name", "v", *arguments, "--secret-stdin", given="one\ntwo\n")
    assert (code, f"must hold one line ({asked})" in errors) == (2, True), errors


def test_the_keys_of_the_environment_are_for_s3_alone(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    code, _, errors = terminal(
        "vault", "add", "--name", "v", "--url", "webdav+http://127.0.0.1:1/x", "--secret-stdin", given="secret\n"
    )
    assert (code, "needs --access-key" in errors) == (2, True), errors
    code, _, errors = terminal("vault", "add", "--name", "v", "--url", "gcs://bucket", given="")
    assert (code, "--secret-stdin" in errors) == (2, True), errors
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    code, _, errors = terminal("vault", "add", "--name", "v", "--s3", "127.0.0.1:1/bucket", given="")
    assert (code, "AWS_SESSION_TOKEN is set" in errors) == (2, True), errors
