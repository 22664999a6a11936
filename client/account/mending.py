"""A vault opened to be put right: alone in it, as whatever rewrites index files or removes snapshots must be.

Kept true: a session of retention, of which a bucket has one at a time; where the store keeps no sessions apart,
restic's exclusive lock as well.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from client.account.device import Device
from client.account.opening import Place, place_of
from client.errors import StoreError
from client.vault.repository import Vault
from domain.sessions import Purpose


@dataclass(frozen=True, slots=True)
class Mending:
    """The opened vault; `ensure_locked` raises LockLost once another may be at work in it."""

    place: Place
    vault: Vault
    ensure_locked: Callable[[], None]


@contextmanager
def mending(device: Device, vault_name: str) -> Iterator[Mending]:
    """Open the vault alone. Raises NoSuchVault, VaultLocked, StoreError, also if nothing was ever stored in it."""
    with (
        place_of(device, vault_name, Purpose.RETENTION, from_cache=False) as place,
        place.store.open(Purpose.RETENTION) as session,
    ):
        vault = place.open(session)
        if vault is None:
            raise StoreError(place=f"The vault {vault_name}", detail="nothing was stored in it yet")
        with vault, place.locked(vault, exclusive=True) as lock:
            yield Mending(place, vault, _nothing if lock is None else lock.ensure_held)


def _nothing() -> None:
    """No lock can be lost where none is needed."""
