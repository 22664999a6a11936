"""A snapshot opened for reading as the account sees it: vault, session, lock.

Kept true: a session that a node has ended, because this machine slept, is followed by a new one, which must see the
same snapshot. What else of the vault cannot be read is collected, and stops nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from client.account.device import Device
from client.account.opening import Place, place_of
from client.errors import DamagedVault, NoSuchSnapshot, NoSuchVault, ObjectMissing, OortError, StoreError
from client.platforms.linux import Identity, identities
from client.stores.resuming import ResumingSession
from client.vault.locks import VaultLock, VaultLocked, vault_lock
from client.vault.repository import Vault
from client.vault.snapshots import LATEST, Snapshot
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose

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
    with _found(device, vault_name, wanted, unreadable, all_devices=all_devices) as found, ExitStack() as locks:
        place, session, vault, snapshot = found
        session.stay_with(ObjectName(ObjectKind.SNAPSHOT, snapshot.id))
        lock_to_read(locks, place, vault)
        unreadable.update(vault.load_index(progress).damaged)
        yield Reading(place, vault, snapshot, unreadable)


def first_that_answers(
    device: Device, names: Sequence[str], wanted: str, told: Callable[[str, OortError], None], *, all_devices: bool
) -> str:
    """Of several vaults, the first that opens and has the snapshot; for `latest`, that which has the newest.

    `told` hears why others do not. The last is answered unseen where none before it does. Raises NoSuchVault.
    """
    wants_newest = wanted == LATEST and len(names) > 1
    newest: tuple[int, str] | None = None
    for name in names if wants_newest else names[:-1]:
        try:
            with _found(device, name, wanted, {}, all_devices=all_devices) as (_, _, _, snapshot):
                if not wants_newest:
                    return name
                if newest is None or snapshot.time_ns > newest[0]:
                    newest = snapshot.time_ns, name
        except NoSuchVault:
            raise
        except OortError as error:
            if newest is not None or name != names[-1]:
                told(name, error)
    return names[-1] if newest is None else newest[1]


@contextmanager
def _found(
    device: Device, vault_name: str, wanted: str, unreadable: Unreadable, *, all_devices: bool
) -> Iterator[tuple[Place, ResumingSession, Vault, Snapshot]]:
    """The snapshot, in a vault whose index is not read yet."""
    with place_of(device, vault_name) as place, ResumingSession(place.store) as session:
        vault = place.open(session)
        if vault is None:
            raise NoSuchSnapshot(snapshot=wanted)
        with vault:
            snapshot = vault.find_snapshot(wanted, unreadable.__setitem__, device=None if all_devices else device.id)
            yield place, session, vault, snapshot


def lock_to_read(locks: ExitStack, place: Place, vault: Vault) -> VaultLock | None:
    """Hold restic's lock where the store needs one. A disk that cannot be written needs none."""
    try:
        store = place.store
        return locks.enter_context(
            vault_lock(vault, needed=store.needs_locks, place=store.place, reopen=lambda: store.open(Purpose.READ))
        )
    except VaultLocked:
        raise
    except StoreError:
        return None
