"""The objects of one bucket that lie on the volumes of a node, page by page."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from uuid import UUID

from services.storage.store.rescans import FoundFile
from services.storage.volumes.disks import Disks

_AT_ONCE = 1000


@dataclass(slots=True)
class Pages:
    """`foreign` counts what lies there and is none of them. Used by a disk thread."""

    disks: Disks
    bucket: UUID
    foreign: int = 0
    _files: Iterator[FoundFile] = field(init=False)

    def __post_init__(self) -> None:
        self._files = self._all()

    def next(self) -> list[FoundFile]:
        """Up to 1,000 of them, the root files first; none at the end. Raises OSError."""
        return list(islice(self._files, _AT_ONCE))

    def _all(self) -> Iterator[FoundFile]:
        holding = self.disks.holding(self.bucket)
        for volume in holding:
            yield from volume.root_files(self.bucket)
        for volume in holding:
            for found in volume.files(self.bucket):
                if isinstance(found, str):
                    self.foreign += 1
                else:
                    yield found
