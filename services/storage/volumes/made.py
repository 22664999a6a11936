"""The folders of buckets on one disk: which were made and have their names on the disk, so that nobody asks again.

Kept true: a file that came to a bucket's folder is found there after a crash, because the names of all folders above it
were synced; also where the first worker of the node has removed them meanwhile, when nothing lay in them, and another
one makes them anew and has not come to the sync.
Everything here blocks. Each method raises OSError.
"""

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from domain.names import ObjectKind
from services.common.worker import Worker
from services.storage.volumes.folders import entries, sync_folder

_FOLDERS = ("keys", "index", "snapshots", "locks", "data")
_PACK_FOLDER = re.compile("[0-9a-f]{2}")
_UNKNOWN = -1  # drops after which nothing is known of a folder


@dataclass(slots=True)
class _Made:
    """Folders of a bucket, found and synced after so many `drops` (services/common/worker.py)."""

    drops: int
    packs: int  # a bit for each data/xx/


class MadeFolders:
    """Those in `buckets`, as this worker knows them. For any thread."""

    def __init__(self, buckets: Path, worker: Worker) -> None:
        self._buckets = buckets
        self._worker = worker
        self._made: dict[UUID, _Made] = {}

    def make(self, bucket: UUID) -> None:
        """Make all that restic wants to find in a bucket's folder. Nothing if it is known to be complete."""
        top = self._buckets / str(bucket)
        if bucket in self._made and top.is_dir():
            return
        drops = self._worker.drops_of(bucket.int)
        for folder in (top, *(top / name for name in _FOLDERS)):
            folder.mkdir(0o700, exist_ok=True)
        # An earlier run of this node, another worker, or another thread may have made them and not come to the sync.
        there = [path.name for path in (top / "data").iterdir()]
        for folder in (top / "data", top, self._buckets):
            sync_folder(folder)
        self._made[bucket] = _Made(drops, sum(1 << int(name, 16) for name in there if _PACK_FOLDER.fullmatch(name)))

    def make_again(self, bucket: UUID) -> None:
        """The same, whatever is known."""
        self._made.pop(bucket, None)
        self.make(bucket)

    def make_place(self, bucket: UUID, target: Path) -> int:
        """Before a file goes to `target`: for a pack its data/xx/ is made, and that name synced.

        Answers after how many `drops` all this was known to be safe.
        """
        folder, made = target.parent, self._made.get(bucket)
        drops = _UNKNOWN if made is None else made.drops
        if not _PACK_FOLDER.fullmatch(folder.name):
            return drops
        bit = 1 << int(folder.name, 16)
        if made is None or not made.packs & bit:
            folder.mkdir(0o700, exist_ok=True)
            # Also if it was there: somebody else may have made it, and not synced it yet.
            sync_folder(folder.parent)
            if made is not None:
                made.packs |= bit  # one that is lost to another thread's costs one more sync
        return drops

    def has_come(self, bucket: UUID, drops: int = _UNKNOWN) -> None:
        """After a file has come to its place, and keeps its folders: sync what others may have made since."""
        if self._worker.dropped_since(bucket.int, drops):
            self.make_again(bucket)

    def drop(self, bucket: UUID, incoming: Path) -> bool:
        """Remove the folders of a bucket of which nothing lies here, with `incoming`. False if something does.

        By the first worker alone.
        """
        top = self._buckets / str(bucket)
        self._made.pop(bucket, None)
        parts = [top / folder for folder in _FOLDERS]
        if top.exists() or incoming.exists():  # else nothing that anybody believes in goes
            with self._worker.dropping(bucket.int):
                for folder in (incoming, *entries(top / ObjectKind.PACK.value), *parts, top):
                    with contextlib.suppress(OSError):  # it is gone, or has something foreign in it
                        folder.rmdir()
        sync_folder(self._buckets)
        return not top.exists()
