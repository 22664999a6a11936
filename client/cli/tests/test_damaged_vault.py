"""A vault that has come to harm: what is whole is restored, what is not is named, and the exit code says so."""

import json
import os
import shutil
from pathlib import Path

import pytest

from client.cli.tests.terminal import Terminal
from client.testing.damage import each_damage, remove, swap

DATA, TREES = True, False


def is_of_data(pack: Path) -> bool:
    """In this test's vault, packs of data are large."""
    return pack.stat().st_size > 10_000


class Harmed:
    """A vault with two snapshots, the second of which adds `new`, and a device that has never looked into it."""

    def __init__(self, terminal: Terminal, source: Path, tmp_path: Path) -> None:
        self.terminal = terminal
        self.source = source
        self.name = tmp_path.name
        self.vault = tmp_path / "vault"
        self.target = tmp_path / "target"
        (source / "old").write_bytes(os.urandom(20_000))
        self.first = self.back_up()
        self.before = self.files()
        (source / "new").write_bytes(os.urandom(20_000))
        self.second = self.back_up()

    def back_up(self) -> str:
        code, output, errors = self.terminal("backup", str(self.source), "--vault", self.name, "--json")
        assert (code, errors) == (0, "")
        return str(json.loads(output.splitlines()[-1])["snapshot"])

    def files(self) -> set[Path]:
        return {path for path in self.vault.rglob("*") if path.is_file()}

    def of(self, folder: str, *, new: bool = True, data: bool | None = None) -> Path:
        """A file of the second snapshot's (or the first's) in a folder of the vault."""
        files = {path for path in self.files() if (path in self.before) is not new}
        found = [path for path in files if folder in path.relative_to(self.vault).parts]
        return next(path for path in found if data is None or is_of_data(path) is data)

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """A command on another device: one without a cache."""
        shutil.rmtree(self.terminal.home / "vaults", ignore_errors=True)
        code, output, errors = self.terminal(*arguments, "--vault", self.name)
        assert "Traceback" not in errors
        assert "unexpected" not in errors
        return code, output, errors

    def check(self) -> tuple[int, str]:
        code, _, errors = self("check", "--read-data")
        return code, errors

    def restore(self, snapshot: str = "latest") -> tuple[int, str, dict[str, bytes]]:
        """Exit code, what was said, and the files that are there."""
        shutil.rmtree(self.target, ignore_errors=True)
        code, _, errors = self("restore", snapshot, "--target", str(self.target))
        there = self.target / self.source.relative_to("/")
        assert not list(self.target.rglob(".oort-partial-*"))
        return code, errors, {path.name: path.read_bytes() for path in there.rglob("*") if path.is_file()}

    def is_whole_but(self, restored: dict[str, bytes], *lost: str) -> bool:
        expected = {path.name: path.read_bytes() for path in self.source.rglob("*") if path.is_file()}
        return restored == {name: body for name, body in expected.items() if name not in lost}


@pytest.fixture
def harmed(with_vault: Terminal, source: Path, tmp_path: Path) -> Harmed:
    return Harmed(with_vault, source, tmp_path)


def one_line(errors: str) -> str:
    (line,) = errors.splitlines()
    assert line.startswith("backup-tool: ")
    return line


