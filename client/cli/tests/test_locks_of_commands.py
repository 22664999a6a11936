"""What an interrupted command leaves of restic's lock: nothing, also where its session was closed to end a call."""

from pathlib import Path
from typing import Any

import pytest

from client.cli.tests.terminal import Terminal
from client.stores.local import LocalSession
from domain.names import ObjectKind, ObjectName


@pytest.mark.parametrize(
    "command",
    [
        ("backup", "{source}"),
        ("restore", "latest", "--target", "{target}"),
        ("tag", "latest", "--add", "kept"),
        ("retention", "--keep-last", "1", "--yes"),
        ("retention", "--keep-last", "1", "--yes", "--prune"),
        ("rebuild-index",),
    ],
)
def test_a_command_whose_session_is_closed_while_it_holds_the_lock_leaves_none(
    with_vault: Terminal, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    vault = ("--vault", tmp_path.name)
    for _ in range(2):
        with_vault.json_lines("backup", str(source), *vault)
    put, get, listed = LocalSession.put, LocalSession.get, LocalSession.list
    locked = set[LocalSession]()

    def locking(session: LocalSession, name: ObjectName, *arguments: Any) -> bool:
        if name.kind is ObjectKind.LOCK:
            locked.add(session)
        return put(session, name, *arguments)

    def interrupt(session: LocalSession, kind: ObjectKind) -> None:
        if session in locked and kind is not ObjectKind.LOCK:
            session.close()
            raise KeyboardInterrupt

    def getting(session: LocalSession, name: ObjectName, *arguments: Any) -> Any:
        interrupt(session, name.kind)
        return get(session, name, *arguments)

    def listing(session: LocalSession, kind: ObjectKind) -> Any:
        interrupt(session, kind)
        return listed(session, kind)

    with monkeypatch.context() as patched:
        patched.setattr(LocalSession, "put", locking)
        patched.setattr(LocalSession, "get", getting)
        patched.setattr(LocalSession, "list", listing)
        given = [one.format(source=source, target=tmp_path / "target") for one in command]
        assert with_vault(*given, *vault)[0] == 130
    assert locked
    assert list((tmp_path / "vault" / "locks").iterdir()) == []
