"""Snapshots copied to another vault, as a person and a script see it."""

import contextlib
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from client.cli.tests.on_s3 import KEY, SECRET, add
from client.cli.tests.terminal import Terminal
from client.cli.tests.test_damaged_vault import DATA, Harmed
from client.errors import SessionOver
from client.restore.compare import differences
from client.stores.abc import ObjectInfo
from client.stores.cloud import CloudStore
from client.stores.cloud.location import Location
from client.stores.cloud.session import CloudSession
from client.stores.local import LocalSession
from client.testing.damage import remove
from domain.jobs import JobStatus
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose


@pytest.fixture
def second(with_vault: Terminal, tmp_path: Path) -> str:
    """Another vault of the same account."""
    name = f"{tmp_path.name}-second"
    assert with_vault("vault", "add", "--local", str(tmp_path / "second"), "--name", name)[0] == 0
    return name


def test_a_copy_is_restored_and_the_next_backup_goes_on_from_it(
    with_vault: Terminal, second: str, source: Path, tmp_path: Path
) -> None:
    first = tmp_path.name
    snapshots = [with_vault.json_lines("backup", str(source), "--vault", first)[-1]["snapshot"]]
    (source / "letters" / "c.txt").write_text("another")
    snapshots.append(with_vault.json_lines("backup", str(source), "--vault", first)[-1]["snapshot"])

    code, output, errors = with_vault("copy", "--from", first, "--to", second, "--snapshot", snapshots[0][:12])
    assert (code, errors) == (0, "")
    assert "1 snapshot copied, 0 there already" in output
    rest = with_vault.json_lines("copy", "--from", first, "--to", second)[-1]
    assert [one["snapshot"] for one in rest["copied"]] == snapshots[1:]
    assert (rest["present"], rest["lost"], rest["warnings"]) == (1, 0, 0)

    again = with_vault.json_lines("backup", str(source), "--vault", second)[-1]
    assert again["parent"] == rest["copied"][0]["copy"]
    assert (again["files_new"], again["files_changed"]) == (0, 0)
    assert again["new_bytes"] < 4096  # the folder that holds the vaults has another time
    assert with_vault("check", "--vault", second, "--read-data")[0] == 0
    assert with_vault("restore", "latest", "--target", str(tmp_path / "target"), "--vault", second)[0] == 0
    assert not list(differences(source, tmp_path / "target" / source.relative_to("/")))
    jobs = with_vault.json("jobs")
    assert [job["status"] for job in jobs] == [5000] * 6


def test_what_cannot_be_copied_is_one_line_that_says_why(
    with_vault: Terminal, second: str, source: Path, tmp_path: Path
) -> None:
    first = tmp_path.name
    to_second = ("copy", "--from", first, "--to", second)
    assert "0 snapshots copied" in with_vault(*to_second)[1]
    with_vault.json_lines("backup", str(source), "--vault", first)
    shutil.copytree(tmp_path / "vault", tmp_path / "twin")
    password = with_vault.json("vault", "recovery", first)["password"]
    twin = ("vault", "add", "--local", str(tmp_path / "twin"), "--name", f"{first}-twin", "--repository-password-stdin")
    assert with_vault(*twin, given=f"{password}\n")[0] == 0
    for arguments, said in (
        (("copy", "--from", first, "--to", first), "name the same vault"),
        (("copy", "--from", first, "--to", f"{first}-twin"), "file by file"),
        (("copy", "--from", "unknown", "--to", second), "unknown"),
        ((*to_second, "--snapshot", "0123"), "0123"),
    ):
        code, output, errors = with_vault(*arguments)
        assert (code != 0, output) == (True, "")
        assert said in errors
        assert len(errors.splitlines()) == 1


def test_a_snapshot_that_has_lost_something_is_named_and_the_others_are_copied(
    with_vault: Terminal, second: str, source: Path, tmp_path: Path
) -> None:
    harmed = Harmed(with_vault, source, tmp_path)
    victim = harmed.of("data", data=DATA)
    remove(victim, victim)
    code, output, _ = with_vault("copy", "--from", harmed.name, "--to", second, "--json")
    lines = [json.loads(line) for line in output.splitlines()]
    assert code == 8
    assert [line["snapshot"] for line in lines if line["type"] == "lost"] == [harmed.second]
    assert [one["snapshot"] for one in lines[-1]["copied"]] == [harmed.first]
    assert with_vault("check", "--vault", second, "--read-data")[0] == 0
    assert with_vault.json("jobs")[0]["status"] == 7002


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_copy_whose_session_was_ended_goes_on_and_tells_all_that_it_copied(
    with_vault: Terminal, second: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, side: str
) -> None:
    monkeypatch.setattr("client.copying.run._ROUND", 1)
    harmed = Harmed(with_vault, source, tmp_path)
    commits: list[ObjectName] = []
    ended: list[str] = []
    commit, get = LocalSession.commit, LocalSession.get

    def ended_commit(session: LocalSession, snapshot: ObjectName, body: bytes) -> None:
        if side == "target" and commits and not ended:
            ended.append(side)
            raise SessionOver(place="The storage")
        commits.append(snapshot)
        commit(session, snapshot, body)

    def ended_get(session: LocalSession, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        if side == "source" and commits and not ended:
            ended.append(side)
            raise SessionOver(place="The storage")
        return get(session, name, offset, length)

    monkeypatch.setattr(LocalSession, "commit", ended_commit)
    monkeypatch.setattr(LocalSession, "get", ended_get)
    summary = with_vault.json_lines("copy", "--from", harmed.name, "--to", second)[-1]
    assert ended == [side]
    assert [one["snapshot"] for one in summary["copied"]] == [harmed.first, harmed.second]
    assert (summary["present"], summary["lost"]) == (0, 0)
    job = with_vault.json("jobs")[0]
    assert (job["status"], job["counts"]["uploaded_bytes"]) == (JobStatus.SUCCESS, summary["uploaded_bytes"])
    assert with_vault("check", "--vault", second, "--read-data")[0] == 0


def test_an_interrupted_copy_is_cancelled_and_the_same_command_goes_on(
    with_vault: Terminal, second: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harmed = Harmed(with_vault, source, tmp_path)
    genuine = LocalSession.put
    once = threading.Lock()  # two packs may be stored at the same time

    def put(session: LocalSession, name: ObjectName, body: bytes, packs: Sequence[ObjectName] = ()) -> bool:
        if name.kind is ObjectKind.PACK and once.acquire(blocking=False):
            os.kill(os.getpid(), signal.SIGINT)
        return genuine(session, name, body, packs)

    monkeypatch.setattr(LocalSession, "put", put)
    to_second = ("copy", "--from", harmed.name, "--to", second)
    code, output, errors = with_vault(*to_second)
    assert (code, output, len(errors.splitlines())) == (130, "", 1)
    monkeypatch.setattr(LocalSession, "put", genuine)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("copy-", "upload-"))]
    job = with_vault.json("jobs")[0]
    assert (job["status"], job["counts"]["bytes"] > 20_000) == (JobStatus.CANCELLED, True)  # told while it ran
    assert with_vault.json("snapshots", "--vault", second) == []
    assert not list((tmp_path / "vault" / "locks").iterdir()) + list((tmp_path / "second" / "locks").iterdir())
    assert len(with_vault.json_lines(*to_second)[-1]["copied"]) == 2


