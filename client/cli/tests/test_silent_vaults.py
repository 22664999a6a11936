"""Several vaults of which one does not answer, or not all of it can be read."""

import json
import math
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from oort.auth.v1.profiles_pb2 import Vault as VaultEntry

from client.account import choosing, opening_together
from client.account.backup_vault import BackupVault
from client.cli.tests.terminal import Terminal
from client.errors import StoreError
from client.interrupts import unmoved_by_hang_ups
from client.restore.compare import differences
from client.stores.abc import Buffer
from client.stores.local import LocalSession, LocalStore
from domain.jobs import JobStatus
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose

LONG = 3600.0


@pytest.fixture
def names(with_vault: Terminal, source: Path, tmp_path: Path) -> tuple[str, str]:
    """Two vaults of the account, in the folders `vault` and `second`; each has a snapshot of its own of the source."""
    names = (tmp_path.name, f"{tmp_path.name}-second")
    assert with_vault("vault", "add", "--local", str(tmp_path / "second"), "--name", names[1])[0] == 0
    for number, name in enumerate(names):
        (source / "number").write_text(f"{number}")
        assert with_vault("backup", str(source), "--vault", name)[0] == 0
    return names


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """Set at the end, so that nothing hangs longer."""
    event = threading.Event()
    yield event
    event.set()


def hanging(monkeypatch: pytest.MonkeyPatch, folder: Path, until: threading.Event) -> None:
    """The store in the folder lets nobody read before an event."""
    genuine = LocalStore.open

    def hung(store: LocalStore, purpose: Purpose, parent: ObjectName | None = None) -> LocalSession:
        if store.path == folder:
            assert until.wait(60)
        return genuine(store, purpose, parent)

    monkeypatch.setattr(LocalStore, "open", hung)


def restored(terminal: Terminal, names: tuple[str, str], tmp_path: Path, snapshot: str = "latest") -> tuple[Any, str]:
    vaults = [part for name in names for part in ("--vault", name)]
    code, output, errors = terminal("restore", snapshot, "--target", str(tmp_path / "target"), *vaults, "--json")
    assert code == 0
    return json.loads(output.splitlines()[-1]), errors


@pytest.mark.parametrize("silent", [0, 1])
def test_a_vault_that_is_silent_is_waited_for_a_short_time_and_named_with_what_it_may_have(  # noqa: PLR0917 - fixtures
    with_vault: Terminal,
    names: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    released: threading.Event,
    silent: int,
) -> None:
    hanging(monkeypatch, tmp_path / ("vault", "second")[silent], released)
    monkeypatch.setattr(choosing, "SILENT_SECONDS", 0.1)

    summary, errors = restored(with_vault, names, tmp_path)

    assert (summary["vault"], summary["unheard"]) == (names[1 - silent], [names[silent]])
    [line] = errors.splitlines()
    assert f"not from the vault {names[silent]}, which may have a newer snapshot" in line
    assert "has not answered for 0.1 seconds" in line


