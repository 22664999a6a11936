"""Packs read whole, and each of their blobs opened, to find out which are lost.

Kept true: a blob is called lost only when it does not open from any copy of its pack.
"""

from collections.abc import Iterable, Iterator

from client.errors import DamagedVault, ObjectMissing
from client.vault.blobs import BlobId, PackEntry
from client.vault.repository import Vault
from client.vault.sealing import open_blob
from domain.names import ObjectName


def lost_blobs(vault: Vault, pack: ObjectName, size: int, entries: Iterable[PackEntry]) -> list[BlobId]:
    """Those of a pack's blobs that do not open, though the pack is read whole. Raises StoreError."""
    return [entry.id for entry, body in opened_blobs(vault, pack, size, entries) if body is None]


def opened_blobs(
    vault: Vault, pack: ObjectName, size: int, entries: Iterable[PackEntry]
) -> Iterator[tuple[PackEntry, memoryview | None]]:
    """Each blob of a pack of `size` bytes as it lies there, sealed; None for one that does not open."""
    try:
        body = whole_or_not(vault, pack, size)
    except ObjectMissing:
        body = b""
    view = memoryview(body)
    for entry in entries:
        sealed = view[entry.offset : entry.offset + entry.length]
        try:
            open_blob(vault.keys, entry, sealed)
        except DamagedVault:
            yield entry, None
        else:
            yield entry, sealed


def whole_or_not(vault: Vault, pack: ObjectName, size: int) -> bytes:
    """The bytes of a pack: from a copy that is whole, else as they are. Raises ObjectMissing, StoreError.

    As they are, the last byte may be missing, which is of no blob: of what is read to its end a storage node sends
    nothing that has another SHA-256. Nothing is there where it sends no part of a pack of which no copy is whole.
    """
    try:
        return vault.session.get(pack)
    except DamagedVault:
        try:
            return vault.session.get(pack, 0, size - 1) if size > 1 else b""
        except DamagedVault:
            return b""


def is_whole(vault: Vault, pack: ObjectName, entries: Iterable[PackEntry]) -> bool:
    """Whether a pack is there as it was stored, and each of its blobs opens. Raises StoreError."""
    try:
        body = memoryview(vault.session.get(pack))
        for entry in entries:
            open_blob(vault.keys, entry, body[entry.offset : entry.offset + entry.length])
    except (DamagedVault, ObjectMissing):
        return False
    return True


def still_damaged(vault: Vault) -> frozenset[ObjectName]:
    """The packs of the index that this device found damaged or missing, and that are so still. Raises StoreError."""
    damaged: set[ObjectName] = set()
    healed: set[ObjectName] = set()
    for pack in vault.doubts.all():
        entries = vault.index.entries_of_pack(pack)
        if not entries:
            continue
        (healed if is_whole(vault, pack, entries) else damaged).add(pack)
    vault.doubts.settle(healed)
    return frozenset(damaged)
