"""Retention policies that lie in the profile, where all devices of the account find them.

Kept true: what is stored is read as strictly as what is typed, so a policy of a later version removes nothing.
"""

from datetime import UTC, datetime

from oort.auth.v1 import profiles_pb2
from oort.auth.v1.profiles_pb2 import Vault as VaultEntry

from client.account.device import Device
from client.errors import BadRetention
from client.retention.plan import Rules, chosen_item
from domain.retention_policy import KEEP_EVERYTHING, BadPolicy, Policy, parse_policy


def stored_rules(entry: VaultEntry) -> Rules:
    """The policies of a vault in the profile. Raises BadRetention."""
    default = _policy(entry.retention, f"of the vault {entry.name}") if entry.HasField("retention") else KEEP_EVERYTHING
    items = {one.item_id: _policy(one.policy, f"of the item {one.item_id}") for one in entry.item_retention}
    return Rules(default, items)


def last_pass(entry: VaultEntry) -> datetime | None:
    """When the last pass over the whole vault ended that freed space too, as far as auth knows."""
    return entry.last_retention.ToDatetime(UTC) if entry.HasField("last_retention") else None


def store_policy(device: Device, vault_id: str, item: str, policy: Policy | None) -> str:
    """Store the policy of a vault, or of the item whose id begins with `item`; None takes it away.

    Answers the item's whole id. Raises NoSuchItem, AmbiguousItem, OortError.
    """
    item_id = chosen_item(_items(device), item) if item else ""
    message = None
    if policy is not None:
        document = policy.to_document()
        ranges = [profiles_pb2.RetentionRange(**one) for one in document["ranges"]]
        message = profiles_pb2.RetentionPolicy(mode=document["mode"], ranges=ranges, time_zone=document["time_zone"])
    request = profiles_pb2.SetRetentionRequest(vault_id=vault_id, item_id=item_id, policy=message)
    device.connection.call(device.profiles.SetRetention, request)
    return item_id


def _policy(message: profiles_pb2.RetentionPolicy, whose: str) -> Policy:
    ranges = [{field.name: value for field, value in one.ListFields()} for one in message.ranges]
    try:
        return parse_policy({"mode": message.mode, "ranges": ranges, "time_zone": message.time_zone})
    except BadPolicy as error:
        raise BadRetention(detail=f"{whose}: {error}") from None


def _items(device: Device) -> list[str]:
    """The ids of the items of all the account's devices."""
    found: list[str] = []
    token = ""
    while True:
        request = profiles_pb2.ListItemsRequest(page_size=500, page_token=token, all_devices=True)
        page = device.connection.call(device.profiles.ListItems, request)
        found.extend(item.id for item in page.items)
        token = page.next_page_token
        if not token:
            return found
