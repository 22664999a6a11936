"""Restores that are ended in the middle, and gone on with by the same call."""

import os
from pathlib import Path

import pytest

from client.errors import ServerUnreachable, UsageError
from client.restore import fetch, unfinished
from client.restore.compare import differences
from client.restore.request import Overwrite, RestoreOptions
from client.restore.selection import Patterns
from client.restore.tests.test_restore import some_files
from client.stores.abc import StoreSession
from client.testing.faults import SessionAround
from client.testing.files import random_bytes
from client.testing.vaults import VaultForTests, a_vault
from domain.names import ObjectKind, ObjectName

MIB = 1 << 20
MARK = ".oort-restore"


class Breaking(SessionAround):
    """The connection is lost after so many reads of packs."""

    left = 6

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        if name.kind is ObjectKind.PACK:
            self.left -= 1
            if self.left < 0:
                raise ServerUnreachable(server="node", reason="connection refused")
        return super().get(name, offset, length)


def interrupted(vault: VaultForTests, target: Path) -> None:
    with pytest.raises(ServerUnreachable):
        vault.restore(target, around=Breaking)


@pytest.fixture(autouse=True)
def one_fetcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read before the connection was lost has been written then."""
    monkeypatch.setattr(fetch, "FETCHERS", 1)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = some_files(tmp_path / "source")
    (source / "disk").write_bytes(random_bytes(20 * MIB, 9))
    return source


@pytest.fixture
def vault(tmp_path: Path, source: Path) -> VaultForTests:
    made = a_vault(tmp_path / "vault")
    made.backup(source)
    return made


def test_the_same_restore_goes_on_where_it_was_interrupted(tmp_path: Path, source: Path, vault: VaultForTests) -> None:
    target = tmp_path / "target"
    interrupted(vault, target)
    assert (target / MARK).exists()

    summary = vault.restore(target)

    whole = vault.restore(tmp_path / "whole")
    assert summary.resumed
    assert summary.fetched_bytes < whole.fetched_bytes - 4 * MIB
    assert not list(differences(source, target / source.relative_to("/")))
    assert not list(target.rglob(".oort-*"))
    with pytest.raises(UsageError, match="is not empty"):
        vault.restore(target)


def test_an_unfinished_restore_is_not_taken_for_another(tmp_path: Path, source: Path, vault: VaultForTests) -> None:
    target = tmp_path / "target"
    (source / "new").write_text("new")
    vault.backup(source)
    interrupted(vault, target)
    with vault.opened() as opened:
        other = next(snapshot for snapshot in opened.snapshots() if snapshot != opened.find_snapshot("latest"))

    with pytest.raises(UsageError, match="unfinished restore of snapshot"):
        vault.restore(target, other.id)
    (target / MARK).write_bytes(b"\xff no mark")
    with pytest.raises(UsageError, match="unfinished restore of snapshot unknown"):
        vault.restore(target)


def test_what_was_changed_after_the_interruption_is_left_and_named(
    tmp_path: Path, source: Path, vault: VaultForTests
) -> None:
    target = tmp_path / "target"
    vault.restore(target)
    there = target / source.relative_to("/")
    (there / "docs" / "a.txt").write_text("my own work")
    (there / "pictures" / "large").unlink()
    mark(target, vault)

    summary = vault.restore(target)

    assert [warning.path for warning in summary.warnings] == [os.fsencode(source / "docs" / "a.txt")]
    assert (there / "docs" / "a.txt").read_text() == "my own work"
    assert (there / "pictures" / "large").read_bytes() == (source / "pictures" / "large").read_bytes()


def test_after_a_new_start_of_the_machine_sizes_and_times_are_not_trusted(
    tmp_path: Path, source: Path, vault: VaultForTests, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"
    vault.restore(target)
    file = target / source.relative_to("/") / "pictures" / "3"
    before = file.stat()
    file.write_bytes(bytes(before.st_size))
    os.utime(file, ns=(before.st_mtime_ns, before.st_mtime_ns))
    mark(target, vault)
    monkeypatch.setattr(unfinished, "_BOOT", tmp_path / "boot")
    (tmp_path / "boot").write_text("another")

    vault.restore(target)

    assert file.read_bytes() == (source / "pictures" / "3").read_bytes()


def test_partial_files_of_earlier_restores_are_taken_over_or_removed(
    tmp_path: Path, source: Path, vault: VaultForTests
) -> None:
    target = tmp_path / "target"
    interrupted(vault, target)
    there = target / source.relative_to("/")
    (there / "docs").mkdir(parents=True, exist_ok=True)
    (there / "docs" / ".oort-partial-0123456789abcdef").write_text("of a file that is no more")

    vault.restore(target)

    assert not list(target.rglob(".oort-*"))
    assert not list(differences(source, there))


def test_partial_files_that_were_backed_up_are_files_like_others(tmp_path: Path, source: Path) -> None:
    interrupted_target = tmp_path / "interrupted"
    vault = a_vault(tmp_path / "vault")
    vault.backup(source)
    interrupted(vault, interrupted_target)
    there = interrupted_target / source.relative_to("/")
    assert list(there.rglob(".oort-partial-*"))
    for path in list(there.rglob(".oort-partial-*")):
        (path.parent / "disk").write_bytes(random_bytes(4 * MIB, 3))
        (path.parent / "large").write_bytes(random_bytes(4 * MIB, 4))
    second = vault.backup(interrupted_target)

    vault.restore(tmp_path / "target", second.snapshot.id)

    assert not list(differences(interrupted_target, tmp_path / "target" / interrupted_target.relative_to("/")))


def test_two_restores_never_write_to_one_target(tmp_path: Path, vault: VaultForTests) -> None:
    target = tmp_path / "target"

    class Meanwhile(SessionAround):
        def __init__(self, session: StoreSession) -> None:
            super().__init__(session)
            self.refused = False

        def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
            if target.exists() and not self.refused:
                self.refused = True
                with pytest.raises(UsageError, match="another restore is writing"):
                    vault.restore(target, options=RestoreOptions())
            return super().get(name, offset, length)

    assert vault.restore(target, around=Meanwhile).exit_code == 0


def mark(target: Path, vault: VaultForTests, patterns: Patterns | None = None) -> None:
    """Have the target look as if the latest snapshot, or some of it, were not all restored to it."""
    with vault.opened() as opened:
        snapshot = opened.find_snapshot("latest")
    folder = os.open(target, os.O_RDONLY)
    unfinished.Unfinished(snapshot.id, (patterns or Patterns()).scope).begin(folder)
    os.close(folder)


def test_an_unfinished_restore_of_some_paths_is_gone_on_with_for_the_same_paths_only(
    tmp_path: Path, vault: VaultForTests
) -> None:
    some = Patterns(includes=["docs"])
    target = tmp_path / "target"
    target.mkdir()
    mark(target, vault, some)
    with pytest.raises(UsageError, match="other paths"):
        vault.restore(target)
    assert vault.restore(target, options=RestoreOptions(some, Overwrite.ALWAYS)).exit_code == 0
    assert not (target / MARK).exists()
