"""What comes back is what was there."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.testing.files import a_mixed_tree, described
from client.testing.vaults import PASSWORD, VaultForTests, a_vault
from client.vault.walk import list_snapshot
from domain.names import ObjectKind, ObjectName

ROOT = os.geteuid() == 0


@pytest.mark.parametrize("version", [1, 2])
def test_every_kind_of_file_comes_back_as_it_was(tmp_path: Path, version: int) -> None:
    source = tmp_path / "source"
    a_mixed_tree(source, privileged=ROOT)
    before = described(source)
    vault = a_vault(tmp_path / "vault", version=version)

    summary = vault.backup(source)
    restored = vault.restore(tmp_path / "target")

    assert summary.warnings == ()
    assert (restored.warnings, restored.damaged) == ((), ())
    assert described(tmp_path / "target" / source.relative_to("/")) == before
    assert vault.problems() == []


@pytest.mark.skipif(not ROOT, reason="only root may give links attributes")
def test_attributes_of_links_come_back(tmp_path: Path) -> None:
    """restic 0.14 neither keeps nor restores them."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "link").symlink_to("nowhere")
    os.setxattr(source / "link", "trusted.oort", b"of the link", follow_symlinks=False)
    vault = a_vault(tmp_path / "vault")
    vault.backup(source)
    vault.restore(tmp_path / "target")
    link = tmp_path / "target" / source.relative_to("/") / "link"
    assert os.getxattr(link, "trusted.oort", follow_symlinks=False) == b"of the link"
    assert vault.problems() == []


@pytest.mark.needs("restic")
def test_restic_restores_what_we_backed_up(tmp_path: Path) -> None:
    source = tmp_path / "source"
    a_mixed_tree(source, privileged=ROOT)
    (source / "link to no text").unlink()  # restic 0.14 does not keep the target's bytes
    before = described(source)
    vault = a_vault(tmp_path / "vault")
    vault.backup(source)

    restic(vault.path, "check", "--read-data")
    restic(vault.path, "restore", "latest", "--target", str(tmp_path / "target"))

    assert described(tmp_path / "target" / source.relative_to("/")) == before


@pytest.mark.needs("restic")
@pytest.mark.parametrize("version", [1, 2])
def test_we_restore_what_restic_backed_up(tmp_path: Path, version: int) -> None:
    source = tmp_path / "source"
    a_mixed_tree(source, privileged=ROOT)
    (source / "link to no text").unlink()  # restic 0.14 does not keep the target's bytes
    before = described(source)
    path = tmp_path / "vault"
    restic(path, "init", "--repository-version", str(version))
    restic(path, "backup", str(source))
    vault = VaultForTests(path)

    vault.restore(tmp_path / "target")

    assert described(tmp_path / "target" / source.relative_to("/")) == before


@pytest.mark.needs("restic")
def test_a_backup_onto_restics_snapshot_reads_nothing_again(tmp_path: Path) -> None:
    source = tmp_path / "source"
    a_mixed_tree(source, privileged=ROOT)
    (source / "link to no text").unlink()  # restic 0.14 does not keep the target's bytes
    path = tmp_path / "vault"
    restic(path, "init", "--repository-version", "2")
    restic(path, "backup", str(source))
    vault = VaultForTests(path)
    with vault.opened() as opened:
        snapshot = opened.snapshots()[-1]

    summary = vault.backup(source, parent=ObjectName(ObjectKind.SNAPSHOT, snapshot.id))

    assert (summary.files_new, summary.files_changed) == (0, 0)
    with vault.opened() as opened:
        theirs = next(list_snapshot(opened, snapshot, os.fsencode(source)))
        ours = next(list_snapshot(opened, opened.load_snapshot(summary.snapshot), os.fsencode(source)))
    assert ours == theirs


names = st.binary(min_size=1, max_size=12).filter(
    lambda name: name not in (b".", b"..") and not set(name) & set(b"/\0")
)
contents = st.one_of(st.binary(max_size=64), st.integers(0, 3 << 20).map(lambda size: os.urandom(1) * size))
trees = st.recursive(contents, lambda below: st.dictionaries(names, below, max_size=4), max_leaves=12).filter(
    lambda tree: isinstance(tree, dict)
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=trees)
def test_any_tree_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, tree: dict[bytes, object]) -> None:
    tmp_path = tmp_path_factory.mktemp("tree")
    source = tmp_path / "source"
    make(os.fsencode(source), tree)
    before = described(source)
    vault = a_vault(tmp_path / "vault")

    first = vault.backup(source)
    second = vault.backup(source, parent=first.snapshot)
    vault.restore(tmp_path / "target")

    assert (second.files_new, second.files_changed, second.files_unmodified) == (0, 0, first.files_new)
    assert described(tmp_path / "target" / source.relative_to("/")) == before
    assert vault.problems() == []


def make(path: bytes, tree: object) -> None:
    if isinstance(tree, dict):
        os.mkdir(path)
        for name, below in tree.items():
            make(path + b"/" + name, below)
    else:
        assert isinstance(tree, bytes)
        with open(path, "wb") as file:
            file.write(tree)


def restic(path: Path, *arguments: str) -> str:
    environment = {**os.environ, "RESTIC_PASSWORD": PASSWORD, "RESTIC_PROGRESS_FPS": "0"}
    done = subprocess.run(
        ["restic", "--repo", str(path), "--no-cache", "--quiet", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
