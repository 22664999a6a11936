"""`oort bucket follow|status|following|unfollow|promote|move`, `oort cluster add`: vaults that lie in two regions."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli.ids import BucketId
from deploy.cli.options import At
from domain.wording import plural

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp
    from oort.storage.v1 import regions_pb2

    from deploy.local.regions import Region

Data = Annotated[Path, typer.Option("--data", help="folder of an embedded stack")]
AsJson = Annotated[bool, typer.Option("--json", help="for scripts")]
GiveUp = Annotated[
    bool, typer.Option("--give-up", help="without what is only on the other cluster, or is stored there from now on")
]
Yes = Annotated[bool, typer.Option("--yes", help="without asking")]

_WARNINGS = 3  # docs/exit-codes.md


def add_cluster(
    name: Annotated[str, typer.Argument(help="its OORT_CLUSTER_NAME")],
    nodes: Annotated[
        list[str], typer.Option("--node", metavar="HOST:PORT", help="internal address of one of its nodes")
    ],
    data: Data,
) -> None:
    """Tell the auth role of another storage cluster, or where the nodes of one are now."""
    from deploy.local.regions import put_cluster

    put_cluster(data, name, nodes)
    typer.echo(f"The auth role knows the storage cluster {name}.")


def follow(
    bucket: BucketId,
    data: Data,
    *,
    sources: Annotated[
        list[str],
        typer.Option("--from", metavar="HOST:PORT", help="internal address of a node of the cluster that has it"),
    ],
    at: At = None,
    keep_removed: Annotated[
        bool, typer.Option("--keep-removed", help="what is removed there stays here, until the bucket is promoted")
    ] = False,
    existing: Annotated[
        bool, typer.Option("--existing", help="content that is here is to become what it is there")
    ] = False,
    lock_days: Annotated[
        int | None,
        typer.Option("--lock-days", min=0, max=36500, help="days for which what comes here is not removed"),
    ] = None,
    release: Annotated[bool, typer.Option("--release", help="let go of the brake on mass removal here")] = False,
    copies: Annotated[int, typer.Option("--copies", min=0, max=16, help="of a new bucket; default: as there")] = 0,
    ack_copies: Annotated[int, typer.Option("--ack-copies", min=0, max=16, help="of these; default: as there")] = 0,
) -> None:
    """Fill a bucket from the one with its id on another cluster, and keep it filled; clients only read it then.

    Comes back at once: `oort bucket status` says how far it is. The same again changes what is given.
    """
    with _region(data, at) as region:
        found = region.follow(
            bucket, sources, removals=not keep_removed, existing=existing, copies=copies, ack_copies=ack_copies
        )
        if lock_days is not None:
            region.lock(bucket, lock_days)
        if release:
            region.release(bucket)
    typer.echo(f"It follows cluster {found.source}: `oort bucket status` says how far it is.")


def status(bucket: BucketId, data: Data, at: At = None, as_json: AsJson = False) -> None:
    """Show whom a bucket follows, how far it is, and who follows it. Ends with 3 when it is not going on."""
    with _region(data, at) as region:
        found = region.status(bucket)
    rows = [_row(one) for one in found.following]
    followers = [{"cluster": one.cluster, "upto_seq": one.upto_seq, "seen": _time(one.seen)} for one in found.followers]
    if as_json:
        told = {"writes_to": found.writes_to, "following": rows[0] if rows else None, "followers": followers}
        typer.echo(json.dumps(told, indent=2))
    else:
        for one in found.following:
            _tell(one)
        if not rows:
            handed = f"It was handed over to cluster {found.writes_to}." if found.writes_to else ""
            typer.echo(handed or "It follows no other cluster.")
        for follower in followers:
            typer.echo(f"Cluster {follower['cluster']} follows it, and last asked at {follower['seen']}.")
    if any(row["problem"] for row in rows):
        raise typer.Exit(_WARNINGS)


def list_following(data: Data, at: At = None, as_json: AsJson = False) -> None:
    """Show all buckets that follow another cluster, and what is still to come. Ends with 3 when one is not going on."""
    from deploy.cli.accounts import show

    with _region(data, at) as region:
        rows = [_row(one) for one in region.following()]
    columns = ("bucket", "source", "removals", "complete", "behind_objects", "behind_bytes", "behind_since", "problem")
    show(rows, columns, as_json=as_json)
    if any(row["problem"] for row in rows):
        raise typer.Exit(_WARNINGS)


def unfollow(bucket: BucketId, data: Data, *, at: At = None, yes: Yes = False) -> None:
    """Have a bucket follow no other cluster any more: its devices stay where they are, and what is here gets older.

    What is here is not removed, and becomes what is there again by `oort bucket follow --existing`. Refused in a move
    that was cut off, when the other cluster takes nothing any more: `oort bucket promote` ends that.
    """
    from client.cli.agreement import agree
    from client.errors import UsageError

    with _region(data, at) as region:
        found = region.status(bucket).following
        if not found:
            raise UsageError(detail=f"The bucket {bucket} follows no other cluster.")
        _tell(found[0])
        agree(f"Bring nothing more from cluster {found[0].source}?", yes=yes)
        region.promote(bucket, give_up=True, devices_stay=True)
    typer.echo("It follows no other cluster any more.")


def promote(bucket: BucketId, data: Data, *, at: At = None, give_up: GiveUp = False, yes: Yes = False) -> None:
    """Have a bucket take backups where it followed another cluster, and send its devices there.

    For when the other cluster is gone: what had not come yet is told, and lost with it. While that answers, or when all
    of it was never here, only with --give-up. Of one that was handed over to another cluster (`oort bucket move`), take
    it back: only with --give-up once that is promoted, as for one that another cluster has followed. The same again
    ends what was cut off.
    """
    from client.cli.agreement import agree
    from deploy.local.regions import send_devices

    with _region(data, at) as region:
        here, found = region.name, region.status(bucket)
        send_devices(data, bucket, here, check=True)
        if found.writes_to:
            for one in found.following:
                _tell(one)
            typer.echo(f"What is stored on cluster {found.writes_to} does not come here any more.", err=True)
            agree(f"Promote {bucket}?", yes=yes)
        else:
            agree(f"The bucket follows no other cluster. Send its devices to cluster {here}?", yes=yes)
        if found.following:
            region.promote(bucket, give_up=give_up)
        else:
            region.take_back(bucket, give_up=give_up)
        typer.echo(f"The bucket takes backups on cluster {here}.")
        send_devices(data, bucket, here)
    typer.echo(f"Its devices are sent to cluster {here}.")


def move(
    bucket: BucketId,
    data: Data,
    *,
    to: Annotated[
        list[str], typer.Option("--to", metavar="HOST:PORT", help="internal address of a node of the follower")
    ],
    at: At = None,
    yes: Yes = False,
) -> None:
    """Move a bucket to the cluster that follows it, when that has caught up: nothing that was stored is left behind.

    When little is to come, backups that run are ended, and begin again on the other cluster. What is here stays, and
    takes nothing more. The same again ends what was cut off; until it is promoted there, `promote` here takes it back.
    """
    from client.cli.agreement import agree
    from client.errors import UsageError
    from deploy.local import moving
    from deploy.local.regions import send_devices

    with _region(data, at) as region, _region(data, to) as target:
        source, name = region.name, target.name
        send_devices(data, bucket, name, check=True)
        state = target.status(bucket)
        if state.writes_to:
            if not state.following or state.writes_to != source:
                raise UsageError(detail=f"There it follows cluster {state.writes_to}, and not {source}.")
            _tell(state.following[0])
            agree(f"Move {bucket} from cluster {source} to {name}, and end what writes to it now?", yes=yes)
            moving.move(bucket, region, target, seen=state.following[0].seen, tell=_progress)
        elif region.status(bucket).writes_to != name:
            raise UsageError(detail=f"On cluster {name} it does not follow {source}: `oort bucket follow` comes first.")
        send_devices(data, bucket, name)
    typer.echo(f"The bucket is on cluster {name}, and its devices are sent there.")


@contextmanager
def _region(data: Path, at: list[str] | None) -> Iterator["Region"]:
    from deploy.local.cluster import Cluster
    from deploy.local.regions import Region

    with Cluster.of_stack(data, at) as cluster:
        yield Region(cluster)


def _row(one: "regions_pb2.Following") -> dict[str, Any]:
    return {
        "bucket": one.bucket_id,
        "source": one.source,
        "endpoints": list(one.endpoints),
        "removals": one.removals,
        "complete": one.complete,
        "upto_seq": one.upto_seq,
        "seen": _time(one.seen),
        "behind_objects": one.behind_objects,
        "behind_bytes": one.behind_bytes,
        "behind_since": _time(one.behind_since),
        "kept_objects": one.kept_objects,
        "damaged_objects": one.damaged_objects,
        "problem": one.problem,
        "node": one.node_id,
    }


def _tell(one: "regions_pb2.Following") -> None:
    removals = "removals too" if one.removals else "and keeps what is removed there"
    typer.echo(f"It follows cluster {one.source}, {removals}.")
    if not one.complete:
        typer.echo("It has never had all of it: what is here is not the whole vault yet.")
    since = f", the oldest stored at {_time(one.behind_since)}" if one.behind_objects else ""
    asked = _time(one.seen) or "never"
    left = f"{plural(one.behind_objects, 'object')} ({plural(one.behind_bytes, 'byte')}){since}"
    typer.echo(f"Still to come: {left}; last asked: {asked}.")
    if one.problem:
        typer.echo(f"oort: {one.problem}", err=True)


def _progress(one: "regions_pb2.Following") -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\rStill to come: {plural(one.behind_objects, 'object')} ")


def _time(moment: "Timestamp") -> str:
    return moment.ToDatetime(UTC).isoformat(timespec="seconds") if moment.seconds else ""
