"""The two commands driven as a script drives them: real processes, JSON out.

The demo, the benchmarks and the end-to-end tests all use Oort through this module, so they see what a user sees.
"""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent


class CommandFailed(Exception):
    """A command ended with another code than it had to."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended and what it wrote."""

    command: Sequence[str]
    code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.stdout)

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The JSON lines on stdout of one `type`."""
        lines = (json.loads(line) for line in self.stdout.splitlines())
        return [line for line in lines if line["type"] == kind]

    def summary(self) -> dict[str, Any]:
        """What `backup --json` and `restore --json` end with."""
        return self.events("summary")[-1]


@dataclass(frozen=True, slots=True)
class Command:
    """One of the two commands with the arguments that every call has; `prefix` is another command that starts it."""

    program: str
    fixed: Sequence[str] = ()
    prefix: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def line(self, *arguments: str) -> list[str]:
        return [*self.prefix, str(BIN / self.program), *self.fixed, *arguments]

    def run(self, *arguments: str, stdin: str = "") -> Outcome:
        """Run to the end, whatever the exit code."""
        command = self.line(*arguments)
        done = subprocess.run(
            command, input=stdin, env=dict(self.env), text=True, capture_output=True, errors="replace", check=False
        )
        return Outcome(command, done.returncode, done.stdout, done.stderr)

    def ok(self, *arguments: str, stdin: str = "", codes: Sequence[int] = (0,)) -> Outcome:
        """Run to the end. Raises CommandFailed, with what the command said, on any other exit code."""
        outcome = self.run(*arguments, stdin=stdin)
        if outcome.code not in codes:
            said = outcome.stderr.strip() or outcome.stdout.strip()
            raise CommandFailed(f"{self.program} {shlex.join(arguments)} ended with {outcome.code}: {said}")
        return outcome


class Operator:
    """The `oort` command on one stack's data folder."""

    def __init__(self, data: Path, env: Mapping[str, str] | None = None) -> None:
        self.data = data
        self.oort = Command("oort", env=dict(env or os.environ))

    def up(self, *options: str) -> None:
        self.oort.ok("stack", "up", "--data", str(self.data), "--detach", *options)

    def set(self, name: str, **settings: str) -> None:
        """Give one process of a role settings of its own, and start it again with them."""
        file = self.data / "settings" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("".join(f"{setting}={value}\n" for setting, value in settings.items()))
        self.oort.ok("stack", "restart", name, "--data", str(self.data))

    def down(self) -> None:
        self.oort.ok("stack", "down", "--data", str(self.data))

    def status(self) -> dict[str, Any]:
        """`oort stack status --json`, also of a stack that is down."""
        found: dict[str, Any] = self.oort.ok("stack", "status", "--data", str(self.data), "--json", codes=(0, 1)).json()
        return found

    def add_user(self, name: str, password: str) -> None:
        self.oort.ok("user", "add", name, "--password-stdin", "--data", str(self.data), stdin=password)

    def add_template(self, name: str, copies: int, ack_copies: int = 1) -> None:
        numbers = ("--copies", str(copies), "--ack-copies", str(ack_copies))
        self.oort.ok("template", "add", name, *numbers, "--data", str(self.data))

    @property
    def env(self) -> dict[str, str]:
        """`DIR/env` as a shell would read it."""
        words = shlex.split((self.data / "env").read_text(), comments=True)
        return dict(word.split("=", 1) for word in words if "=" in word)

    def bucket_folders(self, bucket: str) -> list[Path]:
        """Where the copies of a bucket lie, one a node."""
        return sorted(path for path in self.data.glob(f"**/buckets/{bucket}") if path.is_dir())


class Device:
    """`backup-tool` with one home."""

    def __init__(self, home: Path, env: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.tool = Command("backup-tool", ("--home", str(home)), env=dict(env or os.environ))

    def log_in(self, operator: Operator, username: str, password: str) -> None:
        found = operator.env
        self.tool.ok(
            *("login", "--server", found["OORT_AUTH"], "--ca", found["OORT_CA"]),
            *("--username", username, "--password-stdin"),
            stdin=password,
        )

    def request_vault(self, name: str, template: str = "default") -> None:
        self.tool.ok("vault", "request", "--template", template, "--name", name)

    def recovery(self, vault: str) -> dict[str, Any]:
        """Where the vault lies and restic's password for it."""
        found: dict[str, Any] = self.tool.ok("vault", "recovery", vault, "--json").json()
        return found

    def backup(self, vault: str, *paths: Path, codes: Sequence[int] = (0,)) -> dict[str, Any]:
        """Back up and answer the summary."""
        return self.backup_outcome(vault, *paths, codes=codes).summary()

    def backup_outcome(self, vault: str, *paths: Path, codes: Sequence[int] = (0,)) -> Outcome:
        """Back up and answer all that was said, warnings too."""
        return self.tool.ok("backup", *map(str, paths), "--vault", vault, "--json", codes=codes)

    def snapshots(self, vault: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.tool.ok("snapshots", "--vault", vault, "--json").json()
        return found

    def restore(self, vault: str, target: Path, snapshot: str = "latest", *options: str) -> None:
        self.tool.ok("restore", snapshot, "--target", str(target), "--vault", vault, *options)
