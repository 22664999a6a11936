"""Which buckets are to leave a disk for another one of the node, noted on it, so that a node that was killed goes on.

DATA_DIR/leaving/BUCKET is empty.
"""

from contextlib import suppress
from pathlib import Path
from uuid import UUID

from services.storage.folders import entries, make_folder, sync_folder


class Leaving:
    """Those of one data folder. Each method raises OSError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "leaving"
        self._buckets: set[UUID] = set()
        for path in entries(self._folder):
            with suppress(ValueError):  # not ours
                self._buckets.add(UUID(path.name))

    def __contains__(self, bucket: UUID) -> bool:
        return bucket in self._buckets

    def all(self) -> list[UUID]:
        return sorted(self._buckets)

    def note(self, bucket: UUID) -> None:
        """Keep durably that a bucket is to leave."""
        make_folder(self._folder)
        (self._folder / str(bucket)).touch(0o600)
        sync_folder(self._folder)
        self._buckets.add(bucket)

    def forget(self, bucket: UUID) -> None:
        """It has left, or is not to leave any more."""
        if bucket in self._buckets:
            (self._folder / str(bucket)).unlink(missing_ok=True)
            sync_folder(self._folder)
            self._buckets.discard(bucket)
