"""A vault of the user's own whose files lie elsewhere now, and one that the account is to know no more."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import grpc
import pytest

from client.account.seals import SealPurpose
from client.account.vaults import Vaults
from client.cli.tests.on_s3 import KEY, SECRET, restic
from client.cli.tests.terminal import Terminal
from client.stores.local import LocalStore
from client.vault.repository import create_vault
from domain.sessions import Purpose


@pytest.fixture
def name(tmp_path: Path) -> str:
    return tmp_path.name


def a_backup(terminal: Terminal, source: Path, name: str) -> str:
    """The id of its snapshot."""
    code, output, errors = terminal("backup", str(source), "--vault", name, "--json")
    assert code == 0, errors
    (summary,) = [one for one in map(json.loads, output.splitlines()) if one["type"] == "summary"]
    return str(summary["snapshot"])


def moved_to(path: Path) -> Path:
    """A vault's folder, copied file by file and then removed where it was."""
    copied = path.with_name("a new disk, übermorgen")
    shutil.copytree(path, copied)
    shutil.rmtree(path)
    return copied


def test_a_vault_whose_folder_was_copied_goes_on_there_under_its_name(
    with_vault: Terminal, source: Path, tmp_path: Path, name: str
) -> None:
    first = a_backup(with_vault, source, name)
    assert with_vault("vault", "retention", name, "--keep-last", "7")[0] == 0
    before = with_vault.json("vault", "retention", name)["policy"]
    copied = moved_to(tmp_path / "vault")
    answer = with_vault.json("vault", "moved", name, "--local", str(copied))
    assert (answer["name"], answer["kind"], answer["path"]) == (name, "local", str(copied))
    assert with_vault.json("vault", "retention", name)["policy"] == before
    a_backup(with_vault, source, name)
    assert first in {one["id"] for one in with_vault.json("snapshots", "--vault", name)}
    assert not (tmp_path / "vault").exists()
    assert f"restic --repo '{copied}' snapshots" in with_vault("vault", "recovery", name)[1]


@pytest.mark.needs("rclone")
def test_a_vault_moves_to_s3_and_another_device_finds_it_there(
    with_vault: Terminal, s3_bucket: str, source: Path, tmp_path: Path, name: str
) -> None:
    a_backup(with_vault, source, name)
    endpoint, _, bucket = s3_bucket.rpartition("/")
    remote = f":s3,provider=Other,access_key_id={KEY},secret_access_key={SECRET},endpoint='{endpoint}':{bucket}/moved"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RCLONE_"))}
    copy = ["rclone", "--config", os.devnull, "copy", str(tmp_path / "vault"), remote]
    subprocess.run(copy, env=environment, check=True)
    other = Terminal(with_vault.office, tmp_path / "other", with_vault.capture, with_vault.monkeypatch)
    assert other.log_in()[0] == 0
    to_s3 = ("--s3", f"{s3_bucket}/moved", "--access-key", KEY, "--secret-stdin")
    code, said, errors = with_vault("vault", "moved", name, *to_s3, given=SECRET)
    assert (code, said) == (0, f"The vault {name} is at s3:{s3_bucket}/moved from now on.\n"), errors
    shutil.rmtree(tmp_path / "vault")
    a_backup(other, source, name)
    assert with_vault("check", "--read-data", "--vault", name)[0] == 0
    password = with_vault.json("vault", "recovery", name)["password"]
    assert len(json.loads(restic(f"{s3_bucket}/moved", password, "snapshots", "--json"))) == 2


def test_what_is_not_that_vault_is_not_taken_for_it(with_vault: Terminal, tmp_path: Path, name: str) -> None:
    assert with_vault("vault", "add", "--local", str(tmp_path / "other"), "--name", f"{name}-other")[0] == 0
    assert with_vault("vault", "request", "--template", "default", "--name", f"{name}-nodes")[0] == 0
    shutil.copytree(tmp_path / "other", tmp_path / "a copy of it")
    (tmp_path / "empty").mkdir()
    for vault, place, code, said in (
        (name, "nowhere", 5, "no vault is there"),
        (name, "empty", 5, "no vault is there"),
        (name, "other", 1, f"is the vault {name}-other already"),
        (name, "a copy of it", 4, f"does not open the vault at {tmp_path / 'a copy of it'}"),
        (f"{name}-nodes", "other", 2, "your provider's storage nodes"),
        (f"{name}-none", "other", 6, "no vault named"),
    ):
        told = with_vault("vault", "moved", vault, "--local", str(tmp_path / place))
        assert (told[0], told[1], said in told[2], told[2].count("\n")) == (code, "", True, 1), told
    assert with_vault("vault", "moved", name)[0] == 2
    assert with_vault.json("vault", "recovery", name)["path"] == str(tmp_path / "vault")


