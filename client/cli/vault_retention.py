"""backup-tool vault retention"""

import os
from typing import TYPE_CHECKING, Annotated, Any

import click

from client.cli import retention_rules as rules
from client.cli.console import emit, note, printable, say, telling
from client.cli.invocation import Invocation, Json
from client.cli.parameters import Argument, Option
from client.errors import UsageError

if TYPE_CHECKING:
    from oort.auth.v1.profiles_pb2 import Vault as VaultEntry

Name = Annotated[str, Argument(help="Name of the vault.")]
ItemId = Annotated[str, Option("--item", help="Of this item alone: its id, or the beginning of one.")]
Clear = Annotated[bool, Option("--clear", help="Take the rules away: an item goes by the vault's again.")]


def vault_retention(
    context: click.Context,
    *,
    name: Name,
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
    clear: Clear = False,
    as_json: Json = False,
) -> None:
    """Show the retention rules that are stored for a vault, or store others in their place.

    All devices of the account go by them: `retention` does, and so does what follows a backup. Nothing is removed now.
    """
    from client.account.vaults import Vaults
    from client.retention.stored import store_policy
    from client.retention.zones import local_zone

    options = rules.KeepOptions(
        keep_all, keep_last, keep_since, keep_within, keep_daily, keep_weekly, keep_monthly, keep_yearly,
        keep_first_daily, keep_first_weekly, keep_first_monthly, keep_first_yearly,
    )  # fmt: skip
    policy = options.policy(local_zone(os.environ)[1])
    if clear and policy is not None:
        raise UsageError(detail="--clear takes the rules away: give it without others")
    if item and not clear and policy is None:
        raise UsageError(detail="say what is to be kept of the item, or --clear")
    is_change = clear or policy is not None
    with Invocation.of(context).device() as device:
        vaults = Vaults(device)
        entry = vaults.named(name)
        if is_change:
            store_policy(device, entry.id, item, policy)
            entry = vaults.named(name)
    if vaults.unreachable is not None:
        note(f"backup-tool: these are the rules as last seen: {vaults.unreachable}")
    with telling("the rules were stored"):
        if as_json:
            emit(_describe(entry))
        else:
            _show(entry)


def _describe(entry: "VaultEntry") -> dict[str, Any]:
    from client.retention.stored import last_pass, stored_rules

    found = stored_rules(entry)
    last = last_pass(entry)
    return {
        "vault": entry.name,
        "policy": found.default.to_document(),
        "items": [{"item": item, "policy": policy.to_document()} for item, policy in found.items.items()],
        "last_pass": last.isoformat() if last else None,
    }


def _show(entry: "VaultEntry") -> None:
    from client.retention.stored import last_pass, stored_rules

    found = stored_rules(entry)
    say(printable(f"{entry.name}: {found.default}"))
    for item, policy in found.items.items():
        say(printable(f"item {item}: {policy}"))
    last = last_pass(entry)
    say(f"Last pass: {last:%Y-%m-%d %H:%M:%S} UTC" if last else "There was no pass yet.")
