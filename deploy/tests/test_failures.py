"""How `oort` ends when a command fails, whatever fails."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from deploy.driver import BIN, Command
from deploy.local import stack
from deploy.tests.here import Here

ROOT = Path(__file__).parents[2]
DOWN = ("stack", "down", "--data", "nowhere")


def failing(error: BaseException) -> Callable[[Path], list[str]]:
    def fail(_path: Path) -> list[str]:
        raise error

    return fail


def test_an_error_is_one_json_object_where_json_is_asked_for(tmp_path: Path) -> None:
    refused = Here("oort").run("bucket", "list", "--json", "--data", str(tmp_path))
    assert (refused.code, refused.stdout) == (1, "")
    told = json.loads(refused.stderr)
    assert (told["type"], told["error"], told["exit_code"]) == ("error", "NoStack", 1)
    assert str(tmp_path) in told["message"]


def test_so_is_a_command_line_that_is_not_right() -> None:
    refused = Here("oort").run("bucket", "list", "--json")
    told = json.loads(refused.stderr)
    assert (refused.code, told["error"], told["exit_code"]) == (2, "UsageError", 2)
    assert "--data" in told["message"]


def test_an_error_that_nobody_expected_is_a_line_and_a_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stack, "down", failing(RuntimeError("lost my way")))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    refused = Here("oort").run(*DOWN)
    [report] = tmp_path.iterdir()
    assert (refused.code, len(refused.stderr.splitlines())) == (1, 1)
    assert str(report) in refused.stderr
    assert "lost my way" in report.read_text()
    assert report.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()], ids=["Ctrl-C", "Ctrl-C at a question"])
def test_an_interruption_is_a_line_and_code_130(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    monkeypatch.setattr(stack, "down", failing(error))
    ended = Here("oort").run(*DOWN)
    assert (ended.code, ended.stdout, ended.stderr) == (130, "", "oort: interrupted\n")


def test_sigterm_interrupts_a_command_as_ctrl_c_does() -> None:
    code = (
        "import os, signal, sys, time\n"
        "from deploy.local import stack\n"
        f"stack.down = lambda _: os.kill(os.getpid(), {signal.SIGTERM.value}) or time.sleep(600)\n"
        f"sys.argv = ['oort', *{DOWN!r}]\n"
        "from deploy.cli.start import main; sys.exit(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "oort: interrupted\n")


def test_a_closed_pipe_is_code_141_and_nothing_is_said() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        line = [str(BIN / "oort"), "stack", "--help"]
        done = subprocess.run(line, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("user", "list", "--data", "no\udcffwhere"),
        ("template", "add", "many", "--copies", "99999999999"),
        ("template", "add", "none", "--copies", "-1"),
        ("template", "add", "full", "--copies", "1", "--quota", "99999999T"),
    ],
)
def test_what_no_number_or_name_can_be_is_refused_in_a_line(arguments: tuple[str, ...]) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("OORT_")}
    refused = Command("oort", env=env).run(*arguments)
    assert refused.code in (1, 2)
    assert (refused.stdout, len(refused.stderr.splitlines()), "Traceback" in refused.stderr) == ("", 1, False)


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        (("bucket", "export", "main", "folder"), "oort bucket list"),
        (("bucket", "scrub", "main"), "oort bucket list"),
        (("bucket", "lock", "main", "--days", "1"), "oort bucket list"),
        (("bucket", "status", "main"), "oort bucket list"),
        (("quota", "set", "acme", "1G"), "oort tenant list"),
        (("user", "add", "judy", "--tenant", "acme", "--password-stdin"), "oort tenant list"),
        (("session", "end", "main"), "oort session list"),
    ],
)
def test_what_is_no_id_is_refused_with_where_the_right_ones_are(arguments: tuple[str, ...], where: str) -> None:
    refused = Here("oort").run(*arguments, "--data", "nowhere")
    assert (refused.code, refused.stdout, len(refused.stderr.splitlines())) == (2, "", 1)
    assert where in refused.stderr
