"""backup-tool note"""

from typing import Annotated

import click

from client.cli.invocation import AllDevices, Invocation, Json, SnapshotName, VaultName
from client.cli.parameters import Argument
from client.cli.tag import tell_changed

Text = Annotated[str, Argument(help="What to note; '' takes the note away.")]


def note(  # noqa: PLR0917 - they are given by name
    context: click.Context,
    snapshot: SnapshotName,
    text: Text,
    vault: VaultName,
    all_devices: AllDevices = False,
    as_json: Json = False,
) -> None:
    """Write a note on a snapshot, in place of the one that it has. The snapshot then has another id."""
    from client.account.tagging import change_snapshots, noting

    with Invocation.of(context).device() as device:
        for changed in change_snapshots(device, vault, [snapshot], noting(text), all_devices=all_devices):
            tell_changed(changed, device.id, as_json=as_json)
