"""Which files the given paths mean, links among them."""

import os
from pathlib import Path

import pytest

from client.backup.targets import absolute_paths
from client.errors import UsageError
from client.testing.vaults import VaultForTests, a_vault


@pytest.fixture
def vault(tmp_path: Path) -> VaultForTests:
    return a_vault(tmp_path / "vault")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """`real/inner/file` and `real/file`, with `link` leading to `real/inner` from a folder of its own."""
    (tmp_path / "real" / "inner").mkdir(parents=True)
    (tmp_path / "real" / "inner" / "file").write_text("inner")
    (tmp_path / "real" / "file").write_text("outer")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link").symlink_to(tmp_path / "real" / "inner")
    (tmp_path / "elsewhere" / "file").write_text("beside the link")
    return tmp_path


def absolute(*paths: Path | str) -> list[str]:
    return [os.fsdecode(path) for path in absolute_paths([os.fsencode(path) for path in paths])]


def restored(vault: VaultForTests, path: Path) -> Path:
    """Where `path` is after the newest snapshot was restored."""
    target = vault.path.parent / "target"
    assert vault.restore(target).exit_code == 0
    return target / path.relative_to("/")


def test_a_link_with_a_slash_means_the_folder_behind_it(vault: VaultForTests, source: Path) -> None:
    summary = vault.backup(f"{source}/elsewhere/link/")

    assert (summary.total_files, summary.warnings) == (1, ())
    with vault.opened() as opened:
        assert opened.find_snapshot("latest").paths == (f"{source}/elsewhere/link/",)
    link = restored(vault, source / "elsewhere" / "link")
    assert not link.is_symlink()
    assert (link / "file").read_text() == "inner"
    assert vault.problems() == []


def test_the_folder_behind_a_link_is_not_read_again_while_unchanged(vault: VaultForTests, source: Path) -> None:
    first = vault.backup(f"{source}/elsewhere/link/")
    second = vault.backup(f"{source}/elsewhere/link/", parent=first.snapshot)
    assert (second.files_unmodified, second.files_changed, second.files_new) == (1, 0, 0)


def test_a_link_alone_is_stored_as_a_link_with_a_warning(vault: VaultForTests, source: Path) -> None:
    link = source / "elsewhere" / "link"
    summary = vault.backup(link)

    (warned,) = summary.warnings
    assert warned.path == os.fsencode(link)
    assert warned.reason == f"is a symbolic link: only the link is stored; give {link}/ or its target"
    assert restored(vault, link).readlink() == source / "real" / "inner"


def test_a_link_within_a_given_folder_is_no_warning(vault: VaultForTests, source: Path) -> None:
    assert vault.backup(source / "elsewhere").warnings == ()


@pytest.mark.parametrize(("path", "content"), [("link/../file", "outer"), ("link/../inner/../file", "outer")])
def test_the_folder_above_a_link_is_the_one_above_its_target(
    vault: VaultForTests, source: Path, path: str, content: str
) -> None:
    given = f"{source}/elsewhere/{path}"
    assert Path(given).read_text() == content

    vault.backup(given)

    assert restored(vault, source / "real" / "file").read_text() == content


def test_paths_end_in_dots_and_slashes_without_harm(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(source / "real" / "inner")
    real = f"{source}/real"
    assert absolute("..", "../", "../.", "../../real", f"{real}/", f"{real}/.", f"/{real}", f"{real}//") == [real]
    assert absolute(".", "file") == [f"{real}/inner", f"{real}/inner/file"]
    assert absolute("/", "//", "/..") == ["/"]
    link = f"{source}/elsewhere/link"
    assert absolute(f"{link}/..") == [real]
    assert absolute(f"{link}/.") == absolute(f"{link}/") == absolute(*absolute(f"{link}/")) == [f"{link}/"]
    assert absolute(f"{source}/real/../elsewhere/link") == [link]


def test_what_a_path_reaches_through_a_link_is_stored_even_if_the_link_is_given_too(
    vault: VaultForTests, source: Path
) -> None:
    link = source / "elsewhere" / "link"
    for paths in (
        (link, f"{link}/"),
        (link, link / "file"),
        (source / "elsewhere", link / "file"),
        (source / "elsewhere", f"{link}/"),
    ):
        summary = vault.backup(*paths)
        with vault.opened() as opened:
            assert opened.find_snapshot(summary.snapshot.id).paths[-1].startswith(f"{source}/real/inner")
        assert summary.total_files >= 1
    assert absolute(f"{link}/", link / "file") == [f"{link}/", f"{link}/file"]
    assert vault.backup(f"{link}/", link / "file").total_files == 1


def test_a_slash_behind_what_is_no_folder_is_refused(source: Path) -> None:
    (source / "dangling").symlink_to("nowhere")
    for path in ("dangling/", "real/file/"):
        with pytest.raises(UsageError, match="cannot back up"):
            absolute(f"{source}/{path}")
