"""backup-tool stats"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import click

from client.cli.console import emit, note, plural, say, size_text, table, time_text
from client.cli.invocation import AllDevices, Invocation, Json, VaultName
from client.cli.parameters import Argument
from client.cli.unread import UnreadParts
from client.errors import NoSuchSnapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from client.looking.stats import Added, Stats

Chosen = Annotated[
    str | None,
    Argument(help="Only this: `latest`, an id, or the beginning of one.", metavar="[SNAPSHOT]"),
]


def stats(
    context: click.Context,
    vault: VaultName,
    snapshot: Chosen = None,
    all_devices: AllDevices = False,
    as_json: Json = False,
) -> int:
    """Tell how much the snapshots hold, what each added, and what that takes in the vault.

    Exit codes: 3, a snapshot or index file cannot be read; 8, nor can a folder: the figures lack what is in it.
    """
    from client.account.looking import looking_into
    from client.cli.views import index_lines
    from client.looking.stats import measure, stored_size

    unread = UnreadParts()
    with Invocation.of(context).device() as device, looking_into(device, vault, unread.object) as look:
        if look is None:
            if snapshot is not None:
                raise NoSuchSnapshot(snapshot=snapshot)
            _show_empty(vault, as_json=as_json)
            return 0
        chosen = look.snapshots() if snapshot is None else look.named(snapshot, all_devices=all_devices)
        look.read_index(index_lines(as_json=as_json))
        measured = measure(look.vault, chosen, unread.folder)
        stored = stored_size(look.vault) if snapshot is None else None
        own = device.id
    if as_json:
        emit(_describe(measured, stored, own))
    elif snapshot is None:
        _show(measured, stored or 0, own, all_devices=all_devices)
    else:
        _show_one(measured)
    return unread.exit_code


@dataclass(slots=True)
class _Item:
    """The snapshots of one protected item; of what is none, those of one host and one set of paths."""

    newest: "Added"
    snapshots: int = 0
    added_bytes: int = 0
    added_stored_bytes: int = 0


def _items(snapshots: "Iterable[Added]") -> list[_Item]:
    """By item, from oldest to newest first snapshot."""
    items: dict[object, _Item] = {}
    for one in snapshots:
        of = one.snapshot
        item = items.setdefault(of.item or (of.hostname, of.paths), _Item(one))
        item.newest = one
        item.snapshots += 1
        item.added_bytes += one.added_bytes
        item.added_stored_bytes += one.added_stored_bytes
    return list(items.values())


def _describe(measured: "Stats", stored: int | None, own: str) -> dict[str, Any]:
    """`stored` are the bytes of all objects of the vault; None where one snapshot is asked for."""
    ratio = measured.compression_ratio
    return {
        "snapshots": len(measured.snapshots),
        "total_bytes": measured.total_bytes,
        "unique_bytes": measured.unique_bytes,
        "stored_bytes": measured.stored_bytes,
        "compression_ratio": None if ratio is None else round(ratio, 3),
        "vault_bytes": stored,
        "by_item": [
            {
                "item": item.newest.snapshot.item or None,
                "device": item.newest.snapshot.device or None,
                "hostname": item.newest.snapshot.hostname,
                "paths": list(item.newest.snapshot.paths),
                "snapshots": item.snapshots,
                "newest_bytes": item.newest.total_bytes,
                "added_bytes": item.added_bytes,
                "added_stored_bytes": item.added_stored_bytes,
            }
            for item in _items(measured.snapshots)
        ],
        "by_snapshot": [_describe_one(one, own) for one in measured.snapshots],
    }


def _describe_one(one: "Added", own: str) -> dict[str, Any]:
    from client.vault.times import format_time

    return {
        "id": one.snapshot.id,
        "short_id": one.snapshot.short_id,
        "time": format_time(one.snapshot.time_ns),
        "item": one.snapshot.item or None,
        "device": one.snapshot.device or None,
        "this_device": one.snapshot.device == own,
        "files": one.files,
        "total_bytes": one.total_bytes,
        "added_bytes": one.added_bytes,
        "added_stored_bytes": one.added_stored_bytes,
    }


def _show_empty(vault: str, *, as_json: bool) -> None:
    from client.looking.stats import Stats

    if as_json:
        emit(_describe(Stats((), 0, 0), 0, ""))
    else:
        say(f"There is no snapshot in {vault} yet.")


def _show(measured: "Stats", stored: int, own: str, *, all_devices: bool) -> None:
    from client.vault.snapshots import paths_text

    shown = [one for one in measured.snapshots if all_devices or one.snapshot.is_seen_by(own)]
    _show_snapshots(shown[::-1])
    say("")
    table(
        ("SNAPSHOTS", "NEWEST", "ADDED", "STORED", "HOST", "PATHS"),
        (
            (
                f"{item.snapshots:,}",
                size_text(item.newest.total_bytes),
                size_text(item.added_bytes),
                size_text(item.added_stored_bytes),
                item.newest.snapshot.hostname,
                paths_text(item.newest.snapshot.paths),
            )
            for item in _items(shown)
        ),
    )
    say("")
    say(f"{plural(len(measured.snapshots), 'snapshot')}, restored one by one: {size_text(measured.total_bytes)}")
    _show_sizes(measured)
    rest = stored - measured.stored_bytes
    say(f"The whole vault: {size_text(stored)}; index, headers and what no snapshot needs: {size_text(rest)}")
    hidden = len(measured.snapshots) - len(shown)
    if hidden:
        note(f"backup-tool: {plural(hidden, 'snapshot')} of other devices counted but not shown: add --all-devices.")


def _show_one(measured: "Stats") -> None:
    _show_snapshots(measured.snapshots, alone=True)
    say("")
    _show_sizes(measured)


def _show_snapshots(shown: "Sequence[Added]", *, alone: bool = False) -> None:
    head = ("ID", "TIME (UTC)", "FILES", "SIZE", "ADDED", "STORED")
    rows = (
        (
            one.snapshot.short_id,
            time_text(one.snapshot.time_ns),
            f"{one.files:,}",
            size_text(one.total_bytes),
            size_text(one.added_bytes),
            size_text(one.added_stored_bytes),
        )
        for one in shown
    )
    table(head[:4] if alone else head, (row[:4] if alone else row for row in rows))


def _show_sizes(measured: "Stats") -> None:
    ratio = measured.compression_ratio
    said = "" if ratio is None else f", compressed {ratio:.2f} to 1"
    say(f"Each part once: {size_text(measured.unique_bytes)}; stored: {size_text(measured.stored_bytes)}{said}")
