"""`oort node list|disks|drain|undrain|remove`: the storage nodes of a stack, and what becomes of them."""

import json
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli.options import At
from domain.wording import plural

if TYPE_CHECKING:
    from oort.storage.v1 import buckets_pb2

Data = Annotated[Path, typer.Option("--data", help="folder of an embedded stack")]
AsJson = Annotated[bool, typer.Option("--json", help="for scripts")]
NodeName = Annotated[str, typer.Argument(help="name of a node")]

_WARNINGS = 3  # docs/exit-codes.md
_NAMED = 20
_COLUMNS = (
    "id",
    "state",
    "up",
    "free_bytes",
    "buckets",
    "bytes",
    "former_buckets",
    "copies_to_come",
    "bytes_to_come",
    "last_seen",
)


def list_nodes(data: Data, at: At = None, as_json: AsJson = False) -> None:
    """Show all nodes: whether they are up, their room, their buckets, and the copies that are still to come to them.

    `former_buckets` are those that have left a node, and of which it has still to remove its files.
    """
    from deploy.cli.accounts import show
    from deploy.local.cluster import Cluster

    with Cluster.of_stack(data, at) as cluster:
        found = cluster.describe(backlog=True)
    show([_row(node) for node in found.nodes], _COLUMNS, as_json=as_json)
    if not as_json:
        for node in found.nodes:
            _tell_waits(node)
        if found.short_buckets:
            typer.echo(
                f"{plural(found.short_buckets, 'bucket')} on fewer nodes than copies are wanted: as soon as some with"
                " room are up, they are taken."
            )


def list_disks(
    data: Data,
    node: Annotated[str, typer.Argument(help="name of a node; default: all")] = "",
    at: At = None,
    as_json: AsJson = False,
) -> None:
    """Show the disks and stores of a node, or of all: id, room, and whether each is there, by its last heartbeat."""
    from deploy.cli.accounts import show
    from deploy.local.cluster import Cluster

    with Cluster.of_stack(data, at) as cluster:
        found = [cluster.node(node)] if node else cluster.heartbeats()
    rows = [
        {
            "node": one.id,
            "up": one.live,
            "id": disk.id,
            "kind": disk.kind,
            "there": disk.there,
            "silent_seconds": disk.silent_seconds,
            "free_bytes": disk.free_bytes,
            "place": disk.place,
        }
        for one in found
        for disk in one.disks
    ]
    show(rows, ("node", "up", "id", "kind", "there", "silent_seconds", "free_bytes", "place"), as_json=as_json)


def drain(node: NodeName, data: Data, at: At = None) -> None:
    """Have a node take no new buckets, and move those that it has to other nodes, while all of them are in use.

    Comes back at once: `oort node list` says how far it is. Refused when too few nodes would be left.
    """
    from deploy.local.cluster import Cluster

    with Cluster.of_stack(data, at) as cluster:
        found = cluster.drain(node)
    typer.echo(f"{node} is drained of {_held(found)}: `oort node list` says how far that is.")
    _tell_waits(found)


def undrain(node: NodeName, data: Data, at: At = None) -> None:
    """Take back a node that is drained or was removed: it takes buckets, and keeps those that it has."""
    from deploy.local.cluster import Cluster

    with Cluster.of_stack(data, at) as cluster:
        found = cluster.undrain(node)
    typer.echo(f"{node} takes buckets, and has {found.buckets}.")


def remove(
    node: NodeName,
    data: Data,
    *,
    at: At = None,
    lost: Annotated[bool, typer.Option("--lost", help="it is down and gone for good, with all that it has")] = False,
    give_up: Annotated[
        bool, typer.Option("--give-up", help="accept the loss of objects that no other node has a whole copy of")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="remove a lost node without asking")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove a node that was drained and holds nothing more, or one that is lost.

    The copies of a lost one are made again on other nodes. Objects that no other node has are told with their names,
    and lost by --give-up only; it is told what the node holds, and asked, or --yes given. Ends with 3 when any were
    given up.
    """
    from client.cli.agreement import agree
    from deploy.local.cluster import Cluster

    with Cluster.of_stack(data, at) as cluster:
        found = cluster.node(node)
        typer.echo(
            f"{node} is {found.state}, holds {_held(found)} and files of {found.former_buckets} others.", err=True
        )
        if lost:
            given_up = ", and what no other node has whole is given up" if give_up else ""
            typer.echo(f"All its copies count as lost at once{given_up}.", err=True)
            agree(f"Remove {node}?", yes=yes)
        answer = cluster.remove(node, lost=lost, give_up=give_up)
    names = [dict(zip(("bucket", "name"), one.split(" ", 1), strict=True)) for one in answer.names]
    if as_json:
        typer.echo(json.dumps({"removed": answer.removed, "given_up": answer.given_up, "names": names}, indent=2))
    else:
        done = "is removed" if answer.removed else "is still being drained: repeat this when `oort node list` says 0"
        typer.echo(f"{node} {done}.")
        for one in names[:_NAMED]:
            typer.echo(f"Given up: {one['name']} of bucket {one['bucket']}.")
        if answer.given_up > _NAMED:
            typer.echo(f"Given up: {answer.given_up} objects in all; --json names 1,000.")
    if answer.given_up:
        raise typer.Exit(_WARNINGS)


def _tell_waits(node: "buckets_pb2.Node") -> None:
    for why in node.waits:
        typer.echo(f"{node.id} waits with {why}.")


def _held(node: "buckets_pb2.Node") -> str:
    return f"{plural(node.buckets, 'bucket')} with {plural(node.bytes, 'byte')}"


def _row(node: "buckets_pb2.Node") -> dict[str, Any]:
    seen = node.last_seen.ToDatetime(UTC).isoformat(timespec="seconds") if node.last_seen.seconds else ""
    return {
        "id": node.id,
        "state": node.state,
        "up": node.live,
        "reconciled": node.reconciled,
        "free_bytes": node.free_bytes,
        "buckets": node.buckets,
        "bytes": node.bytes,
        "former_buckets": node.former_buckets,
        "copies_to_come": node.missing_copies,
        "bytes_to_come": node.missing_bytes,
        "last_seen": seen,
        "waits": list(node.waits),
    }
