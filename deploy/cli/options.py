"""Options that commands about different things have in common."""

from typing import Annotated

import typer

At = Annotated[
    list[str] | None,
    typer.Option(
        "--at", metavar="HOST:PORT", help="internal address of a node of the cluster meant; default: the stack's"
    ),
]