PASSWORD = "one for all"


def a_repository(folder: Path) -> str:
    """Its id; it opens with the password that all of them have."""
    with LocalStore(folder).open(Purpose.ADOPT) as session:
        vault = create_vault(session, PASSWORD)
        assert vault is not None
        with vault:
            return vault.config.id


@pytest.fixture
def taken_in(with_vault: Terminal, tmp_path: Path, name: str) -> str:
    """The name of a vault whose repository, in the folder `mine`, has the password of another in `another`."""
    for folder in ("mine", "another"):
        a_repository(tmp_path / folder)
    add = ("vault", "add", "--local", str(tmp_path / "mine"), "--name", f"{name}-mine", "--repository-password-stdin")
    assert with_vault(*add, given=PASSWORD)[0] == 0
    return f"{name}-mine"


def test_another_repository_of_the_same_password_is_not_taken_for_the_vault(
    with_vault: Terminal, tmp_path: Path, taken_in: str
) -> None:
    code, output, errors = with_vault("vault", "moved", taken_in, "--local", str(tmp_path / "another"), "--yes")
    assert (code, output, errors.count("\n")) == (5, "", 1)
    assert "another vault is there" in errors
    assert with_vault.json("vault", "recovery", taken_in)["path"] == str(tmp_path / "mine")