@pytest.mark.parametrize("victim", ["config", "keys"])
def test_a_vault_that_cannot_be_opened_is_refused_by_every_command_and_left_as_it_is(
    harmed: Harmed, victim: str, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    assert harmed.terminal("vault", "add", "--local", str(other), "--name", f"{harmed.name}-2")[0] == 0

    def choose() -> tuple[Path, Path]:
        chosen = (folder / victim for folder in (harmed.vault, other))
        here, there = (path if path.is_file() else next(path.iterdir()) for path in chosen)
        return here, there

    for way, _ in each_damage(harmed.vault, choose):
        files = harmed.files()
        for arguments in (
            ("restore", "latest", "--target", str(harmed.target)),
            ("check",),
            ("backup", str(harmed.source)),
            ("snapshots",),
        ):
            code, _, errors = harmed(*arguments)
            expected = 5 if (victim, way) == ("config", "remove") else 8
            assert code == expected, (way, arguments, errors)
            assert victim in one_line(errors) or str(harmed.vault) in errors, (way, arguments, errors)
        assert not harmed.target.exists()
        assert harmed.files() == files


def test_the_loss_of_a_pack_of_data_costs_the_files_in_it_alone(harmed: Harmed) -> None:
    for way, victim in each_damage(
        harmed.vault, lambda: (harmed.of("data", data=DATA), harmed.of("data", new=False, data=DATA))
    ):
        code, errors, restored = harmed.restore()
        assert code == 8, way
        assert harmed.is_whole_but(restored, "new"), way
        assert str(harmed.source / "new") in errors
        code, errors, restored = harmed.restore(harmed.first)
        assert (code, errors) == (0, ""), way
        code, errors = harmed.check()
        assert code == 8, way
        assert victim.name in errors, way
        (harmed.source / "more").write_bytes(os.urandom(20_000))
        assert harmed("backup", str(harmed.source))[0] == 0, way
        assert harmed.is_whole_but(harmed.restore()[2], "new"), way
        (harmed.source / "more").unlink()


def test_the_loss_of_a_pack_of_trees_is_made_good_by_the_next_backup(harmed: Harmed) -> None:
    for way, victim in each_damage(
        harmed.vault, lambda: (harmed.of("data", data=TREES), harmed.of("data", new=False, data=TREES))
    ):
        code, errors, _ = harmed.restore()
        assert code == 8, way
        assert "tree" in errors or victim.name in errors, way
        assert harmed.restore(harmed.first)[0] == 0, way
        code, errors = harmed.check()
        assert code == 8, way
        assert victim.name in errors, way
        assert harmed("backup", str(harmed.source))[0] == 0, way
        code, errors, restored = harmed.restore()
        assert (code, errors) == (0, ""), way
        assert harmed.is_whole_but(restored), way


def test_what_a_lost_index_file_alone_listed_is_stored_again(harmed: Harmed) -> None:
    for way, victim in each_damage(harmed.vault, lambda: (harmed.of("index"), harmed.of("index", new=False))):
        code, errors, _ = harmed.restore()
        assert code == 8, way
        assert "tree" in errors or victim.name in errors, way
        assert harmed.restore(harmed.first)[0] == 0, way
        code, errors = harmed.check()
        assert code == 8, way
        assert victim.name in errors or way == "remove", way
        assert harmed("backup", str(harmed.source))[0] == (0 if way == "remove" else 3), way
        code, errors, restored = harmed.restore()
        assert code == 0, way
        assert victim.name in errors or way == "remove", way
        assert harmed.is_whole_but(restored), way


def test_the_loss_of_a_snapshot_costs_that_snapshot(harmed: Harmed) -> None:
    for way, victim in each_damage(harmed.vault, lambda: (harmed.of("snapshots"), harmed.of("snapshots", new=False))):
        gone = way == "remove"
        code, errors, restored = harmed.restore()
        assert code == 0, way
        assert harmed.is_whole_but(restored, "new"), way
        assert gone or victim.name in errors, way
        assert harmed.restore(harmed.second)[0] == (6 if gone else 8), way
        assert harmed.check()[0] == (0 if gone else 8), way
        assert harmed("snapshots")[0] == (0 if gone else 3), way
        code, _, errors = harmed("backup", str(harmed.source))
        assert code == (0 if gone else 3), way
        assert harmed.is_whole_but(harmed.restore()[2]), way


def test_harm_to_the_seal_beside_a_vault_stops_nothing(harmed: Harmed) -> None:
    choose = (harmed.vault / "oort-vault", harmed.vault / "config")
    for way, _ in each_damage(harmed.vault, lambda: choose, (swap, remove)):
        assert harmed.restore()[0] == 0, way
        assert harmed("backup", str(harmed.source))[0] == 0, way
