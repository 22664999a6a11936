"""backup-tool mount"""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from client.cli.console import emit, flush, note, path_fields, plural, printable, say
from client.cli.invocation import AllDevices, Invocation, Json, VaultName
from client.cli.parameters import Argument, Option
from client.cli.snapshots import Hosts, Paths, Tags, is_wanted
from client.cli.unread import UnreadParts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from client.vault.snapshots import Snapshot

Mountpoint = Annotated[Path, Argument(help="An empty folder.", metavar="MOUNTPOINT")]
Snapshots = Annotated[list[str], Option("--snapshot", help="Only this snapshot. May be repeated.")]
ItemId = Annotated[str, Option("--item", help="Only this item: its id, or the beginning of one.")]
AllowOther = Annotated[
    bool, Option("--allow-other", help="Also for other users, as far as modes and ACLs of the files let them.")
]


def mount(
    context: click.Context,
    mountpoint: Mountpoint,
    vault: VaultName,
    *,
    snapshot: Snapshots = [],  # noqa: B006 - nobody changes it
    item: ItemId = "",
    tag: Tags = [],  # noqa: B006
    host: Hosts = [],  # noqa: B006
    path: Paths = [],  # noqa: B006
    all_devices: AllDevices = False,
    allow_other: AllowOther = False,
    as_json: Json = False,
) -> int:
    """Show a vault's snapshots as files and folders, to read only, until Ctrl-C or `umount MOUNTPOINT`.

    It stays in the foreground. By ids, dates, devices, hosts, items and tags; new snapshots are seen within 30 seconds.
    Exit codes: 0, unmounted; 3, unmounted, but something could not be read: it is named, and gave an I/O error.
    """
    from client.account.mounting import mounting
    from client.cli.views import index_lines
    from client.errors import WARNINGS_EXIT_CODE
    from client.mount.mounting import ensure_can_mount, ensure_mountpoint
    from client.mount.run import MountRequest, absolute
    from client.mount.run import mount as serve
    from client.retention.plan import chosen_item

    ensure_can_mount()
    ensure_mountpoint(mountpoint)
    at = absolute(mountpoint)
    unread = UnreadParts()
    told = _Told(at, as_json=as_json)
    with (
        Invocation.of(context).device() as device,
        mounting(device, vault, unread.object, index_lines(as_json=as_json)) as opened,
    ):
        ensure_mountpoint(at, opened.own_folders)
        own = None if all_devices else device.id
        ids = {one.id for one in opened.vault.find_snapshots(snapshot, device=own)} if snapshot else None
        wanted = chosen_item((one.item for one in opened.vault.snapshots(lambda *_: None)), item) if item else ""

        def choice(found: "Sequence[Snapshot]") -> "Sequence[Snapshot]":
            seen = [one for one in found if ids is not None or own is None or one.is_seen_by(own)]
            seen = [one for one in seen if (ids is None or one.id in ids) and (not wanted or one.item == wanted)]
            return [one for one in seen if is_wanted(one, tag, host, path)]

        request = MountRequest(f"oort:{vault}", at, choice, opened.device_names, allow_other=allow_other)
        serve(opened.vault, request, unread=unread.object, failed=told.failed, started=told.started)
    return unread.exit_code or (WARNINGS_EXIT_CODE if told.failures else 0)


class _Told:
    """What a mount says while it lasts."""

    def __init__(self, mountpoint: Path, *, as_json: bool) -> None:
        self._mountpoint = mountpoint
        self._as_json = as_json
        self.failures = 0

    def started(self, shown: "Sequence[Snapshot]") -> None:
        if self._as_json:
            emit({"type": "mounted", **path_fields(os.fsencode(self._mountpoint)), "snapshots": len(shown)})
            return
        say(f"{plural(len(shown), 'snapshot')} at {printable(str(self._mountpoint))}, to read only.")
        say(f"Ctrl-C here, or `umount {printable(str(self._mountpoint))}`, ends it.")
        flush()

    def failed(self, path: bytes, reason: str) -> None:
        self.failures += 1
        if self._as_json:
            note(json.dumps({"type": "damaged", **path_fields(path), "reason": reason}))
        else:
            note(f"backup-tool: {printable(os.fsdecode(path))}: {printable(reason)}")
