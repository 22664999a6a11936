"""restic from the distribution, on a folder."""

import os
import subprocess
from pathlib import Path


class Restic:
    """restic on a repository with a password; every call must end with 0."""

    def __init__(self, repository: Path, password: str, *options: str) -> None:
        self.repository = repository
        self._options = options
        self._env = os.environ | {"RESTIC_PASSWORD": password, "RESTIC_REPOSITORY": str(repository)}

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            ["restic", "--no-cache", *self._options, *arguments],
            env=self._env, capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"restic {arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def check(self) -> None:
        assert "no errors were found" in self.run("check", "--read-data")
