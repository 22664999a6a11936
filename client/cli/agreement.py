"""Agreement to what a command has said that it would do.

Kept true: who calls this has told the plan before, with --json too.
"""

import sys

import click

from client.errors import UsageError


def agree(question: str, *, yes: bool) -> None:
    """Ask, unless `yes` was given. Raises UsageError where nobody can be asked, or somebody says no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(detail="the plan is named above: nothing was done; give --yes to agree")
    if not click.confirm(question, err=True):
        raise UsageError(detail="nothing was done")
