"""What a node does besides answering: it says that it lives, ends silent sessions, settles, heals, and counts."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial

import structlog
from prometheus_client import CollectorRegistry, Gauge

from services.common.clock import Clock
from services.common.database import Database
from services.common.errors import ServiceError
from services.storage.sessions import lifecycle
from services.storage.settings import StorageSettings
from services.storage.store import buckets, copies, following, nodes, scrubs
from services.storage.store import sessions as session_rows
from services.storage.transfer.incoming import Incoming
from services.storage.volumes.disks import Disks
from services.storage.volumes.threads import DiskThreads

_SETTLE_SECONDS = 30.0
_COUNT_SECONDS = 15.0


async def every(clock: Clock, seconds: float, name: str, job: Callable[[], Awaitable[object]]) -> None:
    """Run a job again and again. An outage is logged, and the next round tries again."""
    log = structlog.get_logger("storage")
    while True:
        try:
            await job()
        except (ServiceError, OSError) as error:
            log.warning("will be tried again", job=name, cause=str(error))
        await clock.sleep(seconds)


class Presence:
    """This node's row: where it is reached, what it can still take, and that it lives."""

    def __init__(
        self,
        settings: StorageSettings,
        db: Database,
        disks: Disks,
        threads: DiskThreads,
        draining: asyncio.Event,
        *,
        catalogue: int,
        silent: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        """`catalogue` is the number of the last migration that this version knows.

        `silent` says for how many seconds disks have not answered, by id.
        """
        self._silent = silent
        self.free_bytes = 0  # that the roomiest disk or store could take at the last beat
        self._settings = settings
        self._catalogue = catalogue
        self._reconciled = False
        self.absences = 0  # beats at which a disk was away
        self._away: set[str] = set()  # the places of those that were at the last one
        self._draining = draining
        self._db = db
        self._disks = disks
        self._threads = threads

    async def beat(self) -> None:
        if self._draining.is_set():
            return
        disks = await self._threads.run(self._disks.states)
        silent = self._silent()
        disks = [replace(disk, silent_seconds=silent.get(disk.id, 0)) for disk in disks]
        self.free_bytes = max(disk.free_bytes for disk in disks)
        self._say_away({disk.place for disk in disks if not disk.there})
        if self._away:
            # What comes back may be another disk's content.
            self._reconciled = False
            self.absences += 1
        own = self._settings
        # As a worker: callers that wait for the lock of a bucket hold no connection that it needs.
        async with self._db.worker() as unit:
            await nodes.heartbeat(
                unit,
                own.instance,
                public_endpoint=own.public_endpoint,
                internal_endpoint=own.internal_endpoint,
                rest_endpoint=own.rest_endpoint if own.rest_listen and own.rest_endpoint else "",
                free_bytes=self.free_bytes,
                reconciled=self._reconciled,
                catalogue=self._catalogue,
                disks=disks,
            )

    def _say_away(self, away: set[str]) -> None:
        """Which disks and stores have gone, or come back, since the last beat."""
        log = structlog.get_logger("storage")
        for place in sorted(away - self._away):
            log.error("a disk or store is away, and the node goes on without it", place=place)
        for place in sorted(self._away - away):
            log.info("a disk or store is back", place=place)
        self._away = away

    @property
    def is_reconciled(self) -> bool:
        """Whether the disks were compared with the catalogue since the start, and none was away since then."""
        return self._reconciled

    async def reconciled(self, absences: int) -> None:
        """The disks were compared with the catalogue; said at once the first time.

        `absences` as they were when that began: if a disk was away since, it has to be done again.
        """
        if not self._reconciled and absences == self.absences:
            self._reconciled = True
            await self.beat()

    async def leave(self) -> None:
        """Once the process begins to end, let no put wait for this node. In an outage its silence says the same."""
        await self._draining.wait()
        try:
            async with self._db.worker() as unit:
                await nodes.silence(unit, self._settings.instance)
        except ServiceError as error:
            structlog.get_logger("storage").warning("could not say that this node leaves", cause=str(error))


class Figures:
    """The catalogue's sums, for Prometheus. Every node of a cluster reports the same."""

    def __init__(self, db: Database, presence: Presence, registry: CollectorRegistry) -> None:
        self._db = db
        self._buckets = Gauge("oort_storage_buckets", "Buckets of the cluster", registry=registry)
        self._objects = Gauge("oort_storage_objects", "Objects of the cluster", registry=registry)
        self._bytes = Gauge("oort_storage_bytes", "Bytes of one copy of all objects", registry=registry)
        self._sessions = Gauge("oort_storage_sessions", "Open sessions of the cluster", registry=registry)
        self._missing = Gauge("oort_storage_missing_copies", "Copies that homes lack", registry=registry)
        self._lost = Gauge("oort_storage_lost_objects", "Objects of which no home has a whole copy", registry=registry)
        self._short = Gauge(
            "oort_storage_short_buckets", "Buckets on fewer nodes than they are to have copies", registry=registry
        )
        self._silent = Gauge(
            "oort_storage_silent_nodes", "Nodes of the cluster that do not say that they live", registry=registry
        )
        self._braked = Gauge(
            "oort_storage_braked_buckets", "Buckets that the brake on mass removal holds", registry=registry
        )
        self._adopting = Gauge(
            "oort_storage_adopting_buckets", "Buckets whose adoption of files is not finished", registry=registry
        )
        self._follows = Gauge(
            "oort_storage_following_buckets", "Buckets that follow another cluster's", registry=registry
        )
        self._failing = Gauge(
            "oort_storage_following_failing_buckets", "Those of them that are not as they should be", registry=registry
        )
        self._behind = Gauge(
            "oort_storage_following_objects", "Objects that are still to come from other clusters", registry=registry
        )
        self._behind_bytes = Gauge("oort_storage_following_bytes", "Bytes of these", registry=registry)
        self._behind_seconds = Gauge(
            "oort_storage_following_seconds",
            "For how long the oldest of these has been stored there",
            registry=registry,
        )
        free = Gauge("oort_storage_free_bytes", "What this node's roomiest disk can take", registry=registry)
        free.set_function(lambda: presence.free_bytes)  # no disk is asked, which may hang

    async def count(self, silent_seconds: float) -> None:
        """A node counts as silent when it said nothing for that long; one that was removed does not."""
        async with self._db.worker() as unit:
            self._short.set(await buckets.count_short(unit))
            self._silent.set(await nodes.count_silent(unit, silent_seconds))
            count, objects, size = await buckets.totals(unit)
            self._buckets.set(count)
            self._objects.set(objects)
            self._bytes.set(size)
            self._braked.set(await buckets.count_braked(unit))
            self._adopting.set(await buckets.count_adopting(unit))
            self._sessions.set(await session_rows.count_open(unit))
            sums = await following.sums(unit)
            self._follows.set(sums.buckets)
            self._failing.set(sums.failing)
            self._behind.set(sums.objects)
            self._behind_bytes.set(sums.bytes)
            self._behind_seconds.set(sums.oldest_seconds)
            missing = await copies.count(unit)
            self._missing.set(missing)
            self._lost.set(sum((await scrubs.lost(unit)).values()) if missing else 0)


async def end_silent(db: Database, silence: timedelta, greatest_age: timedelta) -> None:
    """End sessions that stopped beating, and say which."""
    ended = await lifecycle.end_silent(db, silence, greatest_age)
    for session in ended:
        structlog.get_logger("storage").info("session ended for silence or age", session=str(session))


def jobs(
    settings: StorageSettings, clock: Clock, db: Database, *, presence: Presence, incoming: Incoming, figures: Figures
) -> list[Callable[[], Awaitable[None]]]:
    """The periodic ones; replication runs by itself."""
    end = partial(end_silent, db, settings.silence, settings.session_max_age)
    count = partial(figures.count, settings.node_silent_seconds)
    return [
        partial(every, clock, settings.node_beat_seconds, "heartbeat", presence.beat),
        presence.leave,
        partial(every, clock, settings.beat_seconds / 2, "end silent sessions", end),
        partial(every, clock, _SETTLE_SECONDS, "settle incoming files", incoming.settle),
        partial(every, clock, _COUNT_SECONDS, "count", count),
    ]
