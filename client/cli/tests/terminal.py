"""Commands of one home, in this process and in others."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from client.account.tests.an_auth import PASSWORD, Office
from client.cli.program import run

ROOT = Path(__file__).parents[3]


@dataclass
class Terminal:
    """Runs commands of one home."""

    office: Office
    home: Path
    capture: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    def __call__(self, *arguments: str, given: str = "") -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        self.monkeypatch.setattr(sys, "stdin", io.StringIO(given))
        code = run(["--home", str(self.home), *arguments])
        output, errors = self.capture.readouterr()
        return code, output, errors

    def json(self, *arguments: str, given: str = "") -> Any:
        code, output, errors = self(*arguments, "--json", given=given)
        assert (code, errors) == (0, "")
        return json.loads(output)

    def json_lines(self, *arguments: str) -> list[dict[str, Any]]:
        """The documents of a command that prints one a line."""
        code, output, errors = self(*arguments, "--json")
        assert (code, errors) == (0, "")
        return [json.loads(line) for line in output.splitlines()]

    def log_in(self, password: str = PASSWORD) -> tuple[int, str, str]:
        server = self.office.server
        options = ("--server", server.address, "--ca", str(server.ca), "--username", "alice", "--password-stdin")
        return self("login", *options, given=password + "\n")


def started(arguments: list[str], environment: Mapping[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "client.cli", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
