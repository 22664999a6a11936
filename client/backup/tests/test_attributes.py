"""Extended attributes that a snapshot has no place for."""

import errno
import os
from pathlib import Path

import pytest

from client.testing.vaults import a_vault

STRAY, TEXT = b"user.\xff", "user.grüße"


def test_an_attribute_whose_name_is_no_text_is_named_and_the_rest_is_whole(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "folder").mkdir(parents=True)
    (source / "small").write_text("small")
    (source / "large").write_bytes(bytes(3 << 20))
    named = (source / "folder", source / "large", source / "small")
    for path in named:
        try:
            os.setxattr(path, STRAY, b"1")
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise
            pytest.skip("this file system has no attributes")
        os.setxattr(path, TEXT, b"2")
    vault = a_vault(tmp_path / "vault")

    summary = vault.backup(source)

    assert sorted(warned.path for warned in summary.warnings) == [os.fsencode(path) for path in named]
    assert all(r"its attribute user.\xff is left out" in warned.reason for warned in summary.warnings)
    assert vault.restore(tmp_path / "target").exit_code == 0
    for path in named:
        restored = tmp_path / "target" / path.relative_to("/")
        assert os.listxattr(restored) == [TEXT]
        assert path.is_dir() or restored.read_bytes() == path.read_bytes()
