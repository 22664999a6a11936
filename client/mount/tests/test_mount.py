"""What is seen through a mount is what was backed up."""

import os
from pathlib import Path

import pytest

from client.mount.tests.a_mount import a_mount
from client.testing.files import a_mixed_tree, described
from client.testing.vaults import a_vault

pytestmark = pytest.mark.needs("fusermount3")
ROOT = os.geteuid() == 0


@pytest.mark.parametrize("version", [1, 2])
def test_every_kind_of_file_is_seen_as_it_was(tmp_path: Path, version: int) -> None:
    source = tmp_path / "source"
    a_mixed_tree(source, privileged=ROOT)
    before = described(source)
    vault = a_vault(tmp_path / "vault", version=version)
    vault.backup(source)

    with a_mount(vault, tmp_path / "mount") as mounted:
        assert described(mounted.snapshot(source)) == before
        assert mounted.failures == []
