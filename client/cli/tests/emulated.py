"""Vaults on emulated stores, through the program, and restic on a plain copy of one: for `make campaign-clouds`."""

import asyncio
import os
import subprocess
from pathlib import Path

import opendal
import pytest

from client.cli.tests.terminal import Terminal
from client.stores.cloud import Location
from clouds.testing.emulators import Emulator


@pytest.fixture
def vault(terminal: Terminal, emulator: Emulator, tmp_path: Path) -> str:
    """Logged in, with a vault on the store; answers its name."""
    assert terminal.log_in()[0] == 0
    key = ("--access-key", emulator.key) if emulator.key else ()
    address = emulator.address(f"deep/{tmp_path.name}")
    command = ("vault", "add", "--url", address, *key, "--secret-stdin", "--name", tmp_path.name)
    code, said, errors = terminal(*command, given=f"{emulator.secret}\n")
    assert (code, f"The vault {tmp_path.name} was created." in said) == (0, True), errors
    return tmp_path.name


async def copied(emulator: Emulator, prefix: str, target: Path) -> None:
    """All files below a prefix, as whoever moves a vault copies them."""
    location = Location.of_url(emulator.address(prefix)).opened_by(emulator.key or None, emulator.secret)
    operator = opendal.AsyncOperator(location.scheme, **location.settings)
    async for entry in await operator.scan("/"):
        if not entry.path.endswith("/"):
            (target / entry.path).parent.mkdir(parents=True, exist_ok=True)
            (target / entry.path).write_bytes(await operator.read(entry.path))


def test_a_backup_is_checked_pruned_restored_and_moved_to_a_folder_where_restic_reads_it(
    terminal: Terminal, vault: str, emulator: Emulator, tmp_path: Path, source: Path
) -> None:
    for size in (40 << 20, 3 << 20):  # several packs
        (source / "noise").write_bytes(os.urandom(size))
        assert terminal("backup", str(source), "--vault", vault)[0] == 0
    assert terminal("check", "--read-data", "--vault", vault)[0] == 0
    code, _, errors = terminal("retention", "--vault", vault, "--keep-last", "1", "--prune", "--yes")
    assert code == 0, errors
    assert terminal("check", "--read-data", "--vault", vault)[0] == 0
    target = tmp_path / "restored"
    assert terminal("restore", "latest", "--vault", vault, "--target", str(target))[0] == 0
    (restored,) = target.rglob("noise")
    assert restored.read_bytes() == (source / "noise").read_bytes()
    asyncio.run(copied(emulator, f"deep/{vault}", tmp_path / "copy"))
    environment = os.environ | {"RESTIC_PASSWORD": terminal.json("vault", "recovery", vault)["password"]}
    command = ["restic", "--no-cache", "--no-lock", "--repo", str(tmp_path / "copy"), "check", "--read-data"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


def test_restic_checks_what_lies_on_s3_and_what_it_stores_there_is_restored(
    terminal: Terminal, vault: str, emulator: Emulator, tmp_path: Path, source: Path
) -> None:
    if emulator.scheme != "s3":
        pytest.skip("a restic reaches this store through an rclone that knows its emulator")
    (source / "noise").write_bytes(os.urandom(20 << 20))
    assert terminal("backup", str(source), "--vault", vault)[0] == 0
    access = terminal.json("vault", "recovery", vault)
    secrets = {"RESTIC_PASSWORD": access["password"], "AWS_SECRET_ACCESS_KEY": emulator.secret}
    (source / "noise").write_bytes(os.urandom(20 << 20))
    for arguments in (["check", "--read-data"], ["backup", str(source)], ["check", "--read-data"]):
        command = ["restic", "--no-cache", "--repo", access["repository"], *arguments]
        environment = os.environ | access["environment"] | secrets
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
    target = tmp_path / "restored"
    options = ("--vault", vault, "--all-devices", "--target", str(target))
    assert terminal("restore", "latest", *options)[0] == 0
    (restored,) = target.rglob("noise")
    assert restored.read_bytes() == (source / "noise").read_bytes()


def test_the_store_keeps_what_a_vault_needs_and_it_is_told_what_oort_was_tested_with(
    terminal: Terminal, vault: str, emulator: Emulator
) -> None:
    found = {promise["promise"]: promise["verdict"] for promise in terminal.json_lines("vault", "test", vault)}
    weak = set() if emulator.keeps_conditions else {"first use"}
    if emulator.scheme != "s3":
        weak.add("experience")
    assert {name for name, verdict in found.items() if verdict == "weak"} == weak
    assert {verdict for name, verdict in found.items() if name not in weak} == {"kept"}


def test_a_secret_that_is_wrong_is_told_and_creates_nothing(
    terminal: Terminal, emulator: Emulator, tmp_path: Path
) -> None:
    if emulator.scheme == "gcs":
        pytest.skip("the emulator of Google looks at no credentials")
    assert terminal.log_in()[0] == 0
    wrong = "d3Jvbmc="  # Base64, as Azure's are
    command = ("vault", "add", "--url", emulator.address("wrong"), "--access-key", emulator.key, "--secret-stdin")
    code, _, errors = terminal(*command, "--name", tmp_path.name, given=f"{wrong}\n")
    assert (code, "key" in errors) == (5, True), errors  # Azurite says less than Azure does
