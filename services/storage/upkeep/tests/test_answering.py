"""A disk on which calls hang, as on a mount whose server has gone, is named."""

import asyncio
import os
import threading
from collections.abc import Callable, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from oort.storage.v1 import buckets_pb2
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from services.common import jobs
from services.common.testing.clock import ManualClock
from services.storage.tests.cluster import Cluster
from services.storage.upkeep import answering
from services.storage.upkeep.answering import Answering
from services.storage.volumes.disk import Disk
from services.storage.volumes.threads import DiskThreads

_GAUGE = "oort_storage_disk_silent_seconds"


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not is_so():  # noqa: ASYNC110 - it is a thread that goes on
            await asyncio.sleep(0.01)


def said_in(logs: Sequence[MutableMapping[str, Any]]) -> list[MutableMapping[str, Any]]:
    """Of disks that answer, or do not."""
    return [line for line in logs if "answer" in line["event"]]


async def test_a_disk_of_which_a_call_hangs_is_said_to_be_silent_and_for_how_long(
    cluster: Cluster, tmp_path: Path
) -> None:
    hanging, goes_on, clock, registry = threading.Event(), threading.Event(), ManualClock(), CollectorRegistry()

    def hangs(_: Path) -> int:
        hanging.set()
        goes_on.wait()
        return 0

    async with cluster.up("b") as [db]:
        with ExitStack() as stack:
            well = stack.enter_context(closing(Disk(tmp_path / "well", "a", 0)))
            bad = stack.enter_context(closing(Disk(tmp_path / "bad", "a", 0, free_bytes=hangs)))
            threads = [(disk, DiskThreads(stack.enter_context(ThreadPoolExecutor(1)))) for disk in (well, bad)]
            stack.callback(goes_on.set)
            asked = Answering("a", db, threads, clock, registry)
            with capture_logs() as logs:
                running = [asyncio.ensure_future(asked.run())]
                await until(lambda: hanging.is_set() and clock.sleepers == 2)  # the disk that is well has answered
                clock.jump(4)
                assert (asked.silent(), registry.get_sample_value(_GAUGE)) == ({}, 0)
                clock.jump(1)
                await until(lambda: clock.sleepers == 2)
                clock.jump(7)
                assert asked.silent().get(str(bad.id)) == 12
                assert registry.get_sample_value(_GAUGE) == 12
                await until(lambda: bool(said_in(logs)))
                [said] = said_in(logs)
                assert (said["event"], said["place"], said["seconds"]) == (
                    "a disk does not answer",
                    str(bad.folder),
                    12,
                )
                goes_on.set()
                await until(lambda: not asked.silent())
                assert registry.get_sample_value(_GAUGE) == 0
                await until(lambda: clock.sleepers == 3)
                clock.jump(5)
                await until(lambda: len(said_in(logs)) == 2)
                assert said_in(logs)[1]["event"] == "a disk answers again"
                assert said_in(logs)[1]["place"] == str(bad.folder)
            await jobs.cancel(running)


async def test_every_node_names_the_disk_of_one_that_does_not_answer_although_its_heartbeat_waits_for_it(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "_SILENT_SECONDS", 1.0)
    monkeypatch.setattr(answering, "_PAUSE_SECONDS", 0.1)
    first = cluster.folder / "a"
    second, hang, goes_on, waits = first.with_name("second"), threading.Event(), threading.Event(), threading.Event()
    statvfs: Callable[[Any], Any] = os.statvfs

    def may_hang(path: Any) -> Any:
        if hang.is_set() and Path(path) == second:
            if threading.current_thread().name.startswith("disk"):
                waits.set()
            goes_on.wait()
        return statvfs(path)

    monkeypatch.setattr(os, "statvfs", may_hang)
    cluster.node("a", data_dirs=(first, second))

    async def told(is_so: Callable[[list[buckets_pb2.Disk]], bool]) -> None:
        async with asyncio.timeout(60):
            while True:
                [disks] = [list(node.disks) for node in (await cluster.describe("b")).nodes if node.id == "a"]
                if is_so(disks):
                    return
                await asyncio.sleep(0.05)

    async with cluster.up("a", "b"):
        await told(lambda disks: [disk.silent_seconds for disk in disks] == [0, 0])
        try:
            hang.set()
            await until(waits.is_set)
            await told(lambda disks: disks[0].silent_seconds == 0 and disks[1].silent_seconds >= 2)
        finally:
            hang.clear()
            goes_on.set()
        await told(lambda disks: [(disk.silent_seconds, disk.there) for disk in disks] == [(0, True)] * 2)
