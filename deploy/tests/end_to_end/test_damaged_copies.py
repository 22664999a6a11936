"""Objects of every kind that come to harm on all nodes at once: what is whole comes back, what is not is named."""

import json
import os
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest

from client.cli.program import run
from client.testing.damage import Damage, flip, remove, swap, truncate
from deploy.driver import Device, Operator
from deploy.tests.end_to_end.conftest import a_device
from deploy.tests.end_to_end.trees import restored
from deploy.tests.end_to_end.waiting import wait_for_copies_of

_LARGE = 10_000  # bytes: packs of data are larger here, those of trees smaller


# Kind of object, whether of data, how it is harmed, the exit code of a restore.
COSTS: list[tuple[str, bool | None, Damage, int]] = [
    ("data", True, flip, 8),
    ("data", True, remove, 8),
    ("data", True, swap, 8),
    ("data", False, truncate, 8),
    ("data", False, remove, 8),
    ("index", None, flip, 8),
    ("snapshots", None, flip, 0),
    ("snapshots", None, remove, 0),
]
CLOSED = [(kind, damage) for kind in ("config", "keys") for damage in (flip, truncate, remove)]


@dataclass
class Bucket:
    """A vault on two nodes with one snapshot, or with a second one that adds the file `new`."""

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

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        shutil.rmtree(self.device.home / "vaults", ignore_errors=True)
        with redirect_stdout(StringIO()) as output, redirect_stderr(StringIO()) as errors:
            code = run(["--home", str(self.device.home), *arguments])
        assert "unexpected" not in errors.getvalue()
        return code, output.getvalue(), errors.getvalue()


def files_below(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


@dataclass
class Harmful:
    """Vaults of one device, all of them whole until a test harms one."""

    command: Commands
    buckets: dict[str, Bucket]


@pytest.fixture
def harmful(stack: Operator, tmp_path: Path) -> Harmful:
    command = Commands(a_device(stack, tmp_path / "home", "first"))
    open_ones = [f"vault-{number}" for number in range(len(COSTS))]
    names = [*open_ones, *(f"{kind}-{way.__name__}" for kind, way in CLOSED)]
    buckets = {name: a_bucket(stack, command, tmp_path / f"source-{name}", name) for name in names}
    for name in open_ones:
        bucket = buckets[name]
        (bucket.source / "new").write_bytes(os.urandom(2 * _LARGE))
        assert command("backup", str(bucket.source), "--vault", name)[0] == 0
    for bucket in buckets.values():
        wait_for_copies_of(stack, bucket.folders[0].name)
    return Harmful(command, buckets)


def a_bucket(operator: Operator, command: Commands, source: Path, vault: str) -> Bucket:
    assert command("vault", "request", "--template", "default", "--name", vault)[0] == 0
    source.mkdir()
    (source / "old").write_bytes(os.urandom(2 * _LARGE))
    assert command("backup", str(source), "--vault", vault)[0] == 0
    bucket = json.loads(command("vault", "recovery", vault, "--json")[1])["bucket"]
    wait_for_copies_of(operator, bucket)
    folders = operator.bucket_folders(bucket)
    assert len(folders) == 2
    return Bucket(vault, folders, source, files_below(folders[0]))


def harm_costs_what_was_harmed_and_is_named(harmful: Harmful, tmp_path: Path) -> None:
    command = harmful.command
    for number, (folder, data, damage, code) in enumerate(COSTS):
        bucket = harmful.buckets[f"vault-{number}"]
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


def vaults_that_no_node_can_open_are_refused_and_not_made_anew(harmful: Harmful, tmp_path: Path) -> None:
    command = harmful.command
    for kind, damage in CLOSED:
        bucket = harmful.buckets[f"{kind}-{damage.__name__}"]
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


@pytest.mark.long
def test_harm_on_all_nodes(harmful: Harmful, tmp_path: Path) -> None:
    """One test, since workers that ran two of them would each make the vaults."""
    harm_costs_what_was_harmed_and_is_named(harmful, tmp_path)
    vaults_that_no_node_can_open_are_refused_and_not_made_anew(harmful, tmp_path)
