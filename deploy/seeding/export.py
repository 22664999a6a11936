"""A bucket written to a folder as a restic repository.

Kept true: all is read in one session, which keeps what a prune removes meanwhile; what a snapshot needs is listed after
the snapshot and written before it, so the folder is a good repository whenever it is broken off, and at its end holds
every snapshot that the bucket had at the beginning. The seal of the vault's key comes along: only its account opens it,
and with it a bucket that the folder is imported into is used as this one was.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from client.errors import DamagedVault, NotFound, ObjectMissing
from client.stores.abc import ObjectInfo
from deploy.seeding.folder import ExportFolder
from deploy.seeding.session import BucketSession
from domain.names import CONFIG, SEAL, ObjectKind


@dataclass(slots=True)
class Moved:
    """What came over, by kind, and its bytes; `kept` was there before, `damaged` is what stayed, each with the reason.

    `besides` are objects in the folder that the bucket has not, or no more.
    """

    objects: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    kept: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    besides: int = 0

    def count(self, info: ObjectInfo, *, moved: bool) -> None:
        if not moved:
            self.kept += 1
            return
        kind = info.name.kind.value
        self.objects[kind] = self.objects.get(kind, 0) + 1
        self.bytes += info.size


def export(session: BucketSession, path: Path, told: Callable[[Moved], None]) -> Moved:
    """`told` hears after each object how far it is.

    Raises NotFound for a bucket without a vault, FolderTaken, FolderBusy, FolderFull; DamagedVault when its config is
    lost.
    """
    try:
        config = session.read(CONFIG)
    except ObjectMissing:
        raise NotFound(
            detail=f"Nothing was stored in bucket {session.bucket} yet: there is nothing to export."
        ) from None
    # What a snapshot needs was there before it, so it is in the lists that are asked for after that of snapshots.
    snapshots = list(session.list(ObjectKind.SNAPSHOT))
    indexes = list(session.list(ObjectKind.INDEX))
    moved = Moved()
    with ExportFolder.open(path, config) as folder:
        # Before the keys: whatever the seal holds was opened by a key file then, or is by one that comes.
        _seal(session, folder, moved)
        names = chain(session.list(ObjectKind.KEY), session.list(ObjectKind.PACK), indexes, snapshots)
        for info in names:
            _one(session, folder, info, moved)
            told(moved)
        folder.finish()
        moved.besides = folder.count() - moved.kept - sum(moved.objects.values())
    return moved


def _seal(session: BucketSession, folder: ExportFolder, moved: Moved) -> None:
    """A root file is small, and its content may be another one by now: it is always written."""
    try:
        body = session.read(SEAL)
    except ObjectMissing:
        return
    except DamagedVault as error:
        moved.damaged[str(SEAL)] = str(error)
        return
    folder.take(SEAL, iter((body,)))


def _one(session: BucketSession, folder: ExportFolder, info: ObjectInfo, moved: Moved) -> None:
    if folder.has(info):
        moved.count(info, moved=False)
        return
    try:
        session.fetch(info, lambda frames: folder.take(info.name, frames))
    except (DamagedVault, ObjectMissing) as error:
        moved.damaged[str(info.name)] = str(error)
    else:
        moved.count(info, moved=True)
