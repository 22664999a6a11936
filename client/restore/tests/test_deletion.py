"""What `--delete` takes away, and what it never does."""

import os
from pathlib import Path

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
    options = RestoreOptions(
        patterns or Patterns(), Overwrite.ALWAYS, replaces_folders=True, protected=frozenset(identity)
    )
    with vault.opened() as opened:
        snapshot = opened.find_snapshot("latest")
        planned = plan_deletions(opened, snapshot, target, options.patterns)
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
    assert sorted(os.listdir(there)) == ["docs", "pictures"]
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
