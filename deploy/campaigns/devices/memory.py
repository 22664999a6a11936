"""What the campaign remembers beside the vault: what each snapshot must be, and what may be gone.

Kept true: a snapshot is remembered when its command said that it is committed, and forgotten only when a retention's
own report says that it was removed. What a killed command did before it could say so is remembered as possible: a
backup's tree may be in a snapshot that nobody has told of, and what a retention had planned may be gone.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from threading import Lock

from deploy.campaigns.devices.trees import Manifest


class Memory:
    """Shared by all devices. Snapshots are known by their ids, devices by their names."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._said: dict[str, tuple[str, Manifest]] = {}
        self._newest: dict[str, str] = {}  # of a device, as long as there can be no newer one
        self._unsaid: dict[str, list[Manifest]] = defaultdict(list)
        self._removed: set[str] = set()
        self._doubtful: set[str] = set()
        self._missed: set[str] = set()

    def committed(self, snapshot: str, device: str, tree: Manifest) -> None:
        with self._lock:
            self._said[snapshot] = device, tree
            self._newest[device] = snapshot

    def perhaps_committed(self, device: str, tree: Manifest) -> None:
        """A backup of this tree was ended before it said anything."""
        with self._lock:
            self._unsaid[device].append(tree)
            self._newest.pop(device, None)

    def removed(self, snapshots: Iterable[str]) -> None:
        """A retention says that it removed them."""
        with self._lock:
            self._removed.update(snapshots)

    def perhaps_removed(self, snapshots: Iterable[str]) -> None:
        """A retention that was ended had planned to remove them."""
        with self._lock:
            self._doubtful.update(snapshots)

    def missed(self, snapshot: str) -> None:
        """A restore was told that there is no such snapshot."""
        with self._lock:
            self._missed.add(snapshot)

    def come_back(self, snapshots: Collection[str]) -> None:
        """These, which were removed, are there again; of what was removed besides nobody can say."""
        with self._lock:
            self._doubtful = (self._doubtful | self._removed) - set(snapshots)
            self._removed.clear()

    @property
    def gone(self) -> frozenset[str]:
        """What was removed, or perhaps was."""
        with self._lock:
            return frozenset(self._removed | self._doubtful)

    def there(self) -> list[str]:
        """What has been committed and not removed, as far as anybody has said."""
        with self._lock:
            return [one for one in self._said if one not in self._removed]

    def has_any_of(self, device: str) -> bool:
        with self._lock:
            return any(owner == device for owner, _ in self._said.values())

    def device_of(self, snapshot: str) -> str:
        return self._said[snapshot][0]

    def expected(self, snapshot: str, device: str) -> list[Manifest]:
        """What a snapshot of a device may be: one tree, or any of those whose backups could not say so."""
        with self._lock:
            said = self._said.get(snapshot)
            return [said[1]] if said is not None and said[0] == device else list(self._unsaid[device])

    @property
    def counts(self) -> tuple[int, int]:
        """How many snapshots were said to be committed, and to be removed."""
        return len(self._said), len(self._removed)

    def audit(self, listed: Mapping[str, str]) -> Iterator[str]:
        """What is wrong with the snapshots that the vault lists at the end, each with its device."""
        for snapshot, (device, _) in self._said.items():
            if snapshot not in listed and snapshot not in self._removed | self._doubtful:
                yield f"snapshot {snapshot} of {device} was committed, and is lost"
        for snapshot in self._removed & listed.keys():
            yield f"snapshot {snapshot} is listed, though a retention says that it removed it"
        for device, snapshot in self._newest.items():
            if snapshot not in listed:
                yield f"snapshot {snapshot}, the newest of {device}, is gone: no rule removes the newest"
        for snapshot, device in listed.items():
            if not self.expected(snapshot, device):
                yield f"snapshot {snapshot} of {device} is listed, and no backup can have made it"
        for snapshot in self._missed - self._removed - self._doubtful:
            yield f"a restore did not find snapshot {snapshot}, which no retention removed"