def test_what_was_done_is_no_failure_where_the_server_goes_away_then_and_may_be_said_again(
    with_vault: Terminal, tmp_path: Path, taken_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = with_vault.office.auth
    enter = auth._enter
    done = list[str]()

    def entering(call: str, context: grpc.ServicerContext, **options: Any) -> str:
        if done:
            context.abort(grpc.StatusCode.INTERNAL, "it ends")
        done.extend({call} & {"SetVaultPlace", "RemoveVault"})
        return enter(call, context, **options)

    moved = ("vault", "moved", taken_in, "--local", str(tmp_path / "copied"))
    shutil.copytree(tmp_path / "mine", tmp_path / "copied")
    for command in (moved, moved, ("vault", "remove", taken_in, "--yes")):
        with monkeypatch.context() as patched:
            patched.setattr(auth, "_enter", entering)
            assert with_vault(*command)[0] == 0
        assert len(done) == 1
        done.clear()
    assert taken_in not in {one["name"] for one in with_vault.json("vault", "list")}


@pytest.fixture
def sealed_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Places are sealed as they were before the repository's id was."""

    def seal(vaults: Vaults, vault_id: str, place: Path, _: str) -> bytes:
        fields = json.dumps({"path": str(place)}).encode()
        return vaults._device.sealer.seal(SealPurpose.VAULT_PLACE, fields, vault_id)

    monkeypatch.setattr(Vaults, "_seal_place", seal)


@pytest.mark.usefixtures("sealed_before")
def test_a_vault_whose_id_was_not_noted_is_known_by_its_old_place_or_taken_by_agreement(
    with_vault: Terminal, tmp_path: Path, taken_in: str
) -> None:
    moved = ("vault", "moved", taken_in, "--local")
    code, _, errors = with_vault(*moved, str(tmp_path / "another"), "--yes")
    assert (code, "another vault is there" in errors) == (5, True)
    shutil.copytree(tmp_path / "mine", tmp_path / "copied")
    assert with_vault(*moved, str(tmp_path / "copied"))[0] == 0
    (tmp_path / "copied").rename(tmp_path / "elsewhere")
    code, output, errors = with_vault(*moved, str(tmp_path / "elsewhere"))
    assert (code, output, "give --yes to agree" in errors) == (2, "", True)
    assert "plan: take the repository" in errors
    assert with_vault.json("vault", "recovery", taken_in)["path"] == str(tmp_path / "copied")
    assert with_vault(*moved, str(tmp_path / "elsewhere"), "--yes")[0] == 0
    assert with_vault.json("vault", "recovery", taken_in)["path"] == str(tmp_path / "elsewhere")


@pytest.mark.parametrize("damage", ["a pack is missing", "a pack is cut off", "an index file is cut off"])
def test_a_copy_that_is_not_whole_is_refused_until_the_rest_is_copied(
    with_vault: Terminal, source: Path, tmp_path: Path, name: str, damage: str
) -> None:
    a_backup(with_vault, source, name)
    kept, copied = tmp_path / "vault", tmp_path / "copied"
    shutil.copytree(kept, copied)
    damaged = next(path for path in (copied / ("index" if "index" in damage else "data")).rglob("*") if path.is_file())
    whole = damaged.read_bytes()
    damaged.unlink()
    if "cut off" in damage:
        damaged.write_bytes(whole[:-1])
    code, output, errors = with_vault("vault", "moved", name, "--local", str(copied))
    assert (code, output, errors.count("\n")) == (5, "", 1)
    assert "1 file of it is missing, or cut off: copy the rest" in errors
    assert with_vault.json("vault", "recovery", name)["path"] == str(kept)
    damaged.unlink(missing_ok=True)
    damaged.write_bytes(whole)
    assert with_vault("vault", "moved", name, "--local", str(copied))[0] == 0


def test_a_removed_vault_is_out_of_the_account_and_its_content_stays(
    with_vault: Terminal, source: Path, tmp_path: Path, name: str
) -> None:
    first = a_backup(with_vault, source, name)
    code, output, errors = with_vault("vault", "remove", name)
    assert (code, output, "give --yes" in errors) == (2, "", True)
    assert f"plan: take the vault {name} out of the account" in errors
    code, output, errors = with_vault("vault", "remove", name, "--yes", "--json")
    answer = json.loads(output)
    assert (code, answer["name"], answer["removed"]) == (0, name, True)
    assert name not in {one["name"] for one in with_vault.json("vault", "list")}
    assert with_vault("vault", "remove", name, "--yes")[0] == 6
    code, said, _ = with_vault("vault", "add", "--local", str(tmp_path / "vault"), "--name", name)
    assert (code, said) == (0, f"The vault {name} was taken in.\n")
    assert [one["id"] for one in with_vault.json("snapshots", "--vault", name)] == [first]


def test_who_removes_a_vault_of_the_provider_is_told_who_has_it_then(terminal: Terminal, name: str) -> None:
    assert terminal.log_in()[0] == 0
    assert terminal("vault", "request", "--template", "default", "--name", name)[0] == 0
    assert "stays with your provider" in terminal("vault", "remove", name, "--yes")[2]


def caches_of(terminal: Terminal) -> set[str]:
    """What this device keeps of vaults, but for empty files of locks."""
    kept = [path for path in (terminal.home / "vaults").rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {str(path.relative_to(terminal.home)) for path in kept}


def test_the_caches_of_a_removed_vault_go_and_those_of_others_stay(
    with_vault: Terminal, source: Path, tmp_path: Path, name: str
) -> None:
    a_backup(with_vault, source, name)
    before = caches_of(with_vault)
    assert with_vault("vault", "add", "--local", str(tmp_path / "other"), "--name", f"{name}-other")[0] == 0
    a_backup(with_vault, source, f"{name}-other")
    assert caches_of(with_vault) > before
    assert with_vault("vault", "remove", f"{name}-other", "--yes")[0] == 0
    assert caches_of(with_vault) == before


def test_of_two_vaults_with_one_repository_the_one_that_stays_keeps_the_caches(
    with_vault: Terminal, source: Path, tmp_path: Path, name: str
) -> None:
    a_backup(with_vault, source, name)
    before = caches_of(with_vault)
    shutil.copytree(tmp_path / "vault", tmp_path / "copied")
    assert with_vault("vault", "add", "--local", str(tmp_path / "copied"), "--name", f"{name}-copied")[0] == 0
    assert with_vault("ls", "latest", "--vault", f"{name}-copied")[0] == 0
    assert with_vault("vault", "remove", f"{name}-copied", "--yes")[0] == 0
    assert caches_of(with_vault) == before


@pytest.mark.parametrize("command", [("snapshots",), ("check",)])
def test_a_vault_opens_where_nothing_can_be_noted_of_it(
    with_vault: Terminal, source: Path, name: str, command: tuple[str, ...]
) -> None:
    a_backup(with_vault, source, name)
    (note,) = (with_vault.home / "vaults").glob("*.repository")
    note.unlink()
    note.mkdir()
    assert with_vault(*command, "--vault", name)[0] == 0
