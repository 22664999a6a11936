"""Which buckets are to leave a disk for another one of the node, noted on it, so that a node that was killed goes on.

DATA_DIR/leaving/BUCKET is empty. Nobody keeps it in memory: the first worker of a node notes it, and all ask.
"""

import os
from pathlib import Path
from uuid import UUID

from services.storage.volumes.folders import entries, make_folder, sync_folder


class Leaving:
    """Those of one data folder. Each method raises OSError, but what cannot be looked at is not to leave."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "leaving"

    def __contains__(self, bucket: UUID) -> bool:
        return os.path.exists(self._folder / str(bucket))  # noqa: PTH110 - Path.exists raises what this does not

    def all(self) -> list[UUID]:
        return sorted(bucket for path in entries(self._folder) if (bucket := _bucket(path)) is not None)

    def note(self, bucket: UUID) -> None:
        """Keep durably that a bucket is to leave."""
        make_folder(self._folder)
        (self._folder / str(bucket)).touch(0o600)
        sync_folder(self._folder)

    def forget(self, bucket: UUID) -> None:
        """It has left, or is not to leave any more."""
        if bucket in self:
            (self._folder / str(bucket)).unlink(missing_ok=True)
            sync_folder(self._folder)


def _bucket(path: Path) -> UUID | None:
    """None for a file that is not ours."""
    try:
        return UUID(path.name)
    except ValueError:
        return None
