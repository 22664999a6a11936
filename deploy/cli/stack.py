"""`oort stack`: the embedded stack on this machine."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.local.folder import StackFolder
from deploy.local.roles import MOST_NODES, RESTART_DELAY_SECONDS

if TYPE_CHECKING:
    from deploy.local.stack import Status

app = typer.Typer(help="The embedded stack on this machine.", no_args_is_help=True)

Data = Annotated[Path, typer.Option("--data", help="the stack's folder, for its owner alone")]


@app.command()
def up(
    data: Data,
    detach: Annotated[bool, typer.Option("--detach", help="return when everything is up")] = False,
    restart_delay: Annotated[
        float, typer.Option("--restart-delay", min=0, help="seconds after which a process that died is started again")
    ] = RESTART_DELAY_SECONDS,
    nodes: Annotated[
        int | None,
        typer.Option("--nodes", min=1, max=MOST_NODES, help="storage nodes, from now on; default: as before, or 2"),
    ] = None,
) -> None:
    """Start the stack, in a new folder or with the data of an earlier one. Ctrl-C stops it."""
    from deploy.local import stack

    def ready() -> None:
        folder = StackFolder.find(data)
        typer.echo(f"The stack is up. Its addresses and the administrator's password are in {folder.env}")
        if not detach:
            typer.echo("Ctrl-C stops it.")

    if not stack.up(data, detach=detach, say=typer.echo, ready=ready, restart_delay=restart_delay, nodes=nodes):
        typer.echo(f"The stack in {data} is running already.")


@app.command()
def down(data: Data) -> None:
    """Stop the stack and whatever a killed one has left. Data stays."""
    from deploy.local import stack

    left = stack.down(data)
    typer.echo("The stack is down." + (f" Stopped what a killed one had left: {', '.join(left)}." if left else ""))


@app.command()
def restart(name: Annotated[str, typer.Argument(help="a name that `status` shows")], data: Data) -> None:
    """Start one process anew, or one that died at once."""
    from deploy.local import stack

    stack.restart(data, name)
    typer.echo(f"{name} is up again.")


@app.command()
def status(data: Data, as_json: Annotated[bool, typer.Option("--json", help="for scripts")] = False) -> None:
    """Show each process, and whether all copies of all vaults are complete. Exit code 1 when it does not run."""
    from deploy.local import stack

    found = stack.status(data)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
    else:
        for name, service in found.services.items():
            typer.echo(f"{name:10}  {service['pid'] or '-':>8}  {service['public']:21}  {_state(found, name)}")
        for name in found.silent:
            typer.echo(f"{name} is silent: it does not say that it lives.")
        for name, node in found.nodes.items():
            for one in node["away"] if node["live"] else ():
                typer.echo(f"{name}: {one} is away.")
            for one in node["hanging"]:
                typer.echo(f"{name}: {one}.")
        typer.echo(_copies(found.missing_copies, complete=found.copies_complete))
        typer.echo("The stack is running." if found.running else "The stack is not running.")
    raise typer.Exit(0 if found.running else 1)


def _state(found: "Status", name: str) -> str:
    service = found.services[name]
    if not service["healthy"]:
        return "not healthy" if service["pid"] else "not running"
    if name in found.silent:
        return "answers, but is silent"
    node = found.nodes.get(name, {})
    if node.get("hanging"):
        return "healthy, but for a disk that does not answer"
    return "healthy, but for what is away" if node.get("away") else "healthy"


def _copies(missing: int | None, *, complete: bool) -> str:
    if missing is None:
        return "No storage node answers: whether all copies are complete is not known."
    if missing:
        return f"Missing copies of objects: {missing}."
    if not complete:
        return "No copy is known to be missing, but a node with vaults is down or still compares its disks."
    return "All copies are complete."
