"""`oort demo`: the main job, end to end, on a stack of its own."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    source: Annotated[
        Path | None, typer.Option("--source", help="what to back up; default: this Python's standard library")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="keep the demonstration's folder")] = False,
) -> None:
    """Back up, back up again, restore and compare. Ends with 3 when files of the source could not be read."""
    from deploy.demo.run import run

    raise typer.Exit(run(source, keep=keep, say=typer.echo))
