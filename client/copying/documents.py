"""Which snapshots of a vault another one has already, and how a copied snapshot is written there.

Kept true: a copy says in `original` what it is a copy of, and is told by that and by its content, as restic tells it;
its parent is the copy of its parent, so that snapshots keep their order.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from client.vault.repository import Vault
from client.vault.snapshots import Snapshot, copied_document, decode_snapshot
from domain.names import ObjectKind, ObjectName


class Copies:
    """The snapshots of a vault by what they are copies of."""

    def __init__(self, snapshots: Iterable[Snapshot]) -> None:
        self._by_origin: defaultdict[str, list[Snapshot]] = defaultdict(list)
        for snapshot in snapshots:
            self.add(snapshot)

    def add(self, snapshot: Snapshot) -> None:
        self._by_origin[_origin(snapshot)].append(snapshot)

    def has(self, snapshot: Snapshot) -> bool:
        """Whether there is one of the same origin that says the same."""
        return any(_content(one) == _content(snapshot) for one in self._by_origin.get(_origin(snapshot), ()))

    def document(self, source: Vault, snapshot: Snapshot, parents: "Parents") -> bytes:
        """The document of a copy of a snapshot of `source`. Raises DamagedVault, ObjectMissing, StoreError."""
        body = source.load_unpacked(ObjectName(ObjectKind.SNAPSHOT, snapshot.id))
        return copied_document(body, snapshot, self._copy_of(parents.origin(snapshot)))

    def add_document(self, document: bytes, name: ObjectName) -> None:
        """A copy was made."""
        self.add(decode_snapshot(document, name.id))

    def _copy_of(self, origin: str) -> str | None:
        found = self._by_origin.get(origin)
        return found[-1].id if found else None


class Parents:
    """Of each snapshot of a vault the origin of its parent."""

    def __init__(self, snapshots: Iterable[Snapshot]) -> None:
        self._origins: dict[str, str] = {}
        for snapshot in snapshots:
            # One that was changed since is known to its children by what it was changed from.
            self._origins[snapshot.id] = self._origins[_origin(snapshot)] = _origin(snapshot)

    def origin(self, snapshot: Snapshot) -> str:
        """Empty where it has no parent, or one that is no more."""
        return self._origins.get(snapshot.parent or "", "")


def _origin(snapshot: Snapshot) -> str:
    return snapshot.original or snapshot.id


def _content(snapshot: Snapshot) -> Snapshot:
    return replace(snapshot, id="", parent=None, original=None)
