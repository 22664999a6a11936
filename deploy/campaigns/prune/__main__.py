"""Prune a vault of a million blobs in 10,000 packs, inside a limit, beside restic's prune of the same repository.

Each gets a copy of the vault, all of whose packs are small, so that both put together what is needed. What is pruned
must pass restic's check. The order is turned each time; of the ratios the median counts. It ends with 0 if every prune
ended well, ours held less than 200 MB of anonymous memory, and the ratios are within the aim, which is one for a
million blobs: of a smaller vault they are told alone, as what every start costs is a larger part of them.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from client.cli.console import duration_text
from deploy.campaigns.index.large_vault import SMALLEST, LargeVault
from deploy.campaigns.index.limits import Run, limited, run_watched
from deploy.campaigns.prune.aged_vault import make_aged_vault

_BLOBS = 1_000_000
_LIMIT = 400_000_000
_ANONYMOUS = 200_000_000
_RATIO = 0.67
_PRUNE = [sys.executable, "-m", "deploy.campaigns.prune.pruner"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make campaign-prune", description=__doc__)
    parser.add_argument(
        "--blobs", type=int, default=_BLOBS, help=f"in the vault, a multiple of {10 * SMALLEST} (default {_BLOBS})"
    )
    parser.add_argument("--rounds", type=int, default=1, help="how often each prunes (default 1)")
    parser.add_argument("--folder", type=Path, help="where to work (default: where temporary files go)")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="oort-campaign-prune-", dir=arguments.folder))
    try:
        started = time.monotonic()
        vault = make_aged_vault(folder / "vault", arguments.blobs)
        _say(
            f"A vault of {vault.blobs:,} blobs in {vault.packs:,} packs, of which a snapshot was removed. "
            f"Made in {duration_text(time.monotonic() - started)}."
        )
        return _rounds(folder, vault, arguments.rounds)
    finally:
        shutil.rmtree(folder)


def _rounds(folder: Path, vault: LargeVault, rounds: int) -> int:
    is_well = True
    ours: list[Run] = []
    restics: list[Run] = []
    _say(f"{'':24}{'seconds':>9}{'CPU s':>9}{'anonymous':>12}")
    for number in range(rounds):
        turn = [_prune_ours, _prune_restic] if number % 2 == 0 else [_prune_restic, _prune_ours]
        for measure in turn:
            run = measure(folder / "copy", vault)
            (ours if measure is _prune_ours else restics).append(run)
            is_well &= _tell(measure is _prune_ours, run)
    for name, pairs in (
        ("seconds", [(our.seconds, other.seconds) for our, other in zip(ours, restics, strict=True)]),
        ("CPU seconds", [(our.cpu, other.cpu) for our, other in zip(ours, restics, strict=True)]),
    ):
        ratio = statistics.median(our / other for our, other in pairs)
        verdict = "reached" if ratio <= _RATIO else "not reached"
        _say(f"ratio of {name}: {ratio:.2f} of {_RATIO}: {verdict}")
        is_well &= ratio <= _RATIO or vault.blobs < _BLOBS
    return 0 if is_well else 1


def _tell(is_ours: bool, run: Run) -> bool:
    """Say how a run went; whether that is well."""
    is_well = run.code == 0 and (not is_ours or run.anonymous < _ANONYMOUS)
    _say(
        f"{'oort' if is_ours else 'restic':24}{run.seconds:9.1f}{run.cpu:9.1f}{run.anonymous / 1e6:9.0f} MB"
        + ("" if is_well else f"  FAILED: ended with {run.code}\n{run.stdout[-2000:]}{run.stderr[-2000:]}")
    )
    return is_well


def _prune_ours(copy: Path, vault: LargeVault) -> Run:
    _copy(vault.path, copy)
    try:
        with limited(_LIMIT) as limit:
            run = run_watched([*limit.prefix, *_PRUNE, str(copy)], os.environ, f"{vault.repository_password}\n")
        _check(copy, vault)
        return run
    finally:
        shutil.rmtree(copy)


def _prune_restic(copy: Path, vault: LargeVault) -> Run:
    _copy(vault.path, copy)
    try:
        return run_watched(_restic(copy, "prune"), _environment(vault))
    finally:
        shutil.rmtree(copy)


def _check(copy: Path, vault: LargeVault) -> None:
    """Raise CalledProcessError unless restic finds the pruned vault in order."""
    subprocess.run(
        _restic(copy, "check", "--read-data"), env=dict(_environment(vault)), check=True, stdout=subprocess.DEVNULL
    )


def _restic(copy: Path, *arguments: str) -> Sequence[str]:
    return ["restic", "--repo", str(copy), "--no-cache", "--quiet", *arguments]


def _environment(vault: LargeVault) -> dict[str, str]:
    return os.environ | {"RESTIC_PASSWORD": vault.repository_password}


def _copy(vault: Path, copy: Path) -> None:
    """Another folder with the same files: neither program writes into one that is there."""
    shutil.copytree(vault, copy, copy_function=os.link)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
