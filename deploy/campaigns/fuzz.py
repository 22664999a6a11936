"""The fuzz campaign: every reader of every format, each in a process of its own, for an equal share of the time.

Kept true: it ends with 1 if any reader ended otherwise than documented, or if the reader with a planted fault did not:
then the campaign itself sees nothing. What made a finding is kept in the folder that is named.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from client.testing.formats import Format
from deploy.campaigns.formats import FORMATS, PLANTED

_STARTING_SECONDS = 120  # what a process may take beside its share
_PLANTED_SECONDS = 20
_RUNS = re.compile(r"(?:Done |number_of_executed_units: )(\d+)")
_ERROR = re.compile(r"^(?:===|==\d+==|[A-Za-z_.]*(?:Error|Exception)\b|SUMMARY).*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Fed:
    """How feeding one reader ended; `finding` is empty if all went well."""

    format: Format
    runs: str
    finding: str


def feed(format_: Format, seconds: int, findings: Path) -> Fed:
    """Feed one reader in a process of its own."""
    command = [sys.executable, "-m", "deploy.campaigns.fuzz_reader", format_.name, str(seconds), str(findings)]
    try:
        run = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=seconds + _STARTING_SECONDS
        )
    except subprocess.TimeoutExpired:
        return Fed(format_, "?", "the process did not end")
    said = run.stdout + run.stderr
    runs = _RUNS.search(said)
    if run.returncode == 0 and runs:
        return Fed(format_, runs[1], "")
    errors = _ERROR.findall(said)
    return Fed(format_, "?", " | ".join(errors[:3]) or said.strip()[-200:] or f"ended with {run.returncode}")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Feed every reader of every format with documents made wrong.")
    parser.add_argument("--minutes", type=float, default=1.5, help="for all readers together, times two on two cores")
    parser.add_argument("--only", nargs="*", default=[], help="names of formats")
    parser.add_argument("--findings", type=Path, help="where to keep what made a finding; else a temporary folder")
    options = parser.parse_args(arguments)
    chosen = [format_ for format_ in FORMATS if not options.only or format_.name in options.only]
    findings = options.findings or Path(tempfile.mkdtemp(prefix="oort-fuzz-findings-"))
    findings.mkdir(parents=True, exist_ok=True)
    workers = max(1, os.cpu_count() or 1)
    seconds = max(1, int(options.minutes * 60 * workers / max(1, len(chosen))))
    say(f"{len(chosen)} readers, {seconds} s each, {'atheris' if find_spec('atheris') else 'without atheris'}")
    with tempfile.TemporaryDirectory() as planted:
        if not feed(PLANTED, _PLANTED_SECONDS, Path(planted)).finding:
            say("the planted fault was not found: the campaign is blind")
            return 1
    failed = False
    with ThreadPoolExecutor(workers) as pool:
        for fed in pool.map(lambda format_: feed(format_, seconds, findings), chosen):
            failed = failed or bool(fed.finding)
            say(f"  {fed.format.name:15} {fed.runs:>9} runs  {fed.finding or 'ok'}")
    for corpus in findings.glob("oort-fuzz-*/"):
        shutil.rmtree(corpus)
    if failed:
        say(f"findings: {findings}")
        return 1
    if options.findings is None:
        findings.rmdir()
    return 0


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
