"""backup-tool snapshots"""

from typing import TYPE_CHECKING, Any

import typer

from client.cli.backup import WARNINGS_EXIT_CODE
from client.cli.console import emit_array, note, say, table
from client.cli.invocation import Invocation, Json, VaultName
from client.errors import DamagedVault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from client.vault.snapshots import Snapshot
    from domain.names import ObjectName


def snapshots(context: typer.Context, vault: VaultName, as_json: Json = False) -> int:
    """List the snapshots in a vault: this device's first, then those of the others, newest first.

    Exit code 3: listed, but not all of them can be read.
    """
    from client.account.opening import place_of
    from client.stores.resuming import ResumingSession
    from client.vault.snapshots import newest_first

    damaged: list[DamagedVault] = []

    def is_damaged(_name: "ObjectName", error: DamagedVault) -> None:
        damaged.append(error)

    with Invocation.of(context).device() as device, place_of(device, vault) as place:
        with ResumingSession(place.store) as session:
            opened = place.open(session)
            found = newest_first(opened.snapshots(is_damaged)) if opened else []
            if opened:
                opened.close()
        own = device.id
    found.sort(key=lambda snapshot: snapshot.device != own)  # stable: newest first within each half
    if as_json:
        emit_array(describe(snapshot) for snapshot in found)
    elif not found:
        say(f"There is no snapshot in {vault} yet.")
    else:
        _show(found, own)
    for error in damaged:
        note(f"backup-tool: {error}")
    return WARNINGS_EXIT_CODE if damaged else 0


def describe(snapshot: "Snapshot") -> dict[str, Any]:
    """A snapshot as --json has it."""
    from client.vault.times import format_time

    return {
        "id": snapshot.id,
        "short_id": snapshot.short_id,
        "time": format_time(snapshot.time_ns),
        "hostname": snapshot.hostname,
        "username": snapshot.username,
        "paths": list(snapshot.paths),
        "tags": list(snapshot.tags),
        "item": snapshot.item or None,
        "device": snapshot.device or None,
        "parent": snapshot.parent,
        "tree": snapshot.tree.hex(),
    }


def _show(found: "Sequence[Snapshot]", own: str) -> None:
    table(
        ("ID", "TIME (UTC)", "DEVICE", "HOST", "PATHS"),
        (
            (
                snapshot.short_id,
                f"{snapshot.time:%Y-%m-%d %H:%M:%S}",
                "this device" if snapshot.device == own else snapshot.device[-12:] or "-",
                snapshot.hostname,
                ", ".join(snapshot.paths),
            )
            for snapshot in found
        ),
    )
