"""Trees that are deeper than Python calls functions, and than a path may be long."""

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.cli.tests.terminal import Terminal
from client.restore.way import remove
from client.testing.files import a_deep_folder

DEEP = 1010  # Python gives up at 1,000 calls
LONG, TOO_LONG = "d" * 250, 20  # a path has at most 4,095 bytes


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Removed by our own means, for others give up at this depth."""
    yield tmp_path / "deep"
    opened = os.open(tmp_path, os.O_RDONLY)
    for name in ("deep", "target"):
        if (tmp_path / name).exists():
            remove(name.encode(), opened, frozenset())
    os.close(opened)


def test_every_command_takes_a_tree_that_is_deeper_than_the_stack(
    with_vault: Terminal, tmp_path: Path, folder: Path
) -> None:
    folder.mkdir()
    a_deep_folder(folder / "x", DEEP)
    last = f"{folder}/x{'/d' * DEEP}/f"
    vault = ("--vault", tmp_path.name)
    target = str(tmp_path / "target")
    assert with_vault("backup", str(folder), *vault)[0] == 0
    Path(last).write_text("changed")
    assert with_vault("backup", str(folder), *vault)[0] == 0
    newest, oldest = (one["id"] for one in with_vault.json("snapshots", *vault))

    assert with_vault.json("ls", "latest", *vault)[-1]["path"] == last
    assert [found["path"] for found in with_vault.json("find", "f", *vault)] == [last]
    changes = with_vault.json_lines("diff", oldest, newest, *vault)
    assert [change["path"] for change in changes if change.get("change") == "content"] == [last]
    assert with_vault.json("stats", *vault)["by_snapshot"][0]["files"] == 1
    assert with_vault("check", *vault)[0] == 0
    archive = ("--archive", "tar", "--output", str(tmp_path / "archive.tar"))
    assert with_vault("dump", "latest", str(folder), *vault, *archive)[0] == 0
    with tarfile.open(tmp_path / "archive.tar") as found:
        assert found.getnames()[-1] == f"deep/x{'/d' * DEEP}/f"

    assert with_vault("restore", "latest", "--target", target, *vault, "--verify")[0] == 0
    restored = Path(target + last)
    (restored.parent / "more").touch()
    a_deep_folder(Path(f"{target}{folder}") / "more", DEEP)
    again = ("restore", "latest", "--target", target, *vault, "--overwrite", "always", "--delete")
    code, output, _ = with_vault(*again, "--dry-run")
    assert code == 0
    assert output.splitlines()[:2] == [f"delete  {folder}/more", f"delete  {Path(last).parent}/more"]
    assert with_vault(*again, "--yes", "--verify")[0] == 0
    assert [path.name for path in Path(f"{target}{folder}").iterdir()] == ["x"]
    assert [path.name for path in restored.parent.iterdir()] == ["f"]


def test_what_lies_deeper_than_a_path_may_be_long_is_named_and_the_rest_comes_back(
    with_vault: Terminal, tmp_path: Path, folder: Path
) -> None:
    a_deep_folder(folder, TOO_LONG, LONG)
    vault = ("--vault", tmp_path.name)
    code, _, errors = with_vault("backup", str(folder), *vault)
    assert (code, errors.count("\n")) == (3, 1)
    assert errors.startswith(f"backup-tool: {folder}/{LONG}/{LONG}/")
    assert errors.endswith(f"/{LONG}: file name too long\n")
    assert with_vault("restore", "latest", "--target", str(tmp_path / "target"), *vault)[0] == 0
    listed = [node["path"] for node in with_vault.json("ls", "latest", *vault)]
    assert listed[-1] == errors.removeprefix("backup-tool: ").removesuffix(f"/{LONG}: file name too long\n")
    assert listed[-1].count(LONG) > TOO_LONG // 2
