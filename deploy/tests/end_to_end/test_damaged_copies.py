"""Objects of every kind that come to harm on all nodes at once: what is whole comes back, what is not is named."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from client.cli.program import run
from client.testing.damage import Damage, flip, remove, swap, truncate
from deploy.driver import Device, Operator
from deploy.tests.end_to_end.conftest import a_device
from deploy.tests.end_to_end.trees import restored
from deploy.tests.end_to_end.waiting import wait_for_copies

_LARGE = 10_000  # bytes: packs of data are larger here, those of trees smaller


@dataclass
class Bucket:
    """A vault on two nodes with two snapshots, the second of which adds the file `new`."""

    vault: str
    folders: list[Path]
    source: Path
    before: set[Path]  # below each folder: what the first snapshot brought

    def of(self, folder: str, *, data: bool | None = None, new: bool = True) -> Path:
        """A file of the second snapshot's, or the first's, below each folder."""
        return next(
            path
            for path in files_below(self.folders[0])
            if folder in path.parts
            and (path in self.before) is not new
            and (data is None or ((self.folders[0] / path).stat().st_size > _LARGE) is data)
        )

    def harm(self, damage: Damage, victim: Path, other: Path) -> None:
        for folder in self.folders:
            damage(folder / victim, folder / other)


@dataclass
class Commands:
    """Commands of one device, in this process; each finds no cache, as on a new device."""

    device: Device
    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        shutil.rmtree(self.device.home / "vaults", ignore_errors=True)
        code = run(["--home", str(self.device.home), *arguments])
        output, errors = self.capture.readouterr()
        assert "unexpected" not in errors
        return code, output, errors


def files_below(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


Make = Callable[[Sequence[str]], tuple[list[Bucket], Commands]]


@pytest.fixture
def make(own_stack: Operator, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Make:
    """Makes whole vaults of these names; before any is harmed, since a stack with harmed copies is never complete."""
    commands = Commands(a_device(own_stack, tmp_path / "home", "first"), capsys)

    def make(vaults: Sequence[str]) -> tuple[list[Bucket], Commands]:
        made = []
        for vault in vaults:
            assert commands("vault", "request", "--template", "default", "--name", vault)[0] == 0
            source = tmp_path / f"source-{vault}"
            source.mkdir()
            (source / "old").write_bytes(os.urandom(2 * _LARGE))
            assert commands("backup", str(source), "--vault", vault)[0] == 0
            bucket = json.loads(commands("vault", "recovery", vault, "--json")[1])["bucket"]
            folders = own_stack.bucket_folders(bucket)
            assert len(folders) == 2
            before = files_below(folders[0]) & files_below(folders[1])
            (source / "new").write_bytes(os.urandom(2 * _LARGE))
            assert commands("backup", str(source), "--vault", vault)[0] == 0
            made.append(Bucket(vault, folders, source, before))
        wait_for_copies(own_stack)
        return made, commands

    return make


def test_harm_on_all_nodes_costs_what_was_harmed_and_is_named(make: Make, tmp_path: Path) -> None:
    cases: list[tuple[str, bool | None, Damage, int]] = [
        ("data", True, flip, 8),
        ("data", True, remove, 8),
        ("data", True, swap, 8),
        ("data", False, truncate, 8),
        ("data", False, remove, 8),
        ("index", None, flip, 8),
        ("snapshots", None, flip, 0),
        ("snapshots", None, remove, 0),
    ]
    buckets, command = make([f"vault-{number}" for number in range(len(cases))])
    for number, (bucket, (folder, data, damage, code)) in enumerate(zip(buckets, cases, strict=True)):
        case = f"{folder}-{data}-{damage.__name__}"
        victim = bucket.of(folder, data=data)
        bucket.harm(damage, victim, bucket.of(folder, data=data, new=False))
        target = tmp_path / f"target-{number}"
        found, _, errors = command("restore", "latest", "--target", str(target), "--vault", bucket.vault)
        assert found == code, (case, errors)
        there = restored(target, bucket.source)
        assert not (there / "new").exists(), case
        if data is not False and folder != "index":  # of these the second snapshot's trees are lost
            assert (there / "old").read_bytes() == (bucket.source / "old").read_bytes(), case
            assert "new" in errors or victim.name in errors, case
        found, _, errors = command("check", "--vault", bucket.vault, "--read-data")
        assert found == 8, (case, errors)
        assert victim.name in errors, (case, errors)
        found, _, errors = command("backup", str(bucket.source), "--vault", bucket.vault)
        assert found in (0, 3), (case, errors)
        if not (folder == "data" and data):
            again = tmp_path / f"again-{number}"
            found, _, errors = command("restore", "latest", "--target", str(again), "--vault", bucket.vault)
            assert found == 0, (case, errors)
            assert (restored(again, bucket.source) / "new").exists(), case


def test_a_vault_that_no_node_can_open_is_refused_and_not_made_anew(make: Make, tmp_path: Path) -> None:
    cases = [(kind, damage) for kind in ("config", "keys") for damage in (flip, truncate, remove)]
    buckets, command = make([f"{kind}-{damage.__name__}" for kind, damage in cases])
    for bucket, (kind, damage) in zip(buckets, cases, strict=True):
        victim = next(path for path in bucket.before if kind in path.parts)
        bucket.harm(damage, victim, victim)
        files = files_below(bucket.folders[0])
        for arguments in (
            ("restore", "latest", "--target", str(tmp_path / "target")),
            ("backup", str(bucket.source)),
            ("check",),
        ):
            code, _, errors = command(*arguments, "--vault", bucket.vault)
            (line,) = errors.splitlines()
            assert code == 8, (kind, damage.__name__, arguments, line)
            assert kind in line, (kind, damage.__name__, arguments, line)
        assert files_below(bucket.folders[0]) == files
