"""Whether files lie in a bucket's folders here that nobody has entered in the catalogue, as those copied by hand."""

from collections.abc import Iterator, Sequence
from itertools import islice
from uuid import UUID

import structlog

from domain.names import ObjectKind
from services.common.database import Database
from services.storage.store import adoptions
from services.storage.store.rescans import FoundFile
from services.storage.volumes.disks import Disks
from services.storage.volumes.threads import DiskThreads

_AT_ONCE = 1000
_KINDS = (ObjectKind.PACK, ObjectKind.INDEX, ObjectKind.SNAPSHOT, ObjectKind.KEY)


class Unentered:
    """Of one node."""

    def __init__(self, db: Database, disks: Disks, threads: DiskThreads) -> None:
        self._db = db
        self._disks = disks
        self._threads = threads
        self._log = structlog.get_logger("storage")

    async def lies_here(self, bucket: UUID) -> bool:
        """Whether there is a file with an object's name that the catalogue does not know, or that cannot be said.

        Raises Unavailable when the database is away.
        """
        try:
            for volume in await self._threads.run(lambda: self._disks.holding(bucket)):
                for kind in _KINDS:
                    if await self._is_unknown_among(bucket, kind, volume.of_kind(bucket, kind)):
                        self._log.warning(
                            "a bucket stays though its node is full: files in its folder are to be adopted, or removed",
                            bucket=str(bucket),
                        )
                        return True
        except OSError as error:
            self._log.warning("a bucket stays: its folder cannot be read", bucket=str(bucket), cause=str(error))
            return True
        return False

    async def _is_unknown_among(self, bucket: UUID, kind: ObjectKind, files: Iterator[FoundFile | str]) -> bool:
        while page := await self._threads.of(bucket).run(lambda: list(islice(files, _AT_ONCE))):
            digests = [file.sha256 for file in page if isinstance(file, FoundFile)]
            if await self._knows_less(bucket, kind, digests):
                return True
        return False

    async def _knows_less(self, bucket: UUID, kind: ObjectKind, digests: Sequence[bytes]) -> bool:
        async with self._db.worker() as unit:
            return bool(set(digests) - (await adoptions.states(unit, bucket, kind, digests)).keys())