def test_a_vault_that_answers_late_is_waited_for_and_has_the_newest(
    with_vault: Terminal,
    names: tuple[str, str],
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first_is_done = threading.Event()
    listed, closed = LocalSession.list, LocalSession.close

    def closing(session: LocalSession) -> None:
        closed(session)
        if session._store.path == tmp_path / "vault":
            first_is_done.set()

    def listing(session: LocalSession, kind: ObjectKind) -> Any:
        if session._store.path == tmp_path / "second" and kind is ObjectKind.SNAPSHOT:
            assert first_is_done.wait(60)
        return listed(session, kind)

    monkeypatch.setattr(LocalSession, "close", closing)
    monkeypatch.setattr(LocalSession, "list", listing)
    monkeypatch.setattr(choosing, "SILENT_SECONDS", LONG)

    summary, errors = restored(with_vault, names, tmp_path)

    assert (summary["vault"], summary["unheard"], errors) == (names[1], [], "")
    assert not list(differences(source, tmp_path / "target" / source.relative_to("/")))


def test_of_an_id_only_the_vaults_before_the_first_that_has_it_are_waited_for(
    with_vault: Terminal,
    names: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    released: threading.Event,
) -> None:
    ids = [with_vault.json("snapshots", "--vault", name)[0]["id"] for name in names]
    hanging(monkeypatch, tmp_path / "second", released)
    monkeypatch.setattr(choosing, "SILENT_SECONDS", LONG)

    summary, errors = restored(with_vault, names, tmp_path, ids[0])

    assert (summary["vault"], summary["unheard"], errors) == (names[0], [], "")


def test_a_vault_with_a_snapshot_that_cannot_be_read_is_named_with_what_it_may_have(
    with_vault: Terminal, names: tuple[str, str], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "SILENT_SECONDS", LONG)
    assert with_vault("backup", str(source), "--vault", names[1])[0] == 0
    newest = with_vault.json("snapshots", "--vault", names[1])[-1]["id"]
    (tmp_path / "second" / "snapshots" / newest).chmod(0o600)
    (tmp_path / "second" / "snapshots" / newest).write_bytes(b"damaged")
    assert with_vault("backup", str(source), "--vault", names[0])[0] == 0

    summary, errors = restored(with_vault, names, tmp_path)

    assert (summary["vault"], summary["unheard"]) == (names[0], [names[1]])
    assert f"not from the vault {names[1]}, which may have a newer snapshot" in errors


def test_a_vault_of_which_no_snapshot_can_be_read_is_named_with_what_it_may_have(
    with_vault: Terminal, names: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for snapshot in (tmp_path / "second" / "snapshots").iterdir():
        snapshot.chmod(0o600)
        snapshot.write_bytes(b"damaged")
    monkeypatch.setattr(choosing, "SILENT_SECONDS", LONG)

    summary, errors = restored(with_vault, names, tmp_path)

    assert (summary["vault"], summary["unheard"]) == (names[0], [names[1]])
    assert f"not from the vault {names[1]}, which may have a newer snapshot" in errors


def test_a_vault_that_refuses_is_named_with_what_it_may_have(
    with_vault: Terminal, names: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = LocalSession.list

    def refused(session: LocalSession, kind: ObjectKind) -> Any:
        if session._store.path == tmp_path / "second":
            raise StoreError(place="the store", detail="wrong credentials")
        return listed(session, kind)

    monkeypatch.setattr(LocalSession, "list", refused)
    monkeypatch.setattr(choosing, "SILENT_SECONDS", LONG)
    summary, errors = restored(with_vault, names, tmp_path)
    assert (summary["vault"], summary["unheard"]) == (names[0], [names[1]])
    assert "which may have a newer snapshot: the store: wrong credentials" in errors


def backed_up(terminal: Terminal, names: tuple[str, str], source: Path) -> tuple[int, list[Any], str]:
    vaults = [part for name in names for part in ("--vault", name)]
    code, output, errors = terminal("backup", str(source), *vaults, "--json")
    return code, [json.loads(line) for line in output.splitlines()], errors


@pytest.mark.parametrize("silent", [0, 1])
def test_a_vault_that_is_silent_when_it_is_opened_keeps_no_other_from_its_backup(  # noqa: PLR0917 - fixtures
    with_vault: Terminal,
    names: tuple[str, str],
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    released: threading.Event,
    silent: int,
) -> None:
    hanging(monkeypatch, tmp_path / ("vault", "second")[silent], released)
    monkeypatch.setattr(opening_together, "SILENT_SECONDS", 0.1)

    code, lines, errors = backed_up(with_vault, names, source)

    results = lines[-1]["vaults"]
    assert (code, errors) == (3, "")
    assert (results[silent]["snapshot"], results[silent]["error"]) == (None, "StoreError")
    assert "has not answered for 0.1 seconds" in results[silent]["message"]
    assert results[1 - silent]["snapshot"] == lines[-1]["snapshot"]
    assert lines[-1]["snapshot"]


def test_a_vault_that_is_silent_in_a_later_session_is_passed_over_too(
    monkeypatch: pytest.MonkeyPatch, released: threading.Event
) -> None:
    vaults = [BackupVault(VaultEntry(name=name), None) for name in ("one", "another")]
    target: Any = object()
    silent = list[BackupVault]()

    def opened(vault: BackupVault, *_: object) -> Any:
        if vault in silent:
            released.wait(60)
        vault.heard = math.inf
        return target

    monkeypatch.setattr(BackupVault, "_opened", opened)
    monkeypatch.setattr(opening_together, "SILENT_SECONDS", LONG)
    opening_together.open_all(vaults, "", lambda _: None, lambda *_: None)
    for vault in vaults:
        assert vault.target is target
        vault.close()

    silent.append(vaults[1])
    monkeypatch.setattr(opening_together, "SILENT_SECONDS", 0.1)
    opening_together.open_all(vaults, "", lambda _: None, lambda *_: None)
    assert [vault.target for vault in vaults] == [target, None]
    assert "has not answered for 0.1 seconds" in str(vaults[1].outcome)


def test_a_vault_that_answers_while_others_are_opened_is_waited_for(
    with_vault: Terminal, names: tuple[str, str], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second_is_locked = locked_in(monkeypatch, tmp_path / "second")
    hanging(monkeypatch, tmp_path / "vault", second_is_locked)
    monkeypatch.setattr(opening_together, "SILENT_SECONDS", LONG)

    code, lines, _ = backed_up(with_vault, names, source)

    assert code == 0
    assert all(one["snapshot"] for one in lines[-1]["vaults"])


def test_what_a_vault_that_was_passed_over_opens_later_is_let_go_of(  # noqa: PLR0917 - fixtures
    with_vault: Terminal,
    names: tuple[str, str],
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    released: threading.Event,
) -> None:
    locked_in(monkeypatch, tmp_path / "second", released)
    monkeypatch.setattr(opening_together, "SILENT_SECONDS", 0.1)

    code, lines, _ = backed_up(with_vault, names, source)
    released.set()
    wait_until_opened(names[1])

    assert (code, lines[-1]["vaults"][1]["snapshot"]) == (3, None)
    assert not list((tmp_path / "second" / "locks").iterdir())
    assert len(with_vault.json("snapshots", "--vault", names[1])) == 1


def wait_until_opened(name: str) -> None:
    """Wait for the thread that opens a vault, if it still does, and has let go of what it had."""
    for thread in threading.enumerate():
        if thread.name == f"open-{name}":
            thread.join(60)
            assert not thread.is_alive()
    with unmoved_by_hang_ups():
        pass  # puts back what handled them: that lock has ended in another thread


def locked_in(monkeypatch: pytest.MonkeyPatch, folder: Path, until: threading.Event | None = None) -> threading.Event:
    """Set when a lock is written into the folder, which is not done before another event."""
    written = threading.Event()
    genuine = LocalSession.put

    def put(session: LocalSession, name: ObjectName, body: Buffer, packs: Sequence[ObjectName] = ()) -> bool:
        is_lock = name.kind is ObjectKind.LOCK and session._store.path == folder
        if is_lock and until is not None:
            assert until.wait(500)
        stored = genuine(session, name, body, packs)
        if is_lock:
            written.set()
        return stored

    monkeypatch.setattr(LocalSession, "put", put)
    return written


def test_an_interruption_does_not_wait_for_a_vault_that_is_silent_when_it_is_opened(  # noqa: PLR0917 - fixtures
    with_vault: Terminal,
    names: tuple[str, str],
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    released: threading.Event,
) -> None:
    monkeypatch.setattr(opening_together, "SILENT_SECONDS", LONG)
    monkeypatch.setattr(opening_together, "_END_SECONDS", 0.1)
    first_is_locked = locked_in(monkeypatch, tmp_path / "vault")
    genuine = LocalStore.open

    def hung(store: LocalStore, purpose: Purpose, parent: ObjectName | None = None) -> LocalSession:
        if store.path == tmp_path / "second":
            assert first_is_locked.wait(500)
            os.kill(os.getpid(), signal.SIGINT)
            assert released.wait(500)
        return genuine(store, purpose, parent)

    monkeypatch.setattr(LocalStore, "open", hung)
    code, _, errors = with_vault("backup", str(source), "--vault", names[0], "--vault", names[1])
    wait_until_opened(names[0])

    assert (code, "interrupted" in errors) == (130, True)
    assert with_vault.json("jobs")[0]["status"] == JobStatus.CANCELLED
    assert not list((tmp_path / "vault" / "locks").iterdir())
