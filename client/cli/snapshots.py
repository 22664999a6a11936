"""backup-tool snapshots"""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import click

from client.cli.console import emit_array, note, plural, printable, say, table, time_text
from client.cli.invocation import AllDevices, Invocation, Json, VaultName
from client.cli.parameters import Option
from client.cli.unread import UnreadParts
from client.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from client.vault.snapshots import Snapshot

GroupBy = Annotated[str, Option("--group-by", help="By host, paths, tags, item, device; several with commas.")]
Latest = Annotated[int | None, Option("--latest", help="Only the newest so many, of each group.", min=1)]
Tags = Annotated[list[str], Option("--tag", help="Only with this tag; with all of several between commas.")]
Hosts = Annotated[list[str], Option("--host", help="Only of this host.")]
Paths = Annotated[list[str], Option("--path", help="Only those that were asked to back up this path.")]

_RARE = frozenset(("TAGS", "NOTE"))
_KEYS: "dict[str, Callable[[Snapshot], str | list[str] | None]]" = {
    "host": lambda snapshot: snapshot.hostname,
    "paths": lambda snapshot: sorted(snapshot.paths),
    "tags": lambda snapshot: sorted(snapshot.user_tags),
    "item": lambda snapshot: snapshot.item or None,
    "device": lambda snapshot: snapshot.device or None,
}


def snapshots(
    context: click.Context,
    vault: VaultName,
    *,
    all_devices: AllDevices = False,
    group_by: GroupBy = "",
    latest: Latest = None,
    tag: Tags = [],  # noqa: B006 - nobody changes it
    host: Hosts = [],  # noqa: B006
    path: Paths = [],  # noqa: B006
    as_json: Json = False,
) -> int:
    """List the snapshots in a vault, newest first: this device's, and those of which no device is known.

    With --json those of all devices are listed, and `this_device` tells. Exit code 3: not all of them can be read.
    """
    from client.account.looking import looking_into
    from client.vault.snapshots import newest_first

    keys = _keys(group_by)
    unread = UnreadParts()
    with Invocation.of(context).device() as device, looking_into(device, vault, unread.object) as look:
        found = newest_first(look.snapshots()) if look else []
        own = device.id
    found = [one for one in found if is_wanted(one, tag, host, path)]
    found.sort(key=lambda snapshot: snapshot.device != own)  # stable: newest first within each half
    shown = [one for one in found if all_devices or as_json or one.is_seen_by(own)]
    groups = _grouped(shown, keys, latest)
    if as_json:
        emit_array(_json_of(groups, own, is_grouped=bool(keys)))
        return unread.exit_code
    if not shown:
        like_that = "like that " if tag or host or path else ""
        say(f"{'This device has' if found else 'There is'} no snapshot {like_that}in {vault} yet.")
    for group in groups:
        if keys:
            say(_heading(group.key))
        _show(group.members, own)
    if len(shown) < len(found):
        hidden = plural(len(found) - len(shown), "snapshot")
        note(f"backup-tool: {hidden} of other devices not shown: --all-devices shows all.")
    return unread.exit_code


def describe(snapshot: "Snapshot", own: str) -> dict[str, Any]:
    """A snapshot as --json has it; `own` is the id of this device."""
    from client.vault.times import format_time

    return {
        "id": snapshot.id,
        "short_id": snapshot.short_id,
        "time": format_time(snapshot.time_ns),
        "hostname": snapshot.hostname,
        "username": snapshot.username,
        "paths": list(snapshot.paths),
        "tags": list(snapshot.user_tags),
        "note": snapshot.note or None,
        "item": snapshot.item or None,
        "device": snapshot.device or None,
        "this_device": snapshot.device == own,
        "parent": snapshot.parent,
        "original": snapshot.original,
        "tree": snapshot.tree.hex(),
    }


def _keys(group_by: str) -> list[str]:
    keys = [key for key in group_by.split(",") if key]
    unknown = [key for key in keys if key not in _KEYS]
    if unknown:
        raise UsageError(detail=f"--group-by takes {', '.join(_KEYS)}, not {unknown[0]!r}")
    return keys


def is_wanted(snapshot: "Snapshot", tags: "Sequence[str]", hosts: "Sequence[str]", paths: "Sequence[str]") -> bool:
    """Whether it is like one of each kind that was asked for; a tag that is empty means: without any."""
    own = set(snapshot.user_tags)
    return (
        (not tags or any(own.issuperset(tag.split(",")) if tag else not own for tag in tags))
        and (not hosts or snapshot.hostname in hosts)
        and (not paths or any(os.path.abspath(path) in snapshot.paths for path in paths))  # noqa: PTH100 - as `backup`
    )


@dataclass(frozen=True, slots=True)
class _Group:
    """Snapshots that agree in what was asked for."""

    key: "dict[str, str | list[str] | None]"
    members: "list[Snapshot]"


def _grouped(shown: "Iterable[Snapshot]", keys: "Sequence[str]", latest: int | None) -> list[_Group]:
    """Groups in the order of their first members, each cut to its newest `latest`; without keys there is one."""
    from client.vault.snapshots import newest_first

    groups: dict[str, _Group] = {}
    for one in shown:
        key = {name: _KEYS[name](one) for name in keys}
        groups.setdefault(repr(key), _Group(key, [])).members.append(one)
    if latest is not None:
        for group in groups.values():
            newest = {one.id for one in newest_first(group.members)[:latest]}
            group.members[:] = [one for one in group.members if one.id in newest]
    return list(groups.values())


def _json_of(groups: "Sequence[_Group]", own: str, *, is_grouped: bool) -> "Iterator[dict[str, Any]]":
    for group in groups:
        described = [describe(one, own) for one in group.members]
        if is_grouped:
            yield {"group": group.key, "snapshots": described}
        else:
            yield from described


def _heading(key: "dict[str, str | list[str] | None]") -> str:
    from client.vault.snapshots import paths_text

    words = {name: paths_text(value) if isinstance(value, list) else value for name, value in key.items()}
    parts = [f"{name} {word or '-'}" for name, word in words.items()]
    return printable(f"{'; '.join(parts)}:")


def _show(found: "Sequence[Snapshot]", own: str) -> None:
    from client.vault.snapshots import paths_text

    columns: list[tuple[str, Callable[[Snapshot], str]]] = [
        ("ID", lambda one: one.short_id),
        ("TIME (UTC)", lambda one: time_text(one.time_ns)),
        ("DEVICE", lambda one: "this device" if one.device == own else one.device[-12:] or "-"),
        ("HOST", lambda one: one.hostname),
        ("TAGS", lambda one: ", ".join(one.user_tags)),
        ("PATHS", lambda one: paths_text(one.paths)),
        ("NOTE", lambda one: one.note),
    ]
    rows = [[cell(one) for _, cell in columns] for one in found]
    # Most people have neither tags nor notes.
    kept = [place for place, (head, _) in enumerate(columns) if head not in _RARE or any(row[place] for row in rows)]
    table([columns[place][0] for place in kept], ([row[place] for place in kept] for row in rows))
