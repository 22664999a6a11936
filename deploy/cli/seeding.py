"""`oort bucket export`, `import` and `adopt`: a bucket out of, and into, the storage nodes of a stack, on disks."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.ids import BucketId
from deploy.cli.options import At
from domain.wording import plural

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy.seeding.export import Moved

Data = Annotated[Path, typer.Option("--data", help="folder of an embedded stack")]
AsJson = Annotated[bool, typer.Option("--json", help="for scripts")]

_WARNINGS, _DAMAGED = 3, 8  # docs/exit-codes.md
_FILES_ALONE = (
    "This says that files of {} are in, not that they are a whole repository: "
    "run `backup-tool check` on a device before the disk is wiped."
)
_TELL_SECONDS = 10.0
_KINDS = {"keys": "key", "data": "pack", "index": "index file", "snapshots": "snapshot"}


def export_bucket(
    bucket: BucketId,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="new, empty, or left by an earlier export of it")],
    data: Data,
    at: At = None,
    as_json: AsJson = False,
) -> None:
    """Write a bucket to a folder, as a restic repository. What lies there whole already is kept.

    Ends with 8 when something is lost: it is named, and all the rest is written.
    """
    from deploy.local.cluster import Cluster
    from deploy.seeding.export import export
    from deploy.seeding.session import BucketSession
    from domain.sessions import Purpose

    with Cluster.of_stack(data, at) as cluster, BucketSession.open(cluster, bucket, Purpose.READ) as session:
        moved = export(session, folder, _progress("written"))
    _tell(moved, "Written", as_json=as_json)
    if moved.besides and not as_json:
        typer.echo(f"Objects in {folder} that the bucket has not, or no more: {moved.besides}. They were left alone.")
    if moved.damaged:
        raise typer.Exit(_DAMAGED)


def import_bucket(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="a restic repository")],
    bucket: BucketId,
    data: Data,
    at: At = None,
    as_json: AsJson = False,
) -> None:
    """Take a restic repository into a bucket that is empty, or has part of the same repository.

    Ends with 0 when all files of the folder are in; whether it lacks any, `backup-tool check` says. Ends with 3 when a
    file is damaged: it is named, and the rest is taken in.
    """
    from deploy.local.cluster import Cluster
    from deploy.seeding.intake import take_in
    from deploy.seeding.session import BucketSession
    from domain.sessions import Purpose

    with Cluster.of_stack(data, at) as cluster, BucketSession.open(cluster, bucket, Purpose.ADOPT) as session:
        moved = take_in(session, folder, _progress("taken in"))
    _tell(moved, "Taken in", as_json=as_json)
    typer.echo(_FILES_ALONE.format(folder), err=as_json)
    if moved.damaged:
        if not as_json:
            typer.echo("`backup-tool repair` on a device says what the vault lacks for it, and mends what can be.")
        raise typer.Exit(_WARNINGS)


def adopt_bucket(
    bucket: BucketId,
    data: Data,
    at: At = None,
    node: Annotated[list[str] | None, typer.Option("--node", help="from this home alone; may be repeated")] = None,
    as_json: AsJson = False,
) -> None:
    """Enter files that were copied by hand into a bucket's folder on its nodes' disks, where they lie.

    Ends with 0 when all files there are in the catalogue. Ends with 3 when one is left out, or a node does not answer:
    they are named, and repeating the command goes on.
    """
    from deploy.local.cluster import Cluster
    from deploy.seeding.adoption import adopt
    from deploy.seeding.session import BucketSession
    from domain.sessions import Purpose

    with Cluster.of_stack(data, at) as cluster, BucketSession.open(cluster, bucket, Purpose.ADOPT) as session:
        adopted = adopt(session, node or [], _progress("entered"))
    _tell(adopted, "Entered", as_json=as_json)
    typer.echo(_FILES_ALONE.format("the bucket's folder"), err=as_json)
    for reason in adopted.down.values():
        typer.echo(f"oort: {reason}", err=True)
    if not as_json:
        for name in adopted.keys:
            typer.echo(f"Opens the vault from now on: {name}")
        if adopted.in_basket:
            files = plural(adopted.in_basket, "file")
            typer.echo(f"{files} of what lies in the waste basket: `oort bucket restore` brings that back.")
        if adopted.revived:
            typer.echo(
                f"Packs and index files that came out of the basket, as what was entered may need them:"
                f" {adopted.revived}. The next prune removes what nothing needs."
            )
    if adopted.damaged or adopted.down:
        raise typer.Exit(_WARNINGS)


def _progress(done: str) -> "Callable[[Moved], None]":
    told = time.monotonic()

    def tell(moved: "Moved") -> None:
        nonlocal told
        if time.monotonic() - told > _TELL_SECONDS:
            told = time.monotonic()
            count = sum(moved.objects.values())
            typer.echo(
                f"oort: {done}: {plural(count, 'object')} ({plural(moved.bytes, 'byte')}), there before: {moved.kept}",
                err=True,
            )

    return tell


def _tell(moved: "Moved", done: str, *, as_json: bool) -> None:
    from client.cli.console import size_text

    for name, why in moved.damaged.items():
        typer.echo(f"oort: left out: {name}: {why}", err=True)
    if as_json:
        typer.echo(json.dumps(asdict(moved), indent=2))
        return
    counts = ", ".join(plural(moved.objects[kind], word) for kind, word in _KINDS.items() if kind in moved.objects)
    typer.echo(
        f"{done}: {counts or 'nothing'} ({size_text(moved.bytes)}). There before: {plural(moved.kept, 'object')}."
    )
