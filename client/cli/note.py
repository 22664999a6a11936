"""backup-tool note"""

from typing import Annotated

import typer

from client.cli.invocation import AllDevices, Invocation, Json, SnapshotName, VaultName
from client.cli.tag import tell_changed

Text = Annotated[str, typer.Argument(help="What to note; '' takes the note away.", show_default=False)]


def note(  # noqa: PLR0917 - typer reads them by name
    context: typer.Context,
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
