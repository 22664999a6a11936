"""The two commands in the process of the tests: what they do and say, without the second that a process takes to begin.

Kept true: a command gets its arguments, its environment and its standard input as a process would, and no other.
"""

import io
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from client.cli import program as backup_tool
from deploy.cli import __main__ as oort
from deploy.driver import Command, Device, Operator, Outcome

_LOOKS = ("check", "jobs", "ls", "snapshots", "vault")


@dataclass(frozen=True, slots=True)
class Here(Command):
    """Where how a command starts and ends is not what is tested; one at a time, as a process has one output."""

    def run(self, *arguments: str, stdin: str = "") -> Outcome:
        line, out, err = self.line(*arguments), io.StringIO(), io.StringIO()
        with (
            patch.dict(os.environ, self.env, clear=True),
            patch.object(sys, "argv", line),
            patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()))),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            code = oort.main() if self.program == "oort" else backup_tool.run(line[1:])
        return Outcome(line, code, out.getvalue(), err.getvalue())


class AdministeredHere(Operator):
    """A stack whose operator's commands run in this process, but for those that start and stop it."""

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self._outside = Operator(data)
        self.oort = Here("oort")

    def up(self, *options: str) -> None:
        self._outside.up(*options)

    def down(self) -> None:
        self._outside.down()


@dataclass(frozen=True, slots=True)
class LooksHere(Command):
    """`backup-tool`, of which what looks at vaults, or asks for them, runs in this process."""

    def run(self, *arguments: str, stdin: str = "") -> Outcome:
        if self.prefix or arguments[0] not in _LOOKS:
            return Command.run(self, *arguments, stdin=stdin)
        return Here(self.program, self.fixed, env=self.env).run(*arguments, stdin=stdin)


class LookedAtHere(Device):
    """A device whose vaults and snapshots are looked at in this process; what it does is done as by any other."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.tool = LooksHere(self.tool.program, self.tool.fixed)
