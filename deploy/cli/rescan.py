"""`oort node rescan`: the catalogue of a stack's storage nodes made again from their disks."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from domain.wording import plural

if TYPE_CHECKING:
    from deploy.local.cluster import Cluster

Data = Annotated[Path, typer.Option("--data", help="folder of an embedded stack")]
AsJson = Annotated[bool, typer.Option("--json", help="for scripts")]

_WARNINGS = 3  # docs/exit-codes.md
_TELL_SECONDS = 10.0
_HELD = (
    "oort: nothing is removed from the vaults that were entered until `oort node rescan` has been through all nodes in"
    " one run without an error, or `oort bucket release ID` lets go of one."
)


def rescan(
    data: Data,
    node: Annotated[str, typer.Argument(help="name of one node; default: all, one after the other")] = "",
    at: Annotated[
        list[str] | None,
        typer.Option("--at", metavar="HOST:PORT", help="internal address of each node of another cluster"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Enter what lies on the nodes' disks in the catalogue, after the storage database was lost.

    What is entered already stays. From a vault that is entered nothing is removed until all nodes were rescanned in one
    run without an error. Ends with 3 when a folder is left out, since no vault is known for it, or cannot be read.
    """
    from client.errors import NotFound
    from deploy.local.cluster import Cluster

    results: list[dict[str, Any]] = []
    is_whole = False
    with Cluster.of_stack(data, at) as cluster:
        if node and node not in cluster.nodes:
            raise NotFound(detail=f"There is no node {node}; there are: {', '.join(cluster.nodes)}.")
        try:
            for name in [node] if node else cluster.nodes:
                found = _rescan(cluster, name)
                results.append(found)
                if not as_json:
                    typer.echo(_in_words(found))
            is_whole = _are_all(cluster, results, at=at) and not any(found["failed"] for found in results)
            if is_whole:
                cluster.finish_rescan()
        finally:
            if not is_whole:
                typer.echo(_HELD, err=True)
    if as_json:
        typer.echo(json.dumps(results, indent=2))
    if any(found["left_out"] or found["failed"] for found in results):
        raise typer.Exit(_WARNINGS)


def _are_all(cluster: "Cluster", results: Sequence[dict[str, Any]], *, at: Sequence[str] | None) -> bool:
    """Whether all nodes were rescanned: those of the stack, or all of another cluster that have said that they live.

    A node has one name, and may have been given by two addresses.
    """
    if not at:
        return len(results) == len(cluster.nodes)
    known = {node.id for node in cluster.heartbeats() if node.state not in ("removed", "lost")}
    return len(results) == len(cluster.nodes) and known <= {found["node_id"] for found in results}


def _rescan(cluster: "Cluster", node: str) -> dict[str, Any]:
    told = time.monotonic()
    found: dict[str, Any] = {}
    for step in cluster.rescan(node):
        found = {
            "node": node,
            "node_id": step.node_id,
            "buckets": step.buckets,
            "new_homes": step.homes,
            "entered_objects": step.objects,
            "entered_bytes": step.bytes,
            "entered_keys": step.keys,
            "foreign_files": step.foreign,
            "left_out": list(step.unknown),
            "failed": [_failed(one) for one in step.failed],
            "buckets_with_keys": list(step.with_keys),
        }
        if time.monotonic() - told > _TELL_SECONDS:
            told = time.monotonic()
            typer.echo(
                f"oort: {node}: entered so far: {plural(step.buckets, 'bucket')}, {plural(step.objects, 'object')}",
                err=True,
            )
    return found


def _failed(told: str) -> dict[str, str]:
    bucket, _, reason = told.partition(" ")
    return {"bucket": bucket, "reason": reason}


def _in_words(found: dict[str, Any]) -> str:
    entered = f"objects entered: {found['entered_objects']} ({plural(found['entered_bytes'], 'byte')})"
    lines = [f"{found['node']}: buckets: {found['buckets']}, {entered}."]
    if found["foreign_files"]:
        lines.append(f"Left alone, files that are no objects, by their names: {found['foreign_files']}.")
    if found["entered_keys"]:
        buckets = ", ".join(found["buckets_with_keys"])
        lines.append(
            f"Keys entered: {found['entered_keys']}, also such as had been removed: look with `backup-tool key list` at"
            f" the vaults of {buckets}."
        )
    lines += [f"Not read whole: bucket {one['bucket']}: {one['reason']}." for one in found["failed"]]
    lines += [f"Left out: bucket {bucket}, of which auth knows no vault." for bucket in found["left_out"]]
    return "\n".join(lines)
