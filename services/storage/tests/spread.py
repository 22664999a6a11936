"""The disks of a node without a node: where the objects of a bucket lie that is on several."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from uuid import UUID, uuid4

from domain.names import ObjectName
from services.storage.store.rescans import FoundFile
from services.storage.tests.cluster import pack
from services.storage.volumes.disk import Disk
from services.storage.volumes.disks import Disks
from services.storage.volumes.staging import StagedName

BUCKET, SESSION = uuid4(), UUID(int=1)


@dataclass
class Node:
    """With disks of some free bytes each, in the order of their folders."""

    folder: Path
    free: dict[str, int] = field(default_factory=lambda: {"first": 1 << 20, "second": 1 << 19})

    @contextmanager
    def up(self) -> Iterator[Disks]:
        disks = Disks([self.disk(name) for name in self.free], "a")
        with closing(disks):
            yield disks

    def disk(self, name: str) -> Disk:
        return Disk(self.folder / name, "a", 0, free_bytes=self._free)

    def _free(self, folder: Path) -> int:
        return self.free[folder.name]

    def places(self, name: ObjectName) -> list[str]:
        """The disks on which something lies in its place."""
        return [disk for disk in self.free if (self.folder / disk / "buckets" / str(BUCKET) / name.path).exists()]


def put(disks: Disks, name: ObjectName, body: bytes, *, first: bool = False) -> None:
    staged = disks.stage(StagedName(BUCKET, SESSION, name, sha256(body).digest()), len(body), first=first)
    staged.write(body)
    staged.finish()
    disks.place(staged)


def put_pack(disks: Disks, body: bytes) -> ObjectName:
    put(disks, pack(body), body)
    return pack(body)


def read(disks: Disks, name: ObjectName, size: int) -> bytes | None:
    opened = disks.open(BUCKET, name, size)
    if opened is None:
        return None
    with closing(opened):
        return opened.read(0, size)


def found(name: ObjectName, body: bytes) -> FoundFile:
    return FoundFile(name, sha256(body).digest(), len(body), datetime.now(UTC))


def move(disks: Disks, name: ObjectName, body: bytes, *, back: bool = False) -> bool:
    first, second = disks.places.disks
    return disks.places.move(BUCKET, found(name, body), *((second, first) if back else (first, second)))
