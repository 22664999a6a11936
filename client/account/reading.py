"""A snapshot opened for reading as the account sees it: vault, session, lock.

Kept true: a session that a node has ended, because this machine slept, is followed by a new one, which must see the
same snapshot. What else of the vault cannot be read is collected, and stops nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from client.account.device import Device
from client.account.opening import Place, place_of
from client.errors import DamagedVault, NoSuchSnapshot, ObjectMissing, StoreError
from client.platforms.linux import Identity, identities
from client.stores.resuming import ResumingSession
from client.vault.locks import VaultLock, VaultLocked
from client.vault.repository import Vault
from client.vault.snapshots import Snapshot
from domain.names import ObjectKind, ObjectName

Unreadable = dict[ObjectName, DamagedVault | ObjectMissing]


@dataclass(frozen=True, slots=True)
class Reading:
    """A snapshot and its vault. `unreadable` are the vault's other snapshots that cannot be read, and index files."""

    place: Place
    vault: Vault
    snapshot: Snapshot
    unreadable: Unreadable

    def protected(self) -> frozenset[Identity]:
        """What no restore may remove: the vault, and this device's home with its keys."""
        return identities((*self.place.own_folders(), self.place.device.home.folder))


@contextmanager
def reading(
    device: Device,
    vault_name: str,
    wanted: str,
    *,
    all_devices: bool,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Reading]:
    """Open the vault and find the snapshot that `wanted` names; `latest` is of this device unless `all_devices`.

    `progress` is told index files read and to read.
    Raises OortError.
    """
    unreadable: Unreadable = {}
    with found_in(device, vault_name, wanted, unreadable, all_devices=all_devices) as found, ExitStack() as locks:
        place, session, vault, snapshot = found
        session.stay_with(ObjectName(ObjectKind.SNAPSHOT, snapshot.id))
        lock_to_read(locks, place, vault)
        unreadable.update(vault.load_index(progress).damaged)
        yield Reading(place, vault, snapshot, unreadable)


class Found(NamedTuple):
    """A snapshot, in a vault whose index is not read yet."""

    place: Place
    session: ResumingSession
    vault: Vault
    snapshot: Snapshot


@contextmanager
def found_in(
    device: Device,
    vault_name: str,
    wanted: str,
    unreadable: Unreadable,
    *,
    all_devices: bool,
    heard: Callable[[], None] = lambda: None,
) -> Iterator[Found]:
    """The snapshot that `wanted` names; `heard` is called whenever the store has answered. Raises OortError."""
    with place_of(device, vault_name) as place, ResumingSession(place.store, heard) as session:
        vault = place.open(session)
        if vault is None:
            raise NoSuchSnapshot(snapshot=wanted)
        with vault:
            snapshot = vault.find_snapshot(wanted, unreadable.__setitem__, device=None if all_devices else device.id)
            yield Found(place, session, vault, snapshot)


def lock_to_read(locks: ExitStack, place: Place, vault: Vault) -> VaultLock | None:
    """Hold restic's lock where the store needs one. A disk that cannot be written needs none."""
    try:
        return locks.enter_context(place.locked(vault))
    except VaultLocked:
        raise
    except StoreError:
        return None
