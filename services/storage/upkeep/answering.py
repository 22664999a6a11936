"""Whether the disks of this node answer: one on which calls hang, as on a mount whose server has gone, is named.

Kept true: each disk is asked in a thread of its own, so one that hangs holds up the asking of no other; and what is
found comes to the log, the metrics and the catalogue although the heartbeat, which waits for all disks, stands still.
That it does is meant: the node counts as down, and nobody waits for what its disk threads have in hand.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import structlog
from prometheus_client import CollectorRegistry, Gauge

from services.common.clock import Clock
from services.common.database import Database
from services.common.errors import ServiceError
from services.storage.store import nodes
from services.storage.volumes import marker
from services.storage.volumes.disk import Disk
from services.storage.volumes.threads import DiskThreads

_PAUSE_SECONDS = 5.0
_SILENT_SECONDS = 10.0  # of no answer before it is said; a busy disk answers later than an idle one


class Answering:
    """Of the disks of one node, each with a thread in which nothing else runs."""

    def __init__(
        self,
        node: str,
        db: Database,
        disks: Sequence[tuple[Disk, DiskThreads]],
        clock: Clock,
        registry: CollectorRegistry,
    ) -> None:
        self._node = node
        self._db = db
        self._disks = disks
        self._clock = clock
        self._asked: dict[str, float] = {}  # since when, of those that have not answered yet, by id
        self._log = structlog.get_logger("storage")
        gauge = Gauge(
            "oort_storage_disk_silent_seconds",
            "For how long the disk of this node that is silent for longest has not answered; 0: all do",
            registry=registry,
        )
        gauge.set_function(lambda: max(self.silent().values(), default=0))

    def silent(self) -> dict[str, int]:
        """For how many seconds disks have not answered that ought to have, by id. For any thread."""
        now = self._clock.monotonic()
        since = {disk: int(now - asked) for disk, asked in self._asked.copy().items()}
        return {disk: seconds for disk, seconds in since.items() if seconds >= _SILENT_SECONDS}

    async def run(self) -> None:
        """Ask for ever."""
        async with asyncio.TaskGroup() as group:
            for disk, thread in self._disks:
                group.create_task(self._keep_asking(disk, thread))
            group.create_task(self._tell())

    async def _keep_asking(self, disk: Disk, thread: DiskThreads) -> None:
        while True:
            await thread.run(partial(self._ask, disk))
            await self._clock.sleep(_PAUSE_SECONDS)

    def _ask(self, disk: Disk) -> None:
        """Have the disk itself answer, not what memory has of it, however long that takes."""
        self._asked[str(disk.id)] = self._clock.monotonic()
        with suppress(OSError):  # that is an answer: it is away, and the heartbeat says so
            marker.read_again(disk.folder)
            _ = disk.free_bytes
        del self._asked[str(disk.id)]

    async def _tell(self) -> None:
        """Say which are silent once in the log, and to the catalogue as long as they are."""
        places = {str(disk.id): str(disk.folder) for disk, _ in self._disks}
        said: set[str] = set()
        while True:
            silent = self.silent()
            for disk in silent.keys() - said:
                self._log.error("a disk does not answer", place=places[disk], seconds=silent[disk])
            for disk in said - silent.keys():
                self._log.info("a disk answers again", place=places[disk])
            said = set(silent)
            if silent:
                try:
                    async with self._db.worker() as unit:
                        await nodes.note_silent_disks(unit, self._node, silent)
                except ServiceError as error:
                    self._log.warning("it could not be said that a disk is silent", cause=str(error))
            await self._clock.sleep(_PAUSE_SECONDS)
