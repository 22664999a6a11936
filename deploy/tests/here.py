"""`oort` in the process of the tests: what it does and says, without the second that a process takes to begin.

Kept true: it gets its arguments, its environment and its standard input as a process would, and no other.
"""

import io
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest.mock import patch

from deploy.cli import __main__ as program
from deploy.driver import Command, Outcome


@dataclass(frozen=True, slots=True)
class Here(Command):
    """Where how a command starts and ends is not what is tested: test_start.py and test_stack.py see to that."""

    program: str = "oort"

    def run(self, *arguments: str, stdin: str = "") -> Outcome:
        line, out, err = self.line(*arguments), io.StringIO(), io.StringIO()
        with (
            patch.dict(os.environ, self.env, clear=True),
            patch.object(sys, "argv", line),
            patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()))),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            code = program.main()
        return Outcome(line, code, out.getvalue(), err.getvalue())
