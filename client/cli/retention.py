"""backup-tool retention"""

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import click

from client.cli import pruning
from client.cli import retention_rules as rules
from client.cli.agreement import agree
from client.cli.console import emit, note, plural, printable, say, table_lines, telling, time_text
from client.cli.invocation import Invocation, Json, VaultName
from client.cli.parameters import Option
from client.cli.progress import Progress
from client.cli.unread import UnreadParts
from client.errors import WARNINGS_EXIT_CODE, DamagedVault

if TYPE_CHECKING:
    from client.errors import ObjectMissing, SnapshotInUse
    from client.retention.plan import ItemPlan, Plan
    from client.retention.run import RetentionResult
    from client.vault.snapshots import Snapshot
    from domain.names import ObjectName

ItemId = Annotated[str, Option("--item", help="Only this item: its id, or the beginning of one.")]
DryRun = Annotated[bool, Option("--dry-run", help="Say what would be kept and why, and do nothing.")]
Yes = Annotated[bool, Option("--yes", help="Remove without asking.")]


def retention(
    context: click.Context,
    *,
    vault: VaultName,
    item: ItemId = "",
    keep_all: rules.KeepAll = False,
    keep_last: rules.KeepLast = None,
    keep_since: rules.KeepSince = None,
    keep_within: rules.KeepWithin = None,
    keep_daily: rules.KeepDaily = None,
    keep_weekly: rules.KeepWeekly = None,
    keep_monthly: rules.KeepMonthly = None,
    keep_yearly: rules.KeepYearly = None,
    keep_first_daily: rules.KeepFirstDaily = None,
    keep_first_weekly: rules.KeepFirstWeekly = None,
    keep_first_monthly: rules.KeepFirstMonthly = None,
    keep_first_yearly: rules.KeepFirstYearly = None,
    prune: pruning.Prune = False,
    max_unused: pruning.MaxUnused = None,
    max_repack_size: pruning.MaxRepack = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> int:
    """Remove the snapshots of a vault that no rule keeps: by the rules given here, or else by those stored.

    Rules are alternatives, and are applied to each item of each device by itself. Exit code 3: done, but something
    stays that no rule keeps; 8: --prune has found damage.
    """
    options = rules.KeepOptions(
        keep_all, keep_last, keep_since, keep_within, keep_daily, keep_weekly, keep_monthly, keep_yearly,
        keep_first_daily, keep_first_weekly, keep_first_monthly, keep_first_yearly,
    )  # fmt: skip
    given = options.policy()
    limits = pruning.limits_of(prune=prune, max_unused=max_unused, max_repack=max_repack_size)
    from client.retention.run import RetentionOrder, run_retention
    from client.retention.zones import local_zone

    zone, _ = local_zone(os.environ)
    order = RetentionOrder(datetime.now(UTC), zone, given, item, dry_run=dry_run, prune=limits)
    with Invocation.of(context).device() as device:
        view = _View(device.id, dry_run=dry_run, as_json=as_json)
        result = run_retention(device, vault, order, view, lambda plan: _agree(plan, prune=prune, yes=yes))
    if result.untold is not None:
        note(f"backup-tool: the job will be reported later: {result.untold}")
    with telling(f"{plural(len(result.removed), 'snapshot')} removed"):
        if as_json:
            emit(_describe(result))
        else:
            _show(result, vault, dry_run=dry_run)
    if result.damages:
        return DamagedVault.exit_code
    return WARNINGS_EXIT_CODE if result.warnings else 0


def _agree(plan: "Plan", *, prune: bool, yes: bool) -> None:
    going = [plural(len(plan.removed), "snapshot")] if plan.removed else []
    going += ["what no snapshot needs"] if prune else []
    if going:
        agree(f"Remove {' and '.join(going)}?", yes=yes)


class _View:
    """Tells the plan: with --dry-run also what stays, and why, and that is the result then.

    Else it goes to standard error, where whoever is asked reads it, as those of other commands do.
    """

    def __init__(self, own: str, *, dry_run: bool, as_json: bool) -> None:
        self._own = own
        self._dry_run = dry_run
        self._tell = say if dry_run else note
        self._as_json = as_json
        self._unread = UnreadParts()
        self.pruning = Progress(as_json=as_json)

    def unread(self, name: "ObjectName", error: "DamagedVault | ObjectMissing") -> None:
        self._unread.object(name, error)

    def in_use(self, snapshot: "Snapshot", error: "SnapshotInUse") -> None:
        note(f"backup-tool: snapshot {snapshot.short_id} stays: {error.why}")

    def planned(self, plan: "Plan") -> None:
        for one in plan.items:
            if self._as_json:
                emit(_describe_item(one, self._own))
            elif self._dry_run or one.removed or one.verdict.keeps_none:
                self._show(one)

    def _show(self, one: "ItemPlan") -> None:
        from client.vault.snapshots import paths_text

        newest = one.snapshots[-1]
        device = "this device" if one.device == self._own else f"device {printable(one.device[-12:]) or '-'}"
        called = printable(f"{newest.hostname or '-'}:{paths_text(newest.paths)}")
        self._tell(f"{called} ({device}, item {printable(one.item or '-')})")
        self._tell(printable(f"  rules: {one.policy}"))
        if one.verdict.keeps_none:
            note(f"backup-tool: {called}: the rules would remove every snapshot of this item: none is removed")
        rows = [(snapshot, "remove", "no rule keeps it") for snapshot in one.removed]
        if self._dry_run:
            rows += [(snapshot, "keep", "; ".join(reasons)) for snapshot, reasons in one.kept]
        if not rows:
            return
        places = {snapshot.id: place for place, snapshot in enumerate(one.snapshots)}
        rows.sort(key=lambda row: places[row[0].id], reverse=True)
        lines = table_lines(
            ("  ", "ID", "TIME (UTC)", "WHY"),
            ((f"  {word}", snapshot.short_id, time_text(snapshot.time_ns), why) for snapshot, word, why in rows),
        )
        for line in lines:
            self._tell(line)


def _describe_item(one: "ItemPlan", own: str) -> dict[str, Any]:
    from client.vault.times import format_time

    def described(snapshot: "Snapshot") -> dict[str, Any]:
        return {"id": snapshot.id, "time": format_time(snapshot.time_ns)}

    newest = one.snapshots[-1]
    return {
        "type": "item",
        "item": one.item or None,
        "device": one.device or None,
        "this_device": one.device == own,
        "hostname": newest.hostname,
        "paths": list(newest.paths),
        "policy": one.policy.to_document(),
        "keep": [{**described(snapshot), "reasons": list(reasons)} for snapshot, reasons in one.kept],
        "remove": [described(snapshot) for snapshot in one.removed],
        "spared": one.verdict.keeps_none,
    }


def _describe(result: "RetentionResult") -> dict[str, Any]:
    return {
        "type": "summary",
        "planned": len(result.plan.removed),
        "removed": [snapshot.id for snapshot in result.removed],
        "in_use": [snapshot.id for snapshot in result.in_use],
        "kept": sum(len(one.kept) for one in result.plan.items),
        "spared_items": len(result.plan.spared),
        "unread": result.unread,
        "prune": pruning.describe_prune(result.pruned) if result.pruned else None,
        "job": result.job or None,
    }


def _show(result: "RetentionResult", vault: str, *, dry_run: bool) -> None:
    total = plural(sum(len(one.snapshots) for one in result.plan.items), "snapshot")
    if all(one.policy.keeps_everything for one in result.plan.items):
        say(f"There are no rules for what is in {vault}: everything is kept, {total}.")
    elif dry_run:
        say(f"{len(result.plan.removed):,} of {total} would be removed. Nothing was done.")
    else:
        say(f"{len(result.removed):,} of {total} removed.")
    if result.pruned is not None:
        pruning.show_prune(result.pruned)
