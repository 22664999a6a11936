"""restic as the independent witness of what a prune leaves, in a vault that real backups made."""

import os
import shutil
import subprocess
from pathlib import Path
from random import Random

import pytest

from client.errors import StoreError
from client.reachability.tests.a_history import History, copied
from client.retention.prune import PruneLimits, prune
from client.stores.abc import StoreSession
from client.stores.local import LocalStore
from client.testing.faults import CallFault, FailingCall
from client.testing.vaults import PASSWORD, a_vault
from client.vault.locks import vault_lock
from client.vault.tests.builders import PASSWORD as THEIR_PASSWORD
from domain.names import ObjectKind
from domain.sessions import Purpose

CUT = StoreError(place="the store", detail="the connection was cut")

pytestmark = pytest.mark.needs("restic")


def restic(vault: Path, *arguments: str, password: str = PASSWORD) -> None:
    environment = os.environ | {"RESTIC_PASSWORD": password}
    command = ["restic", "--repo", str(vault), "--no-cache", "--quiet", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", [1, 2])
def test_restic_finds_nothing_wrong_and_restores_everything(tmp_path: Path, version: int) -> None:
    vault, source = a_vault(tmp_path / "vault", version=version), tmp_path / "source"
    random = Random(version)
    snapshots = []
    for turn in range(3):
        for number in range(6):
            file = source / f"folder {number % 2}" / f"file {number}"
            file.parent.mkdir(parents=True, exist_ok=True)
            if turn == 0 or number % 3 == turn:
                file.write_bytes(random.randbytes(400_000) + b"same" * 1000)
        snapshots.append(vault.backup(source).snapshot)
    with vault.opened(Purpose.RETENTION) as opened, vault_lock(opened, needed=True, exclusive=True) as lock:
        assert lock is not None
        for snapshot in snapshots[:2]:
            opened.session.remove(snapshot)
        before = vault.size()
        report = prune(opened, PruneLimits(unused_share=0), ensure_locked=lock.ensure_held)

    assert not report.problems
    assert report.freed_bytes - report.added_bytes == before - vault.size()
    assert report.freed_bytes > 1_000_000
    assert vault.problems() == []
    assert vault.objects(ObjectKind.LOCK) == []
    restic(vault.path, "check", "--read-data")
    restic(vault.path, "restore", "latest", "--target", str(tmp_path / "target"))
    restored = tmp_path / "target" / source.relative_to("/")
    files = [path for path in source.rglob("*") if path.is_file()]
    assert len(files) == 6
    assert all((restored / path.relative_to(source)).read_bytes() == path.read_bytes() for path in files)
    restic(vault.path, "prune")
    assert vault.problems() == []


@pytest.mark.case(number=14)
def test_restic_finds_nothing_wrong_after_a_prune_that_was_ended(tmp_path: Path) -> None:
    """Before the last of the new, among the old index files, and among the old packs."""
    whole = History(LocalStore(tmp_path / "whole"))
    for number in range(3):
        whole.backup({"all": range(30 * number, 30 * number + 40), "some": range(number, 120, 4)}, pack_blobs=3)
    whole.forget(min(whole.snapshots))
    counted: list[FailingCall] = []

    def count(session: StoreSession) -> FailingCall:
        counted.append(FailingCall(session, 0, CallFault.LOST, CUT))
        return counted[0]

    copied_to(whole, tmp_path / "counted").prune(around=count)
    calls = counted[0].calls
    for turn, (before_the_end, fault) in enumerate([(3, CallFault.LOST), (1, CallFault.HALF), (0, CallFault.HALF)]):
        history = copied_to(whole, tmp_path / str(turn))
        with pytest.raises(StoreError, match="cut"):
            history.prune(around=lambda session: FailingCall(session, calls - before_the_end, fault, CUT))  # noqa: B023
        restic(tmp_path / str(turn), "--no-lock", "check", "--read-data", password=THEIR_PASSWORD)
        assert history.problems(errors=True) == []
        assert history.is_whole()
        history.prune()
        assert history.problems() == []
        assert history.blobs() == history.needed()


def copied_to(history: History, path: Path) -> History:
    """A copy of a vault in a folder."""
    assert isinstance(history.store, LocalStore)
    shutil.copytree(history.store.path, path)
    return copied(history, LocalStore(path))
