"""Protected items of this device: which paths are backed up together, sealed under K.

Kept true: the same paths on the same device are the same item, so that their snapshots follow one another; a file of
that name and a stream that is called so are different items. An item names its paths, or, where a list has more than
auth takes, their number and what tells them from others.
"""

import json
from collections.abc import Sequence
from hashlib import sha256

from google.protobuf.message import DecodeError
from oort.auth.v1 import profiles_pb2

from client.account.connection import OUT_OF_REACH
from client.account.device import Device
from client.account.seals import SealPurpose
from client.account.vaults import keep_if_possible, new_id
from client.errors import BrokenSeal

FILE_ENGINE = "engine1/file"
STREAM_ENGINE = "engine1/stdout"
_CACHE = "items.cache"
_LONGEST = 200 << 10  # bytes of a selection; auth takes 256 KiB, sealed


class Items:
    """The items of the device. From the home, and entered later, when auth cannot be reached."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def of_paths(self, paths: Sequence[str], engine: str = FILE_ENGINE) -> str:
        """The id of the engine's item with exactly these paths; made if there is none. Raises OortError."""
        wanted = sorted(set(paths))
        try:
            items = self._enter_kept(self._fetch())
        except OUT_OF_REACH:
            items = self._cached()
            found = self._find(items, wanted, engine)
            if found is None:
                found = self._new(wanted, engine)
                self._keep([*items, found])
            return found.id
        found = self._find(items, wanted, engine)
        if found is None:
            found = self._put(self._new(wanted, engine))
            items.append(found)
        self._keep(items)
        return found.id

    def _find(self, items: Sequence[profiles_pb2.Item], wanted: list[str], engine: str) -> profiles_pb2.Item | None:
        sought = (wanted, _digest(wanted))
        return next((item for item in items if item.engine == engine and self._paths(item) in sought), None)

    def _paths(self, item: profiles_pb2.Item) -> list[str] | str | None:
        """The paths of an item, sorted, or their digest."""
        try:
            selection = json.loads(self._device.sealer.open(SealPurpose.ITEM, item.sealed, item.id))
            if "paths_sha256" in selection:
                return str(selection["paths_sha256"])
            paths = selection["paths"]
        except (BrokenSeal, ValueError, KeyError, TypeError):
            return None  # another version's, or damaged: never this one
        return sorted(paths) if isinstance(paths, list) else None

    def _new(self, paths: list[str], engine: str) -> profiles_pb2.Item:
        item_id = new_id()
        described = {"description": ", ".join(paths)[:200]}
        selection = json.dumps({**described, "paths": paths}).encode()
        if len(selection) > _LONGEST:
            selection = json.dumps({**described, "count": len(paths), "paths_sha256": _digest(paths)}).encode()
        sealed = self._device.sealer.seal(SealPurpose.ITEM, selection, item_id)
        return profiles_pb2.Item(id=item_id, engine=engine, sealed=sealed)

    def _put(self, item: profiles_pb2.Item) -> profiles_pb2.Item:
        request = profiles_pb2.PutItemRequest(item=item)
        return self._device.connection.call(self._device.profiles.PutItem, request).item

    def _enter_kept(self, known: list[profiles_pb2.Item]) -> list[profiles_pb2.Item]:
        """Enter the items that were made while auth could not be reached (version 0)."""
        ids = {item.id for item in known}
        return [*known, *(self._put(item) for item in self._cached() if item.version == 0 and item.id not in ids)]

    def _fetch(self) -> list[profiles_pb2.Item]:
        pages = self._device.connection.pages(self._device.profiles.ListItems, profiles_pb2.ListItemsRequest())
        return [item for page in pages for item in page.items]

    def _cached(self) -> list[profiles_pb2.Item]:
        try:
            return list(profiles_pb2.ListItemsResponse.FromString(self._device.home.read(_CACHE) or b"").items)
        except DecodeError:
            return []

    def _keep(self, items: Sequence[profiles_pb2.Item]) -> None:
        body = profiles_pb2.ListItemsResponse(items=items).SerializeToString(deterministic=True)
        if self._device.home.read(_CACHE) != body:
            keep_if_possible(self._device, _CACHE, body)


def _digest(paths: Sequence[str]) -> str:
    """64 hex digits, the same for the same sorted paths."""
    return sha256(json.dumps(paths).encode()).hexdigest()
