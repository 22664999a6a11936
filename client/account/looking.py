"""Looking into a vault: one session that reads, whatever ends it, and the snapshots as this device has them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from client.account.device import Device
from client.account.opening import place_of
from client.errors import DamagedVault, NoSuchSnapshot, ObjectMissing
from client.stores.resuming import ResumingSession
from client.vault.repository import Vault
from client.vault.snapshots import Snapshot
from domain.names import ObjectKind, ObjectName

Unread = Callable[[ObjectName, DamagedVault | ObjectMissing], None]


@dataclass(frozen=True, slots=True)
class Look:
    """An opened vault; `unread` is told of each snapshot and index file that cannot be read."""

    vault: Vault
    session: ResumingSession
    device: str
    unread: Unread

    def snapshots(self) -> list[Snapshot]:
        """All that can be read, oldest first."""
        return self.vault.snapshots(self.unread)

    def named(self, *wanted: str, all_devices: bool) -> list[Snapshot]:
        """Those that are named, `latest` being of this device unless `all_devices`; the session stays with the last.

        Raises NoSuchSnapshot.
        """
        found = self.vault.find_snapshots(wanted, self.unread, device=None if all_devices else self.device)
        self.session.stay_with(ObjectName(ObjectKind.SNAPSHOT, found[-1].id))
        return found

    def read_index(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Read the index, and tell what of it cannot be read; `progress` is told files read and to read."""
        for name, error in self.vault.load_index(progress).damaged.items():
            self.unread(name, error)


@contextmanager
def looking_into(device: Device, vault_name: str, unread: Unread) -> Iterator[Look | None]:
    """Open a vault to look into it; None if nothing was ever stored there. Raises NoSuchVault, StoreError."""
    with place_of(device, vault_name) as place, ResumingSession(place.store) as session:
        vault = place.open(session)
        if vault is None:
            yield None
            return
        with vault:
            yield Look(vault, session, device.id, unread)


@contextmanager
def looking_at(device: Device, vault_name: str, wanted: str, unread: Unread) -> Iterator[Look]:
    """As `looking_into`, for who wants a snapshot of it. Raises NoSuchSnapshot if nothing was ever stored."""
    with looking_into(device, vault_name, unread) as look:
        if look is None:
            raise NoSuchSnapshot(snapshot=wanted)
        yield look
