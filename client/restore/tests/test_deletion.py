"""What `--delete` takes away, and what it never does."""

import os
import subprocess
from pathlib import Path

import pytest

from client.errors import UsageError
from client.platforms.linux import is_superuser
from client.restore.compare import differences
from client.restore.deletion import plan_deletions
from client.restore.request import Overwrite, RestoreOptions, RestoreSummary
from client.restore.run import restore
from client.restore.selection import Patterns
from client.restore.tests.test_restore import flip_a_bit_of, some_files
from client.testing.vaults import VaultForTests, a_vault
from client.vault.blobs import blob_id


def deleting(
    vault: VaultForTests, target: Path, patterns: Patterns | None = None, protected: Path | None = None
) -> tuple[list[str], RestoreSummary]:
    """What is planned, below the target, and what came of it."""
    identity = {(protected.stat().st_dev, protected.stat().st_ino)} if protected else set()
    options = RestoreOptions(patterns or Patterns(), Overwrite.ALWAYS, protected=frozenset(identity))
    with vault.opened() as opened:
        snapshot = opened.find_snapshot("latest")
        planned = plan_deletions(opened, snapshot, target, options.patterns, options.protected)
        summary = restore(opened, opened.session, snapshot, target, options, deletions=planned)
    return [os.fsdecode(path) for path in planned.paths], summary


def a_restored_tree(tmp_path: Path) -> tuple[VaultForTests, Path, Path]:
    """Vault, source, and the source's place in the target, with things beyond."""
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    vault.backup(source)
    vault.restore(tmp_path / "target")
    there = tmp_path / "target" / source.relative_to("/")
    (there.parent / "a neighbour").write_text("was not backed up beside it")
    (there / "extra").mkdir()
    (there / "extra" / "deep").mkdir()
    (there / "extra" / "deep" / "keep.log").write_text("x")
    (there / "extra" / "file").write_text("x")
    (there / "docs" / "more.txt").write_text("x")
    (there / "docs" / "link").symlink_to(tmp_path / "source")
    return vault, source, there


def test_what_the_snapshot_has_not_goes_and_nothing_else(tmp_path: Path) -> None:
    vault, source, there = a_restored_tree(tmp_path)

    planned, summary = deleting(vault, tmp_path / "target")

    assert planned == [f"{source}/extra", f"{source}/docs/link", f"{source}/docs/more.txt"]
    assert (summary.deleted, summary.exit_code) == (6, 0)
    assert not list(differences(source, there))
    assert (there.parent / "a neighbour").exists()
    assert (source / "docs" / "a.txt").exists()


def test_what_is_excluded_stays_with_the_folders_that_hold_it(tmp_path: Path) -> None:
    vault, _, there = a_restored_tree(tmp_path)

    deleting(vault, tmp_path / "target", Patterns(excludes=["*.log"]))
    assert (there / "extra" / "deep" / "keep.log").exists()
    assert not (there / "extra" / "file").exists()

    (there / "outside the includes").write_text("x")
    planned, _ = deleting(vault, tmp_path / "target", Patterns(includes=["docs"]))
    assert planned == []


def test_nothing_is_deleted_when_something_is_lost(tmp_path: Path) -> None:
    vault, source, there = a_restored_tree(tmp_path)
    (there / "pictures" / "3").unlink()
    flip_a_bit_of(vault, blob_id((source / "pictures" / "3").read_bytes()))

    _, summary = deleting(vault, tmp_path / "target")

    assert (summary.deleted, summary.exit_code) == (0, 8)
    assert (there / "extra" / "file").exists()


def test_a_vault_or_home_in_the_target_is_never_deleted(tmp_path: Path) -> None:
    vault, _, there = a_restored_tree(tmp_path)

    _, summary = deleting(vault, tmp_path / "target", protected=there / "extra" / "deep")

    assert summary.exit_code == 3
    assert (there / "extra" / "deep" / "keep.log").exists()


def test_what_looks_like_a_vault_is_never_deleted_whoever_it_belongs_to(tmp_path: Path) -> None:
    vault, _, there = a_restored_tree(tmp_path)
    other = a_vault(there / "extra" / "deep" / "other")

    _, summary = deleting(vault, tmp_path / "target")

    assert summary.exit_code == 3
    assert other.backup(tmp_path / "source").total_files


def test_nothing_in_a_home_that_was_backed_up_is_deleted_or_put_back(tmp_path: Path) -> None:
    vault, source, there = a_restored_tree(tmp_path)
    (there / "docs" / "a.txt").write_text("the keys of today")

    planned, summary = deleting(vault, tmp_path / "target", protected=there / "docs")

    assert planned == [f"{source}/extra"]
    assert summary.left == 1
    assert (there / "docs" / "a.txt").read_text() == "the keys of today"
    assert (there / "docs" / "more.txt").exists()


@pytest.mark.skipif(not is_superuser(), reason="only root may mount")
def test_what_is_mounted_below_the_target_is_left_alone(tmp_path: Path) -> None:
    vault, source, there = a_restored_tree(tmp_path)
    mounted = there / "docs" / "old"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(mounted)], check=True)
    try:
        (mounted / "precious").write_text("x")
        planned, _ = deleting(vault, tmp_path / "target")
        assert f"{source}/docs/old/precious" not in planned
        assert (mounted / "precious").read_text() == "x"
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def test_excludes_mean_what_they_do_to_a_backup(tmp_path: Path) -> None:
    vault, source, _ = a_restored_tree(tmp_path)
    excluding = RestoreOptions(Patterns(excludes=["docs/*", "!a.txt"]))
    vault.restore(tmp_path / "other", options=excluding)
    found = tmp_path / "other" / source.relative_to("/") / "docs"
    assert os.listdir(found) == ["a.txt"]
    with pytest.raises(UsageError, match="--exclude"):
        vault.restore(tmp_path / "third", options=RestoreOptions(Patterns(includes=["!a.txt"])))
