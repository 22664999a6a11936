"""backup-tool repair"""

from typing import TYPE_CHECKING, Annotated

import click

from client.cli.agreement import agree
from client.cli.check import tell_touched
from client.cli.console import emit, note, plural, printable, say, telling
from client.cli.invocation import Invocation, Json, VaultName
from client.cli.parameters import Option
from client.cli.progress import Progress
from client.cli.rebuild_index import Findings, describe_rewritten, rewritten_text
from client.errors import DamagedVault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from client.proof.repair import Plan, Repaired
    from client.vault.tree_check import Touched
    from domain.names import ObjectName

Forget = Annotated[bool, Option("--forget", help="Remove the damaged originals when they are repaired.")]
DryRun = Annotated[bool, Option("--dry-run", help="Say what is wrong and what would be done, and do nothing.")]
Yes = Annotated[bool, Option("--yes", help="Do it without asking.")]


def repair(  # noqa: PLR0917 - they are given by name
    context: click.Context,
    vault: VaultName,
    forget: Forget = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> int:
    """Put a damaged vault right: snapshots that have lost files get another beside them, without those.

    Exit code 8: something is lost for good, or would be left as it is.
    """
    from client.account.mending import mending
    from client.proof.repair import Repair

    findings = Findings(as_json=as_json)
    touched = _TouchedPaths(as_json=as_json)
    with (
        Invocation.of(context).device() as device,
        mending(device, vault) as opened,
        Repair(
            opened.vault,
            tell=findings,
            touched=touched,
            progress=Progress(as_json=as_json),
            ensure_locked=opened.ensure_locked,
        ) as repairing,
    ):
        plan = repairing.look()
        _tell_plan(plan, forget=forget)
        done = None
        if not dry_run and (plan or (forget and (plan.hopeless or plan.unreadable))):
            agree("Do this?", yes=yes)
            done = repairing.carry_out(forgets=forget)
    with telling(f"{vault} was repaired" if done else "nothing was done"):
        if as_json:
            emit({"type": "summary", "dry_run": dry_run, "lost_paths": touched.count, **_describe(plan, done)})
        else:
            _show(vault, plan, done)
    is_left = dry_run and plan
    return DamagedVault.exit_code if touched.count or plan.unreadable or is_left else 0


class _TouchedPaths:
    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self.count = 0

    def __call__(self, touched: "Touched") -> None:
        self.count += 1
        tell_touched(touched, as_json=self._as_json)


def _tell_plan(plan: "Plan", *, forget: bool) -> None:
    """What would be done, on standard error, where whoever is asked reads it."""
    if plan.makes_index:
        note("plan: save what opens of damaged packs, and make the index anew")
    for snapshot in plan.snapshots:
        then = "and then remove it" if forget else "and keep it"
        note(f"plan: make of snapshot {snapshot.short_id} another without the lost files, {then}")
    for name, why in _without_remains(plan):
        what = "remove it" if forget else "leave it as it is (--forget removes it)"
        note(f"plan: {name} {why}: {what}")


def _without_remains(plan: "Plan") -> "Sequence[tuple[ObjectName, str]]":
    hopeless = [(name, "has lost the list of its first folder, and with it all") for name in plan.hopeless]
    return [*hopeless, *((name, "cannot be read") for name in plan.unreadable)]


def _describe(plan: "Plan", done: "Repaired | None") -> dict[str, object]:
    return {
        "damaged_snapshots": [snapshot.id for snapshot in plan.snapshots],
        "hopeless_snapshots": [name.id for name in plan.hopeless],
        "unreadable_snapshots": [name.id for name in plan.unreadable],
        "makes_index": plan.makes_index,
        "index": describe_rewritten(done.index) if done and done.index else None,
        "repaired": {old.id: new.id for new, old in (*done.snapshots, *done.before)} if done else {},
        "forgotten": [name.id for name in done.forgotten] if done else [],
        "in_use": [name.id for name in done.in_use] if done else [],
    }


def _show(vault: str, plan: "Plan", done: "Repaired | None") -> None:
    if done is None:
        nothing = plan or plan.hopeless or plan.unreadable
        say("Nothing was done." if nothing else f"{vault} has lost nothing: there is nothing to repair.")
        return
    if done.index is not None:
        say(f"The index is made anew: {rewritten_text(done.index)}.")
    for new, old in done.snapshots:
        say(printable(f"Snapshot {new.short_id} is what is left of {old.id[:8]}, and has its tags and `repaired`."))
    for new, old in done.before:
        say(f"Snapshot {new.short_id} was made of {old.id[:8]} before.")
    if done.forgotten:
        say(f"{plural(len(done.forgotten), 'damaged snapshot')} removed.")
    for name in done.in_use:
        note(f"backup-tool: snapshot {name.id[:8]} stays, in use by a backup or held by the storage: repeat this later")
    if done.snapshots:
        say("The next backup stores again what it finds of the lost files on this device.")
