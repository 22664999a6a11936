"""The embedded stack as the benchmarks use it: brought up for one run, with one user."""

import json
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.measure import folder_size


class Stack:
    """A stack in `folder`, up inside a `with` block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._oort = str(Path(sys.executable).parent / "oort")
        self.backup_tool = str(Path(sys.executable).parent / "backup-tool")
        self._password = secrets.token_urlsafe(24)

    def __enter__(self) -> Self:
        self._call("stack", "up", "--data", str(self._folder), "--detach")
        self._call("user", "add", "bench", "--password-stdin", "--data", str(self._folder), stdin=self._password)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call("stack", "down", "--data", str(self._folder))

    def log_in(self, home: Path, env: Mapping[str, str], log: Path) -> None:
        """Make `home`/device a device of the stack's user."""
        settings = dict(line.split("=", 1) for line in (self._folder / "env").read_text().splitlines())
        unquoted = {key: value.strip("'\"") for key, value in settings.items()}
        with log.open("ab") as output:
            subprocess.run(
                [self.backup_tool, "--home", str(home / "device"), "login", "--server", unquoted["OORT_AUTH"],
                 "--ca", unquoted["OORT_CA"], "--username", "bench", "--password-stdin"],
                input=self._password.encode(), env=dict(env), check=True, stdout=output, stderr=output,
            )  # fmt: skip

    def bucket_size(self, tool: Sequence[str], env: Mapping[str, str]) -> int:
        """Bytes of one copy of the vault `bench`."""
        shown = subprocess.run(
            [*tool, "vault", "recovery", "bench", "--json"], env=dict(env), check=True, capture_output=True
        )
        bucket = json.loads(shown.stdout)["bucket"]
        copies = list(self._folder.glob(f"**/buckets/{bucket}"))
        return max(folder_size(copy) for copy in copies)

    def _call(self, *arguments: str, stdin: str = "") -> None:
        done = subprocess.run([self._oort, *arguments], input=stdin, text=True, capture_output=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"oort {' '.join(arguments[:2])}: {done.stderr.strip()}")
