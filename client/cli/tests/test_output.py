"""A standard output that cannot be written: the work is done all the same, and the right thing is said."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from client.cli.tests.terminal import ROOT, Terminal


def a_run(terminal: Terminal, *arguments: str, redirection: str = "", **streams: Any) -> tuple[int, str]:
    """Exit code and standard error of a process; `redirection` is what a shell adds."""
    command = [sys.executable, "-m", "client.cli", "--home", str(terminal.home), *arguments]
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *command],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        **streams,
    )
    return done.returncode, done.stderr


def a_closed_pipe() -> int:
    """The end that is written of a pipe whose other end is closed."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize("options", [(), ("--json",)])
@pytest.mark.parametrize("broken", [(">/dev/full", "No space left on device"), ("", "Broken pipe")])
def test_a_backup_whose_result_cannot_be_written_is_made_and_told(
    with_vault: Terminal, source: Path, tmp_path: Path, broken: tuple[str, str], options: tuple[str, ...]
) -> None:
    redirection, reason = broken
    writing = a_closed_pipe()
    try:
        code, errors = a_run(
            with_vault,
            *("backup", str(source), "--vault", tmp_path.name, *options),
            redirection=redirection,
            stdout=writing,
        )
    finally:
        os.close(writing)
    assert code == 1, errors
    (snapshot,) = with_vault.json("snapshots", "--vault", tmp_path.name)
    said = json.loads(errors)["message"] if options else errors.splitlines()[-1]
    assert f"could not be written to standard output: {reason}; snapshot {snapshot['id']} exists" in said


@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full", ">/dev/null 2>/dev/full"])
def test_streams_that_are_closed_or_full_beside_the_result_change_nothing(
    with_vault: Terminal, source: Path, tmp_path: Path, redirection: str
) -> None:
    arguments = ("backup", str(source), "--vault", tmp_path.name)
    assert a_run(with_vault, *arguments, redirection=redirection, stdout=subprocess.DEVNULL) == (0, "")
    assert len(with_vault.json("snapshots", "--vault", tmp_path.name)) == 1


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", ">&-"])
def test_an_error_that_cannot_be_told_still_has_its_exit_code(terminal: Terminal, redirection: str) -> None:
    assert a_run(terminal, "frobnicate", redirection=redirection)[0] == 2


@pytest.mark.parametrize(
    "arguments", [("ls", "latest"), ("ls", "latest", "--json"), ("snapshots",), ("snapshots", "--json")]
)
def test_a_listing_that_is_not_read_to_its_end_ends_quietly(
    with_vault: Terminal, source: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    assert with_vault("backup", str(source), "--vault", tmp_path.name)[0] == 0
    writing = a_closed_pipe()
    try:
        assert a_run(with_vault, *arguments, "--vault", tmp_path.name, stdout=writing) == (141, "")
    finally:
        os.close(writing)
    code, errors = a_run(with_vault, *arguments, "--vault", tmp_path.name, redirection=">/dev/full")
    assert (code, errors.count("\n")) == (1, 1)
    assert "No space left on device" in errors


@pytest.mark.parametrize("arguments", [("version",), ("--version",)])
def test_a_line_that_cannot_be_written_is_told(terminal: Terminal, arguments: tuple[str, ...]) -> None:
    code, errors = a_run(terminal, *arguments, redirection=">/dev/full")
    assert (code, errors.count("\n")) == (1, 1)
    assert "No space left on device" in errors
