"""`oort bucket list` and `scrub`: the buckets of a stack's storage nodes, and the proof that their copies are whole."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli.ids import AnyBucketId
from deploy.cli.options import At
from domain.wording import plural

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oort.auth.v1.admin_pb2 import VaultNames

    from deploy.local.cluster import Cluster

Data = Annotated[Path, typer.Option("--data", help="folder of an embedded stack")]
AsJson = Annotated[bool, typer.Option("--json", help="for scripts")]

_WARNINGS, _DAMAGED = 3, 8  # docs/exit-codes.md
_POLL_SECONDS, _LONGEST_POLL_SECONDS = 0.25, 10.0
_TELL_SECONDS = 10.0
_HEAL_SECONDS = 120.0


def list_buckets(data: Data, at: At = None, as_json: AsJson = False) -> None:
    """Show all buckets, with what is missing on their nodes and what is lost. Ends with 8 if anything is lost."""
    from deploy.cli.accounts import show
    from deploy.local.cluster import Cluster

    with Cluster.of_stack(data, at) as cluster:
        buckets = list(cluster.buckets())
        named = _named(data, [bucket.id for bucket in buckets])
        rows = [
            {
                "id": bucket.id,
                "vault": named[bucket.id].vault + (" (removed)" if named[bucket.id].removed and not as_json else ""),
                "tenant": bucket.tenant_id if as_json else named[bucket.id].tenant or bucket.tenant_id,
                "user": bucket.user_id if as_json else named[bucket.id].username or bucket.user_id,
                "tenant_name": named[bucket.id].tenant,
                "username": named[bucket.id].username,
                "removed": named[bucket.id].removed,
                "copies": bucket.copies,
                "ack_copies": bucket.ack_copies,
                "nodes": list(bucket.home_nodes) if as_json else ",".join(bucket.home_nodes),
                "objects": bucket.objects,
                "bytes": bucket.bytes,
                "quota_bytes": bucket.quota_bytes,
                "missing_copies": bucket.missing_copies,
                "lost_objects": bucket.lost_objects,
                "quota_group": bucket.quota_group,
            }
            for bucket in buckets
        ]
    columns = (
        "id",
        "tenant",
        "user",
        "vault",
        "copies",
        "nodes",
        "objects",
        "bytes",
        "quota_bytes",
        "missing_copies",
        "lost_objects",
    )
    show(rows, columns, as_json=as_json)
    if any(row["lost_objects"] for row in rows):
        raise typer.Exit(_DAMAGED)


def _named(data: Path, buckets: list[str]) -> "Mapping[str, VaultNames]":
    """What auth calls them: of those that it does not know, or while it does not answer, nothing."""
    from collections import defaultdict

    from oort.auth.v1.admin_pb2 import VaultNames

    from client.errors import OortError
    from deploy.local.auth import names_of

    found: defaultdict[str, VaultNames] = defaultdict(VaultNames)
    try:
        found.update(names_of(data, buckets))
    except OortError as error:
        typer.echo(f"oort: ids in place of names: {' '.join(str(error).split())}", err=True)
    return found


def scrub(
    data: Data,
    bucket: AnyBucketId = "",
    every: Annotated[bool, typer.Option("--all", help="all buckets")] = False,
    at: At = None,
    as_json: AsJson = False,
) -> None:
    """Have every node read all its copies now, and heal what is not whole. Ctrl-C leaves them at it.

    Ends with 8 when something is lost, with 3 when a node is down or a copy is not healed yet.
    """
    from client.errors import UsageError
    from deploy.local.cluster import Cluster

    if bool(bucket) == every:
        raise UsageError(detail="Give the id of a bucket, or --all.")
    with Cluster.of_stack(data, at) as cluster:
        cluster.start_scrub(bucket)
        silent = _wait(cluster, bucket)
        read = cluster.scrubs(bucket)
        result: dict[str, Any] = {
            "copies": sum(one.copies for one in read),
            "bytes": sum(one.bytes for one in read),
            "damaged": sum(one.damaged for one in read),
            "down": sorted(silent),
        }
        result |= _wait_for_healing(cluster, bucket, seconds=_HEAL_SECONDS if result["damaged"] and not silent else 0)
    typer.echo(json.dumps(result, indent=2) if as_json else _in_words(result))
    if result["lost_objects"]:
        raise typer.Exit(_DAMAGED)
    if result["missing_copies"] or silent:
        raise typer.Exit(_WARNINGS)


def _wait(cluster: "Cluster", bucket: str) -> set[str]:
    """Until all is read but on nodes that are down; answers these."""
    told, pause = time.monotonic(), _POLL_SECONDS
    while True:
        waiting = [one for one in cluster.scrubs(bucket) if not one.HasField("done")]
        silent = cluster.silent_nodes() if waiting else set()
        if all(one.node_id in silent for one in waiting):
            return {one.node_id for one in waiting}
        if time.monotonic() - told > _TELL_SECONDS:
            told = time.monotonic()
            read, left = sum(one.copies for one in waiting), sum(one.left for one in waiting)
            typer.echo(f"oort: copies read: {read}, left: {left}", err=True)
        time.sleep(pause)
        pause = min(_LONGEST_POLL_SECONDS, pause * 1.3)


def _wait_for_healing(cluster: "Cluster", bucket: str, seconds: float) -> dict[str, Any]:
    """What is missing and lost when nothing is healed any more, or `seconds` are over."""
    end = time.monotonic() + seconds
    while True:
        found = [cluster.bucket(bucket)] if bucket else list(cluster.buckets())
        lost = {one.id: one.lost_objects for one in found if one.lost_objects}
        missing = sum(one.missing_copies for one in found)
        is_settled = missing == sum(one.lost_objects * len(one.home_nodes) for one in found)
        if is_settled or time.monotonic() > end:
            return {"missing_copies": missing, "lost_objects": sum(lost.values()), "buckets_with_losses": lost}
        time.sleep(_POLL_SECONDS)


def _in_words(result: dict[str, Any]) -> str:
    lines = [f"Copies read: {result['copies']} ({plural(result['bytes'], 'byte')}), damaged: {result['damaged']}."]
    if result["down"]:
        lines.append(f"Down, and to read theirs when they are back: {', '.join(result['down'])}.")
    lines += [
        f"Lost in bucket {bucket}, objects: {count}. The next backup of a device that has the data stores it again."
        for bucket, count in result["buckets_with_losses"].items()
    ]
    if result["missing_copies"] and not result["lost_objects"]:
        lines.append(f"Still to be healed, copies: {result['missing_copies']}.")
    elif result["damaged"] and not result["lost_objects"]:
        lines.append("All are healed.")
    return "\n".join(lines)
