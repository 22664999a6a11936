"""restic as the independent witness of what a prune leaves, in a vault that real backups made."""

import os
import subprocess
from pathlib import Path
from random import Random

import pytest

from client.retention.prune import PruneLimits, prune
from client.testing.vaults import PASSWORD, VaultForTests, a_vault
from client.vault.locks import vault_lock
from domain.names import ObjectKind
from domain.sessions import Purpose

pytestmark = pytest.mark.needs("restic")


def restic(vault: VaultForTests, *arguments: str) -> None:
    environment = os.environ | {"RESTIC_PASSWORD": PASSWORD}
    command = ["restic", "--repo", str(vault.path), "--no-cache", "--quiet", *arguments]
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
    restic(vault, "check", "--read-data")
    restic(vault, "restore", "latest", "--target", str(tmp_path / "target"))
    restored = tmp_path / "target" / source.relative_to("/")
    files = [path for path in source.rglob("*") if path.is_file()]
    assert len(files) == 6
    assert all((restored / path.relative_to(source)).read_bytes() == path.read_bytes() for path in files)
    restic(vault, "prune")
    assert vault.problems() == []
