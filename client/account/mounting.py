"""A vault opened for as long as it is mounted: a session that outlives its ends, and restic's lock where one is needed.

Kept true: while the vault is mounted nobody prunes what is looked at: where the store keeps sessions apart by the
session, elsewhere by the lock, which is taken anew if it was lost because this machine slept.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

from client.account.device import Device
from client.account.devices import list_devices
from client.account.looking import Unread
from client.account.opening import Place, place_of
from client.account.reading import lock_to_read
from client.errors import NoSuchSnapshot, OortError
from client.platforms.linux import Identity, identities
from client.stores.resuming import ResumingSession
from client.vault.locks import LockLost, VaultLock
from client.vault.repository import Vault

_LOOK_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Mounting:
    """An opened vault; `own_folders` are this vault's on this machine, where nothing may be mounted."""

    place: Place
    vault: Vault
    own_folders: frozenset[Identity]
    _names: dict[str, str] = field(default_factory=dict)

    def device_names(self) -> Mapping[str, str]:
        """By id; while the server cannot be reached those that were heard last, and those of devices that are gone."""
        with suppress(OortError):
            self._names.update({one.id: one.name for one in list_devices(self.place.device)})
        return self._names


@contextmanager
def mounting(
    device: Device, vault_name: str, unread: Unread, progress: Callable[[int, int], None] | None = None
) -> Iterator[Mounting]:
    """Open a vault and read its index; `unread` is told of index files that cannot be read.

    Raises NoSuchSnapshot if nothing was ever stored in it, OortError.
    """
    with place_of(device, vault_name) as place, ResumingSession(place.store) as session:
        vault = place.open(session)
        if vault is None:
            raise NoSuchSnapshot(snapshot="latest")
        with vault, ExitStack() as held:
            lock = lock_to_read(held, place, vault)
            if lock is not None:
                held.enter_context(_relocked(lock))
            for name, error in vault.load_index(progress).damaged.items():
                unread(name, error)
            own = identities((*place.own_folders(), device.home.folder))
            yield Mounting(place, vault, own)


@contextmanager
def _relocked(lock: VaultLock) -> Iterator[None]:
    """Take a lock anew whenever it was lost."""
    ended = threading.Event()
    present = lock

    def look() -> None:
        nonlocal present
        while not ended.wait(_LOOK_SECONDS):
            try:
                present.ensure_held()
            except LockLost:
                with suppress(OortError):  # tried again; what has gone meanwhile is told by who reads it
                    present.release()
                    taken = present.anew()
                    taken.acquire()
                    present = taken

    thread = threading.Thread(target=look, name="mount-lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if present is not lock:
            present.release()
