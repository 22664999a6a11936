"""backup-tool tag"""

from typing import TYPE_CHECKING, Annotated, Any

import click

from client.cli.console import emit, printable, say, telling
from client.cli.invocation import AllDevices, Invocation, Json, VaultName
from client.cli.parameters import Argument, Option
from client.cli.snapshots import describe
from client.errors import UsageError

if TYPE_CHECKING:
    from client.account.tagging import Changed

Snapshots = Annotated[
    list[str],
    Argument(help="`latest`, an id, or the beginning of one.", metavar="SNAPSHOT..."),
]
Add = Annotated[list[str], Option("--add", help="A tag to give. May be repeated.")]
Remove = Annotated[list[str], Option("--remove", help="A tag to take away. May be repeated.")]
Set = Annotated[list[str], Option("--set", help="The only tag to have. May be repeated; '' for none at all.")]


def tag(  # noqa: PLR0917 - they are given by name
    context: click.Context,
    snapshots: Snapshots,
    vault: VaultName,
    add: Add = [],  # noqa: B006 - nobody changes it
    remove: Remove = [],  # noqa: B006
    only: Set = [],  # noqa: B006
    all_devices: AllDevices = False,
    as_json: Json = False,
) -> None:
    """Change the tags of snapshots. A snapshot that is changed has another id."""
    from client.account.tagging import change_snapshots, retagging

    if bool(only) == bool(add or remove):
        raise UsageError(detail="Say what to do with the tags: --add and --remove, or --set alone.")
    retag = retagging(add, remove, [name for name in only if name] if only else None)
    with Invocation.of(context).device() as device:
        for changed in change_snapshots(device, vault, snapshots, retag, all_devices=all_devices):
            tell_changed(changed, device.id, as_json=as_json)


def tell_changed(changed: "Changed", own: str, *, as_json: bool) -> None:
    """What became of one snapshot."""
    with telling(f"snapshot {changed.old.short_id} is now {changed.new.short_id}"):
        if as_json:
            emit(describe_changed(changed, own))
        else:
            _show(changed)


def _show(changed: "Changed") -> None:
    new = changed.new
    said = [f"tags {', '.join(new.user_tags)}" if new.user_tags else "no tags"]
    if new.note:
        said.append(f"note: {new.note}")
    became = f"is now {new.short_id}" if new.id != changed.old.id else "is as it was"
    say(printable(f"Snapshot {changed.old.short_id} {became}: {'; '.join(said)}"))


def describe_changed(changed: "Changed", own: str) -> dict[str, Any]:
    """`old` is the id that the snapshot had."""
    return {"type": "snapshot", "old": changed.old.id, **describe(changed.new, own)}
