import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from uuid import UUID

import pytest

from client.account.home import Account, Home, locate
from client.errors import DamagedHome, HomeFull, HomeUnusable, NotLoggedIn
from client.tests.tls import Authority


def an_account() -> Account:
    return Account(
        server="server:8060",
        ca_file="/etc/ca.pem",
        tenant="",
        username="alice",
        user_id=UUID(int=1),
        device_id=UUID(int=2),
        device_key=bytes(32),
        sealing_key=bytes(32),
        sealed_account_key=b"sealed",
    )


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_was_kept_is_read_again_and_is_for_the_owner_alone(tmp_path: Path, authority: Authority) -> None:
    home = Home(tmp_path / "deep" / "home")
    before = os.umask(0)
    try:
        home.keep_login(an_account(), authority.ca, "token")
        home.vault_cache(str(UUID(int=3)))
        home.write("jobs/x/y.json", b"{}")
    finally:
        os.umask(before)
    assert home.account() == an_account()
    assert (home.ca(), home.session()) == (authority.ca, "token")
    for path in [home.folder, *home.folder.rglob("*")]:
        assert mode(path) == (0o700 if path.is_dir() else 0o600), path


def test_a_home_without_an_account_is_not_logged_in(tmp_path: Path) -> None:
    with pytest.raises(NotLoggedIn):
        Home(tmp_path / "none").account()
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b'{"version": 2}', b"\xff"])
def test_a_damaged_account_is_told_as_such(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "account.json").write_bytes(text)
    with pytest.raises(DamagedHome, match="log"):
        Home(tmp_path).account()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path)
    home.write("session", b"old")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HomeFull) as caught:
        home.write("session", b"new")
    assert caught.value.exit_code == 7
    assert home.session() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["session"]


def test_a_home_that_is_a_file_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(HomeUnusable, match="not a folder"):
        Home(tmp_path / "file").write("session", b"x")


def test_a_home_that_cannot_be_written_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_arguments: object, **_others: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(HomeUnusable, match="read-only file system"):
        Home(tmp_path).write("session", b"x")


def test_the_home_is_the_option_then_the_variable_then_the_users_data_folder(tmp_path: Path) -> None:
    environment = {"BACKUP_TOOL_HOME": "/variable", "XDG_DATA_HOME": "/data", "HOME": "/home/alice"}
    assert locate(tmp_path, environment) == tmp_path
    assert locate(None, environment) == Path("/variable")
    del environment["BACKUP_TOOL_HOME"]
    assert locate(None, environment) == Path("/data/oort")
    environment["XDG_DATA_HOME"] = "relative, so to be ignored"
    assert locate(None, environment) == Path("/home/alice/.local/share/oort")


def test_two_processes_change_a_home_one_after_the_other(tmp_path: Path) -> None:
    home = Home(tmp_path)
    code = (
        "import sys; from pathlib import Path; from client.account.home import Home\n"
        "with Home(Path(sys.argv[1])).lock(): Home(Path(sys.argv[1])).write('session', b'theirs')\n"
    )
    with home.lock():
        other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[3])
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(1.5)
        home.write("session", b"ours")
        assert home.session() == "ours"
    assert other.wait(120) == 0
    assert home.session() == "theirs"


def test_readers_never_see_half_a_file(tmp_path: Path) -> None:
    home = Home(tmp_path)
    bodies = {b"a" * 100_000, b"b" * 50_000}
    home.write("session", next(iter(bodies)))
    done = threading.Event()

    def write() -> None:
        for _ in range(20):
            for body in bodies:
                home.write("session", body)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert home.read("session") in bodies
    writer.join()
