"""Backup, restore of one file, verify and check on a vault of ten million blobs, on new devices inside a memory limit.

Ends with 0 only if each command ends with 0 and never held 200 MB of anonymous memory.
"""

import argparse
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from client.cli.console import duration_text, size_text
from deploy.campaigns.index.large_vault import SMALLEST, LargeVault, make_large_vault
from deploy.campaigns.index.limits import Run, limited, run_watched
from deploy.driver import Device, Operator

_BLOBS = 10_000_000
_LIMIT = 400_000_000
_ANONYMOUS = 200_000_000
_VAULT = "large"
_NEW_FILES = 100
_CHECK = ("check", "--vault", _VAULT, "--read-data-subset", "0.1%")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make campaign-index", description=__doc__)
    parser.add_argument(
        "--blobs", type=int, default=_BLOBS, help=f"in the vault, a multiple of {SMALLEST} (default {_BLOBS})"
    )
    parser.add_argument("--folder", type=Path, help="where to work (default: where temporary files go)")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="oort-campaign-index-", dir=arguments.folder))
    try:
        started = time.monotonic()
        vault = make_large_vault(folder / "vault", arguments.blobs)
        _say(
            f"A vault of {vault.blobs:,} blobs in {vault.packs:,} packs; index: {vault.index_files} files, "
            f"{size_text(vault.index_bytes)}. Made in {duration_text(time.monotonic() - started)}."
        )
        with _stack(folder / "stack") as operator:
            runs = dict(_runs(folder, vault, operator))
    finally:
        shutil.rmtree(folder)
    failed = [name for name, run in runs.items() if run.code or run.anonymous >= _ANONYMOUS]
    for name in failed:
        sys.stderr.write(f"{name}: ended with {runs[name].code}\n{runs[name].stderr[-2000:]}\n")
    return 1 if failed else 0


@contextmanager
def _stack(data: Path) -> Iterator[Operator]:
    operator = Operator(data)
    operator.up()
    try:
        yield operator
    finally:
        operator.down()


def _runs(folder: Path, vault: LargeVault, operator: Operator) -> Iterator[tuple[str, Run]]:
    """Each command and how it ended, told as a line of a table."""
    new = folder / "new"
    new.mkdir()
    for number in range(_NEW_FILES):
        (new / f"file-{number}").write_bytes(secrets.token_bytes(1000 * number))
    target = folder / "restored"
    path, content = vault.file
    restore = ("restore", vault.snapshot, "--vault", _VAULT, "--include", path, "--target")
    one, two, three = (_device(operator, folder / f"home-{number}", vault) for number in range(3))
    _say(f"{'':34}{'seconds':>9}{'CPU s':>9}{'anonymous':>12}  limit")
    yield _measured("backup of a small new folder", one, "backup", str(new), "--vault", _VAULT)
    yield _measured("restore of one file", two, *restore, str(target))
    if (target / path.lstrip("/")).read_bytes() != content:
        raise AssertionError(f"{path} came back with other content")
    yield _measured("the same, with the index cached", two, *restore, str(folder / "again"))
    yield _measured("verify of 100 files", two, "verify", "--vault", _VAULT, "--all-devices")
    yield _measured("check, 0.1 % of the packs read", three, *_CHECK)


def _device(operator: Operator, home: Path, vault: LargeVault) -> Device:
    """A new device that knows the vault, and nothing of its index."""
    name, password = f"user-{secrets.token_hex(4)}", secrets.token_urlsafe(18)
    operator.add_user(name, password)
    device = Device(home)
    device.log_in(operator, name, password)
    arguments = ("vault", "add", "--local", str(vault.path), "--name", _VAULT, "--repository-password-stdin")
    device.tool.ok(*arguments, stdin=vault.repository_password)
    return device


def _measured(name: str, device: Device, *arguments: str) -> tuple[str, Run]:
    with limited(_LIMIT) as limit:
        run = run_watched([*limit.prefix, *device.tool.line(*arguments)], os.environ)
    verdict = "" if run.code == 0 and run.anonymous < _ANONYMOUS else "  FAILED"
    _say(
        f"{name:34}{run.seconds:9.1f}{run.cpu:9.1f}{run.anonymous / 1e6:9.0f} MB  "
        f"{_LIMIT / 1e6:.0f} MB, {limit.name}{verdict}"
    )
    return name, run


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
