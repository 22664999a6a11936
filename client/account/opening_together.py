"""The vaults of one backup, opened at once: one that is silent holds up the others for a bounded time.

Kept true: once one is open, another is waited for as long as its store goes on answering, and for a short time when
that is silent before it gives a lock; before, and while an index is read, for as long as its store takes to give up.
"""

import threading
import time
from collections.abc import Callable, Sequence

from client.account.backup_vault import BackupVault, Choose
from client.errors import StoreError
from client.interrupts import locks_taken_elsewhere

# Who is passed over has no snapshot, so it is longer than a restore waits, which reads another vault: a node that is
# started anew has answered by then, and a stream of one that stood still so long is given up too.
SILENT_SECONDS = 90.0
_LOOK = 0.2  # seconds after which it is looked again
_END_SECONDS = 2.0  # that openings which are interrupted get to let go of what they have

Progress = Callable[[int, int], None]


def open_all(vaults: Sequence[BackupVault], device_id: str, choose: Choose, index_read: Progress) -> None:
    """Open each as by its `open`, a single one in this thread.

    `index_read` is told files of all indices that have been read, and that there are to read.
    """
    if len(vaults) == 1:
        vaults[0].open(device_id, choose, index_read)
        return
    with locks_taken_elsewhere():
        _Opening(vaults, device_id, choose, index_read).run()


class _Opening:
    def __init__(self, vaults: Sequence[BackupVault], device_id: str, choose: Choose, index_read: Progress) -> None:
        self._vaults = vaults
        self._device_id = device_id
        self._choose = choose
        self._index_read = index_read
        self._changed = threading.Condition()
        self._reading = threading.Lock()  # an index, of which one file is in memory at a time
        self._waiting = set(vaults)
        self._error: BaseException | None = None
        self._read: dict[BackupVault, tuple[int, int]] = {}

    def run(self) -> None:
        """Raises what is no failure of a vault."""
        # One that is silent for good ends with this process.
        threads = [
            threading.Thread(target=self._open, args=(vault,), name=f"open-{vault.entry.name}", daemon=True)
            for vault in self._vaults
        ]
        try:
            for thread in threads:
                thread.start()
            self._wait()
        except BaseException:
            for vault in self._vaults:
                vault.give_up()
            end = time.monotonic() + _END_SECONDS
            for thread in threads:
                if thread.ident is not None:
                    thread.join(max(end - time.monotonic(), 0))
            raise

    def _open(self, vault: BackupVault) -> None:
        try:
            vault.open(self._device_id, self._choose, lambda done, total: self._tell(vault, done, total), self._reading)
        except BaseException as error:  # noqa: BLE001 - raised in the main thread
            with self._changed:
                self._error = self._error or (error if vault in self._waiting else None)
        with self._changed:
            self._waiting.discard(vault)
            self._changed.notify_all()

    def _tell(self, vault: BackupVault, done: int, total: int) -> None:
        with self._changed:
            if vault in self._waiting:
                self._read[vault] = (done, total)
                read = self._read.values()
                self._index_read(sum(done for done, _ in read), sum(total for _, total in read))

    def _wait(self) -> None:
        open_since: float | None = None
        with self._changed:
            while self._waiting and self._error is None:
                now = time.monotonic()
                if open_since is None and any(vault.target is not None for vault in self._vaults):
                    open_since = now
                for vault in list(self._waiting):
                    if open_since is not None and now - max(vault.heard, open_since) >= SILENT_SECONDS:
                        self._pass_over(vault)
                if self._waiting:
                    self._changed.wait(_LOOK)
            if self._error is not None:
                raise self._error

    def _pass_over(self, vault: BackupVault) -> None:
        place = vault.entry.name if vault.place is None else vault.place.store.place
        detail = f"it has not answered for {SILENT_SECONDS:g} seconds, and the other vaults do not wait for it"
        if vault.give_up(StoreError(place=place, detail=detail)):
            self._waiting.discard(vault)