def test_what_a_check_found_lost_in_the_other_vault_is_stored_again(
    with_vault: Terminal, second: str, source: Path, tmp_path: Path
) -> None:
    harmed = Harmed(with_vault, source, tmp_path)
    to_second = ("copy", "--from", harmed.name, "--to", second)
    with_vault.json_lines(*to_second)
    largest = max((tmp_path / "second" / "data").rglob("*"), key=lambda path: path.is_file() and path.stat().st_size)
    largest.unlink()
    assert with_vault("check", "--vault", second)[0] == 8
    summary = with_vault.json_lines(*to_second)[-1]
    assert (summary["copied"], summary["present"], summary["new_bytes"] >= 20_000) == ([], 2, True)
    assert with_vault("restore", "latest", "--target", str(tmp_path / "target"), "--vault", second)[0] == 0
    assert not list(differences(source, tmp_path / "target" / source.relative_to("/")))


def test_latest_is_the_newest_that_can_be_read_and_another_is_named(
    with_vault: Terminal, second: str, source: Path, tmp_path: Path
) -> None:
    harmed = Harmed(with_vault, source, tmp_path)
    harmed.of("snapshots").write_bytes(b"rubbish")
    arguments = ("copy", "--from", harmed.name, "--to", second, "--snapshot", "latest")
    code, output, _ = with_vault(*arguments, "--json")
    lines = [json.loads(line) for line in output.splitlines()]
    assert code == 3
    (warning,) = [line for line in lines if line["type"] == "warning"]
    assert (warning["vault"], warning["object"]) == (harmed.name, f"snapshots/{harmed.second}")
    assert [one["snapshot"] for one in lines[-1]["copied"]] == [harmed.first]
    assert with_vault.json("jobs")[0]["status"] == JobStatus.WARNING


def test_the_vault_is_locked_before_its_snapshots_are_listed(
    with_vault: Terminal, second: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_vault.json_lines("backup", str(source), "--vault", tmp_path.name)
    locked: list[bool] = []
    genuine = LocalSession.list

    def listed(session: LocalSession, kind: ObjectKind) -> Iterator[ObjectInfo]:
        if kind is ObjectKind.SNAPSHOT:
            locked.append(any((tmp_path / "vault" / "locks").iterdir()))
        return genuine(session, kind)

    monkeypatch.setattr(LocalSession, "list", listed)
    for which in ((), ("--snapshot", "latest")):
        assert with_vault("copy", "--from", tmp_path.name, "--to", second, *which)[0] == 0
    assert locked
    assert all(locked)


def test_a_copy_that_is_interrupted_while_the_store_stands_still_leaves_no_lock(
    with_vault: Terminal,
    s3_bucket: str,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_vault.json_lines("backup", str(source), "--vault", tmp_path.name)
    name, address = f"{tmp_path.name}-s3", f"{s3_bucket}/vault"
    assert add(with_vault, name, address)[0] == 0
    hanging, closed = list[CloudSession](), threading.Event()
    once = threading.Lock()  # two packs may be stored at the same time
    genuine, close = CloudSession.put, CloudSession.close

    def put(session: CloudSession, name: ObjectName, body: bytes, packs: Sequence[ObjectName] = ()) -> bool:
        if name.kind is ObjectKind.PACK:
            hanging.append(session)
            if once.acquire(blocking=False):
                os.kill(os.getpid(), signal.SIGINT)
            assert closed.wait(60)
        return genuine(session, name, body, packs)

    def closing(session: CloudSession) -> None:
        close(session)
        if session in hanging:
            closed.set()

    monkeypatch.setattr(CloudSession, "put", put)
    monkeypatch.setattr(CloudSession, "close", closing)
    assert with_vault("copy", "--from", tmp_path.name, "--to", name)[0] == 130
    location = Location.of_s3(address).opened_by(KEY, SECRET)
    with contextlib.closing(CloudStore(location)) as store, store.open(Purpose.READ) as session:
        assert list(session.list(ObjectKind.LOCK)) == []
