"""The snapshots that a mount shows, as they come and go in the vault.

Kept true: a look at the views that is more than `REFRESH_SECONDS` after the last list of snapshots has them listed
again, and the index as well if there are others; while that fails, what was known is shown.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from client.errors import DamagedVault, ObjectMissing, OortError
from client.mount.views import Names, View, view_of
from client.vault.repository import Vault
from client.vault.snapshots import Snapshot, newest_first
from domain.names import ObjectKind, ObjectName

REFRESH_SECONDS = 30.0

Unread = Callable[[ObjectName, DamagedVault | ObjectMissing], None]
Choice = Callable[[Sequence[Snapshot]], Sequence[Snapshot]]


class History:
    """The views of a vault's snapshots. Safe for several threads; one lists at a time."""

    def __init__(
        self,
        vault: Vault,
        choice: Choice,
        devices: Callable[[], Mapping[str, str]],
        unread: Unread,
        changed: Callable[[], None] = lambda: None,
        *,
        refresh_seconds: float = REFRESH_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`choice` says which of all snapshots are shown, in the order it gets them: oldest first.

        `devices` answers names by id, `unread` is told once of each snapshot that cannot be read, `changed` when the
        vault has others. Lists them; raises StoreError.
        """
        self._vault = vault
        self._choice = choice
        self._devices = devices
        self._unread = unread
        self._changed = changed
        self._refresh_seconds = refresh_seconds
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._snapshots: dict[ObjectName, Snapshot] = {}
        self._failed: set[ObjectName] = set()
        self._names = Names()
        self._read()
        self._view = self._made()
        self._listed_at = monotonic()

    @property
    def shown(self) -> Sequence[Snapshot]:
        """Oldest first."""
        return self._choice(newest_first(self._snapshots.values())[::-1])

    def view(self) -> View:
        """As it is now."""
        if self._monotonic() - self._listed_at >= self._refresh_seconds and self._lock.acquire(blocking=False):
            try:
                self._refresh()
            finally:
                self._listed_at = self._monotonic()
                self._lock.release()
        return self._view

    def _refresh(self) -> None:
        try:
            is_other = self._read()
        except OortError:
            return  # the next look tries it again; what is read meanwhile tells of itself
        if is_other:
            self._vault.index.list_anew()
            self._view = self._made()
            self._changed()

    def _made(self) -> View:
        return view_of(self.shown, self._devices(), self._names)

    def _read(self) -> bool:
        """List the snapshots, and read those that are new; True if there are others. Raises StoreError."""
        names = [info.name for info in self._vault.session.list(ObjectKind.SNAPSHOT)]
        read: dict[ObjectName, Snapshot] = {}
        for name in names:
            known = self._snapshots.get(name)
            try:
                read[name] = known or self._vault.load_snapshot(name)
            except (DamagedVault, ObjectMissing) as error:
                if name not in self._failed:
                    self._failed.add(name)
                    self._unread(name, error)
        is_other = read.keys() != self._snapshots.keys()
        self._snapshots = read
        return is_other
