"""restic from the distribution, on a folder or a URL."""

import os
import subprocess
from pathlib import Path
from typing import IO


class Restic:
    """restic on a repository with a password; every call must end with 0."""

    def __init__(self, repository: Path | str, password: str, *options: str) -> None:
        self.repository = repository
        self._options = options
        self._env = os.environ | {"RESTIC_PASSWORD": password, "RESTIC_REPOSITORY": str(repository)}

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            self._line(*arguments), env=self._env, capture_output=True, text=True, errors="replace", check=False,
            timeout=500,
        )  # fmt: skip
        # It ends with 0 also when it could not remove packs.
        is_well = done.returncode == 0 and "unable to remove" not in done.stderr
        assert is_well, f"restic {arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, *arguments: str, output: IO[str] | None = None) -> "subprocess.Popen[str]":
        """Run beside what follows, with both outputs in `output`, or in pipes, which have to be read."""
        return subprocess.Popen(
            self._line(*arguments), env=self._env, stdout=output or subprocess.PIPE, stderr=output or subprocess.PIPE,
            text=True, errors="replace",
        )  # fmt: skip

    def check(self) -> None:
        assert "no errors were found" in self.run("check", "--read-data")

    def _line(self, *arguments: str) -> list[str]:
        return ["restic", "--no-cache", *self._options, *arguments]
