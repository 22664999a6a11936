"""`oort bucket`: what protects a vault from those who may remove, and what brings back what they removed.

A bucket has the id of its vault (`oort session list --json`, `backup-tool vault recovery NAME --json`).
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli.accounts import AsJson, Data, show
from deploy.cli.ids import BucketId
from domain.wording import plural

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from datetime import datetime

    from deploy.buckets import BucketAdministrator, Plan, Protection, Restored, Sum

app = typer.Typer(help="Buckets, in which the vaults lie.", no_args_is_help=True)


_WARNINGS = 3  # docs/exit-codes.md: done, and not with everything
_WORDS = {"snapshots": "snapshot", "index": "index file", "data": "pack", "keys": "key"}


@app.command("basket")
def basket(bucket: BucketId, as_json: AsJson = False, data: Data = None) -> None:
    """Show what was removed and can come back: what, how much, when, by which device, and until when it is kept."""
    with _signed_in(data) as administrator:
        found = administrator.basket(bucket)
    if as_json:
        entries = [{"kind": entry.kind, **asdict(entry)} for entry in found.entries]
        typer.echo(json.dumps({"vault": found.vault, **asdict(found.protection), "objects": entries}, indent=2))
        return
    from client.cli.console import size_text
    from deploy.buckets import groups

    rows: list[dict[str, Any]] = []
    for group in groups(found.entries):
        first, last = group[0], group[-1]
        rows.append(
            {
                "what": first.name if first.kind in ("snapshots", "keys") else plural(len(group), _WORDS[first.kind]),
                "size": size_text(sum(entry.size for entry in group)),
                "removed": first.removed,
                "device": first.device,
                "kept_until": last.kept_until,
            }
        )
    show(rows, ("what", "size", "removed", "device", "kept_until"), as_json=False)
    _tell(found.protection)


@app.command("restore")
def restore(
    bucket: BucketId,
    *,
    since: Annotated[
        str, typer.Option("--since", help="what was removed since 2026-01-31T17:30 (UTC, unless it says its zone)")
    ] = "",
    names: Annotated[
        list[str] | None,
        typer.Option("--object", metavar="NAME", help="this object, with the index files and packs that it may need"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would come back, and change nothing")] = False,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Bring back what was removed and lies in the waste basket: all of it, or what was removed since a time."""
    moment = _time(since) if since else None
    chosen = names or []
    with _signed_in(data) as administrator:
        plan = administrator.plan_restore(bucket, moment, chosen)
        if not as_json:
            _show_plan(plan, dry_run=dry_run)
        if dry_run:
            if as_json:
                typer.echo(json.dumps(asdict(plan), indent=2))
            return
        done = administrator.restore(bucket, plan, chosen, _progress, waits=_waits)
    if as_json:
        typer.echo(json.dumps(asdict(done), indent=2))
    else:
        _show_done(done)
    for name in done.damaged:
        typer.echo(f"oort: {name}: no copy of it is whole.", err=True)
    for name in done.held:
        typer.echo(f"oort: {name}: it stays in the basket, as an index file that it may need is damaged.", err=True)
    for name in done.gone:
        typer.echo(f"oort: {name}: too late: it is being removed from the disks, or gone by now.", err=True)
    if done.damaged or done.held or done.gone:
        raise typer.Exit(_WARNINGS)


@app.command("lock")
def lock(
    bucket: BucketId,
    days: Annotated[int, typer.Option("--days", min=0, max=36500, help="days for which nothing new can be removed")],
    shorten: Annotated[bool, typer.Option("--shorten", help="also if it has a longer lock")] = False,
    data: Data = None,
) -> None:
    """Keep every object for some days from its arrival, whoever wants to remove it."""
    with _signed_in(data) as administrator:
        before = administrator.lock(bucket, days, shorten=shorten)
    typer.echo(f"Days for which objects are locked from their arrival: {days}; before: {before}.")


@app.command("release")
def release(bucket: BucketId, data: Data = None) -> None:
    """Let go of the brake on mass removal: for 24 hours nothing that is removed is weighed."""
    with _signed_in(data) as administrator:
        held = administrator.release(bucket)
    was = "The brake is released" if held else "The brake did not hold it"
    typer.echo(f"{was}: what is removed in the next 24 hours is not weighed.")


def _signed_in(data: Path | None) -> "AbstractContextManager[BucketAdministrator]":
    from deploy.administrator import Target
    from deploy.buckets import BucketAdministrator

    return BucketAdministrator.sign_in(Target.find(data))


def _time(text: str) -> "datetime":
    from datetime import UTC, datetime

    from client.cli.amounts import time_of

    return datetime.fromtimestamp(time_of(text) / 1e9, UTC)


def _tell(protection: "Protection") -> None:
    if protection.lock_days:
        typer.echo(f"Days for which objects are locked from their arrival: {protection.lock_days}.")
    if protection.braked:
        typer.echo(f"The brake on mass removal holds it since {protection.braked}: `oort bucket release`.")
    if protection.reaped:
        typer.echo(f"What was removed up to {protection.reaped} is gone for good, or partly so.")


def _show_plan(plan: "Plan", *, dry_run: bool) -> None:
    verb = "Would come back" if dry_run else "Comes back"
    typer.echo(f"{verb}: {_text(plan.comes_back)}.")
    if plan.stays:
        typer.echo(f"Stays in the basket, as it was removed before or is not needed: {_text(plan.stays)}.")
    if plan.leaving:
        typer.echo(f"oort: too late for {_text(plan.leaving)}: the disks are being cleared of them.", err=True)
    _tell(plan.protection)


def _show_done(done: "Restored") -> None:
    counts = ", ".join(plural(done.objects[kind], _WORDS[kind]) for kind in _WORDS if kind in done.objects)
    if not done.objects:
        return
    typer.echo(f"Back: {counts}. `backup-tool check` on a device says whether every snapshot is whole.")
    for name in done.keys:
        typer.echo(f"Opens the vault again: {name}")


def _text(sums: "list[Sum]") -> str:
    from client.cli.console import size_text

    by_kind = {one.kind: one for one in sums}
    told = [
        f"{plural(one.objects, word)} ({size_text(one.bytes)})"
        for kind, word in _WORDS.items()
        if (one := by_kind.get(kind))
    ]
    return ", ".join(told) or "nothing"


def _waits(reason: str) -> None:
    typer.echo(f"oort: waits up to 10 minutes: {' '.join(reason.split())}", err=True)


def _progress(so_far: "Restored") -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\rRestored: {plural(sum(so_far.objects.values()), 'object')} ")
