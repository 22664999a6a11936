"""A standard output that cannot be written: the work is done all the same, and the right thing is said."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from client.cli.program import run
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


def a_run_into(descriptor: int, terminal: Terminal, *arguments: str) -> tuple[int, str]:
    """Exit code and standard error in this process, with another standard output."""
    with terminal.monkeypatch.context() as patched, suppress(OSError), os.fdopen(descriptor, "w") as stream:
        patched.setattr(sys, "stdout", stream)
        code = run(["--home", str(terminal.home), *arguments])
    return code, terminal.capture.readouterr()[1]


TELLING = (
    *(
        ("ls", "latest", "VAULT"),
        ("snapshots", "VAULT"),
        ("find", "*.txt", "VAULT"),
        ("diff", "latest", "latest", "VAULT"),
    ),
    *(("stats", "VAULT"), ("stats", "latest", "VAULT"), ("check", "VAULT"), ("jobs",), ("status",), ("vault", "list")),
    *(("vault", "templates"), ("vault", "recovery", "NAME")),
    ("restore", "latest", "VAULT", "--target", "TARGET", "--dry-run"),
)


def test_what_only_tells_something_ends_quietly_when_its_reader_has_gone(
    with_vault: Terminal, source: Path, tmp_path: Path
) -> None:
    assert with_vault("backup", str(source), "--vault", tmp_path.name)[0] == 0
    words = {"VAULT": ("--vault", tmp_path.name), "NAME": (tmp_path.name,), "TARGET": (str(tmp_path / "target"),)}
    commands = [[word for part in command for word in words.get(part, (part,))] for command in TELLING]
    for command in commands:
        for options in ((), ("--json",)):
            told = a_run_into(a_closed_pipe(), with_vault, *command, *options)
            assert told == (141, ""), (command, options)
        code, errors = a_run_into(os.open("/dev/full", os.O_WRONLY), with_vault, *command)
        assert (code, errors.count("\n")) == (1, 1), command
        assert "No space left on device" in errors


@pytest.mark.parametrize("arguments", [("ls", "latest"), ("stats",), ("stats", "--json")])
def test_a_process_whose_reader_has_gone_says_nothing(
    with_vault: Terminal, source: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    assert with_vault("backup", str(source), "--vault", tmp_path.name)[0] == 0
    writing = a_closed_pipe()
    try:
        assert a_run(with_vault, *arguments, "--vault", tmp_path.name, stdout=writing) == (141, "")
    finally:
        os.close(writing)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_what_was_changed_is_told_even_if_the_reader_has_gone(
    with_vault: Terminal, source: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    assert with_vault("backup", str(source), "--vault", tmp_path.name)[0] == 0
    writing = a_closed_pipe()
    try:
        arguments = ("tag", "latest", "--add", "kept", "--vault", tmp_path.name, *options)
        code, errors = a_run(with_vault, *arguments, stdout=writing)
    finally:
        os.close(writing)
    (snapshot,) = with_vault.json("snapshots", "--vault", tmp_path.name)
    assert snapshot["tags"] == ["kept"]
    assert (code, errors.count("\n")) == (1, 1)
    assert f"Broken pipe; snapshot {snapshot['original'][:8]} is now {snapshot['short_id']}" in errors


@pytest.mark.parametrize("arguments", [("version",), ("--version",)])
def test_a_line_that_cannot_be_written_is_told(terminal: Terminal, arguments: tuple[str, ...]) -> None:
    code, errors = a_run(terminal, *arguments, redirection=">/dev/full")
    assert (code, errors.count("\n")) == (1, 1)
    assert "No space left on device" in errors
