"""What the workers of one node do not do to each other: each test has two of them in one process, or in two."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from services.common.testing.server import Certificates, some_settings
from services.common.worker import Worker, environment_of, make_shared, worker_of
from services.storage.settings import StorageSettings
from services.storage.tests.cluster import a_body, pack
from services.storage.tests.sized import once
from services.storage.upkeep.tests.moving import until
from services.storage.volumes.disk import Disk
from services.storage.volumes.disks import Disks
from services.storage.volumes.in_use import BucketsInUse, InUse
from services.storage.volumes.made import MadeFolders
from services.storage.volumes.places import CHOOSING, Places
from services.storage.volumes.staging import StagedName

BUCKET, SESSION = UUID(int=7), UUID(int=8)
_ROOT = Path(__file__).parents[4]


@pytest.fixture
def shared() -> Iterator[int]:
    descriptor = make_shared()
    yield descriptor
    os.close(descriptor)


@contextmanager
def a_disk(folder: Path, worker: Worker, first: Disk | None = None) -> Iterator[Disk]:
    """The disk of the first worker, or of one beside it."""
    disk = Disk(folder, "a", 0, worker, [*map(os.dup, first.lent)] if first else None)
    with closing(disk):
        yield disk


def staged(body: bytes) -> StagedName:
    name = pack(body)
    return StagedName(BUCKET, SESSION, name, bytes.fromhex(name.id))


def test_a_worker_removes_only_what_it_had_begun_itself_and_the_first_one_all(tmp_path: Path, shared: int) -> None:
    first, second, twelfth = (worker_of(shared, number, 12) for number in (0, 1, 11))
    body = a_body()
    with (
        a_disk(tmp_path, first) as one,
        a_disk(tmp_path, second, one) as two,
        a_disk(tmp_path, twelfth, one) as three,
    ):
        begun = [disk.stage(staged(body), len(body)) for disk in (one, two, three)]
        with a_disk(tmp_path, second, one) as restarted:
            assert restarted.drop_parts() == 1
        assert len(list(tmp_path.glob("incoming/*/*.part"))) == 2
        begun[0].write(body)
        begun[0].finish()
        begun[0].place()
        assert one.drop_parts() == 1
        assert three.drop_parts() == 0


def test_a_folder_that_another_worker_has_cleared_and_made_again_is_not_taken_for_one_that_is_safe(
    tmp_path: Path, shared: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_disk(tmp_path, worker_of(shared, 0, 2)) as first, a_disk(tmp_path, worker_of(shared, 1, 2), first) as second:
        body = a_body()
        one = second.stage(staged(body), len(body))
        one.write(body)
        one.finish()
        one.place()
        assert Disks([first], "a").clear(BUCKET, (), uuid4())
        first.make_bucket(BUCKET)
        made = second.path(BUCKET, pack(body)).parent
        again = second.stage(staged(body), len(body))
        again.write(body)
        again.finish()
        made.mkdir()  # by another worker, which has not come to the sync
        synced: list[Path] = []
        monkeypatch.setattr("services.storage.volumes.made.sync_folder", synced.append)
        again.place()
        assert {made.parent, made.parents[1], made.parents[2]} <= set(synced)


@pytest.mark.parametrize("drops_while", ["it is made", "a file comes to it"])
def test_a_folder_that_goes_while_another_worker_believes_in_it_is_synced_again(
    tmp_path: Path, shared: int, monkeypatch: pytest.MonkeyPatch, drops_while: str
) -> None:
    first, second = worker_of(shared, 0, 2), worker_of(shared, 1, 2)
    made, top = MadeFolders(tmp_path, second), tmp_path / str(BUCKET)
    with first.dropping(BUCKET.int) if drops_while == "it is made" else nullcontext():
        made.make(BUCKET)
    drops = made.make_place(BUCKET, top / "keys" / "a")
    synced: list[Path] = []
    monkeypatch.setattr("services.storage.volumes.made.sync_folder", synced.append)
    with first.dropping(BUCKET.int) if drops_while == "a file comes to it" else nullcontext():
        made.has_come(BUCKET, drops)
    assert set(synced) == {tmp_path, top, top / "data"}
    synced.clear()
    made.has_come(BUCKET, made.make_place(BUCKET, top / "keys" / "b"))
    assert bool(synced) == (drops_while == "a file comes to it"), "what was made while they went is not believed either"


@pytest.mark.parametrize("other", [UUID(int=9), UUID(int=BUCKET.int + 64)])
def test_what_goes_of_another_bucket_or_does_not_lie_there_costs_a_put_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: UUID
) -> None:
    made, top = MadeFolders(tmp_path, Worker()), tmp_path / str(BUCKET)
    made.make(BUCKET)
    if other.int % 64 != BUCKET.int % 64:
        made.make(other)
    assert made.drop(other, tmp_path / "incoming")
    synced: list[Path] = []
    monkeypatch.setattr("services.storage.volumes.made.sync_folder", synced.append)
    made.has_come(BUCKET, made.make_place(BUCKET, top / "keys" / "a"))
    assert synced == []


def test_what_has_left_a_disk_by_one_worker_is_not_looked_for_there_by_another(tmp_path: Path, shared: int) -> None:
    with a_disk(tmp_path, worker_of(shared, 0, 2)) as first, a_disk(tmp_path, worker_of(shared, 1, 2), first) as second:
        second.make_bucket(BUCKET)
        first.leaving.note(BUCKET)
        assert BUCKET in second.leaving
        assert first.drop_folders(BUCKET)
        first.leaving.forget(BUCKET)
        assert not second.may_hold(BUCKET)
        assert BUCKET not in second.leaving


async def test_a_bucket_is_in_use_for_all_workers(shared: int) -> None:
    first = BucketsInUse(worker_of(shared, 0, 2).locks)
    with another(shared) as other:
        for kind in ("shared", "alone"):
            other.says(f"async with in_use.{kind}(BUCKET): tell('has it'); hear()")
            assert other.hears() == "has it"
            waiting = asyncio.ensure_future(enter(first.alone(BUCKET)))
            async with first.alone(UUID(int=9)):
                done, _ = await asyncio.wait([waiting], timeout=0.2)
                assert not done
            other.says("")
            await asyncio.wait_for(waiting, 60)
        async with first.shared(BUCKET), first.shared(BUCKET):
            other.says("async with in_use.shared(BUCKET): tell('has it too')")
            assert other.hears() == "has it too"
        async with first.shared(BUCKET):
            pass
        async with first.alone(BUCKET):
            other.says("async with in_use.alone(BUCKET): tell('at last')")
        assert other.hears() == "at last"


async def test_who_waits_to_share_a_bucket_in_one_worker_comes_before_who_moves_its_files_in_another(
    shared: int,
) -> None:
    moving = BucketsInUse(worker_of(shared, 0, 2).locks)
    with another(shared) as other:
        async with moving.alone(BUCKET):
            other.says("async with in_use.shared(BUCKET): tell('has it'); hear()")
            await once(lambda: moving._is_wished(BUCKET))
        # Without a pause for the other one, who looks from time to time.
        next_one = asyncio.ensure_future(enter(moving.alone(BUCKET)))
        assert await asyncio.to_thread(other.hears) == "has it"
        assert not next_one.done()
        other.says("")
        await asyncio.wait_for(next_one, 60)


async def test_a_wish_that_is_lost_is_made_again(shared: int) -> None:
    first = BucketsInUse(worker_of(shared, 0, 2).locks)
    with another(shared) as other:
        both = "[in_use._locks.take(place, alone=True) for place in (BUCKET.int, ~BUCKET.int)]"
        other.says(f"tell({both})")
        assert other.hears() == "[True, True]", "as one that has the bucket, and looks for wishes just now"
        waiting = asyncio.ensure_future(enter(first.shared(BUCKET)))
        await once(lambda: first._wishes[BUCKET])
        other.says("in_use._locks.let_go(~BUCKET.int)")

        async def is_wished() -> bool:
            other.says("tell(in_use._is_wished(BUCKET))")
            return await asyncio.to_thread(other.hears) == "True"

        await until(is_wished)
        other.says("in_use._locks.let_go(BUCKET.int)")
        await asyncio.wait_for(waiting, 60)


async def test_who_waits_in_vain_for_a_bucket_alone_leaves_nothing_behind(shared: int) -> None:
    ours = BucketsInUse(worker_of(shared, 0, 2).locks)
    with another(shared) as other, capture_logs() as told:
        for _ in range(2):
            other.says("async with in_use.shared(BUCKET): tell('has it'); hear()")
            assert other.hears() == "has it"
            for _ in range(2):
                with pytest.raises(InUse):
                    await ours.alone(BUCKET, 0.1).__aenter__()
            other.says("")
            other.says("async with in_use.alone(BUCKET): tell('has it alone')")
            assert other.hears() == "has it alone"
            async with asyncio.timeout(60), ours.alone(BUCKET):
                pass
    assert [line["bucket"] for line in told] == [str(BUCKET)] * 2, "once until it was had"


async def test_who_waits_for_long_to_have_a_bucket_alone_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.storage.volumes.in_use._LONG_SECONDS", 0.0)
    in_use = BucketsInUse()
    with capture_logs() as told:
        async with in_use.shared(BUCKET):
            waiting = asyncio.ensure_future(enter(in_use.alone(BUCKET)))
            await once(lambda: told)
        await asyncio.wait_for(waiting, 60)
    assert [line["bucket"] for line in told] == [str(BUCKET)]


def test_removals_and_moves_wait_for_those_of_other_workers_and_not_for_one_that_has_died(shared: int) -> None:
    places = Places([], worker_of(shared, 0, 2).locks)
    events: list[str] = []

    def remove() -> None:
        with places.lock(BUCKET).held():
            events.append("has it")

    waiting = threading.Thread(target=remove)
    with another(shared) as other:
        other.says("with Places([], in_use._locks).lock(BUCKET).held(): tell('removes'); hear()")
        assert other.hears() == "removes"
        waiting.start()
        waiting.join(0.2)
        assert events == []
        other.dies()
        waiting.join(60)
    assert events == ["has it"]


def test_threads_of_two_workers_that_seem_to_wait_for_each_other_do_not(shared: int) -> None:
    """The kernel knows processes only: that each of two waits for the other one is what it calls a deadlock."""
    locks = worker_of(shared, 0, 2).locks
    assert locks

    def take() -> None:
        with locks.held(2):
            pass

    waiting = threading.Thread(target=take)
    with another(shared) as other:
        other.says("kept[2] = in_use._locks.held(2); kept[2].__enter__(); tell('has 2')")
        assert other.hears() == "has 2"
        with locks.held(1):
            other.says(
                "kept[1] = in_use._locks.held(1);"
                " threading.Thread(target=kept[1].__enter__, daemon=True).start(); tell('asks for 1')"
            )
            assert other.hears() == "asks for 1"
            waiting.start()
            waiting.join(0.5)
            assert waiting.is_alive(), "it waits, and has not failed"
            other.says("kept[2].__exit__(None, None, None); tell('had 2')")
            assert other.hears() == "had 2"
            waiting.join(60)
            assert not waiting.is_alive()


async def enter(using: Any) -> None:
    async with using:
        pass


class Another:
    """A second worker, in a process of its own: it runs the statements that it is told."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def says(self, statement: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(statement + "\n")
        self._process.stdin.flush()

    def dies(self) -> None:
        self._process.kill()
        self._process.wait()

    def hears(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()


_PROGRAM = """
import asyncio, os, sys, threading
from uuid import UUID
from services.common.worker import started_as
from services.storage.volumes.in_use import BucketsInUse
from services.storage.volumes.places import Places
BUCKET = UUID(int=7)
kept = {}
def tell(word): print(word, flush=True)
def hear(): return sys.stdin.readline()
async def main():
    in_use = BucketsInUse(started_as(os.environ).locks)
    while statement := hear():
        names = {**globals(), "in_use": in_use}
        exec(f"async def step():\\n    {statement.strip() or 'pass'}", names)
        await names["step"]()
asyncio.run(main())
"""


@contextmanager
def another(shared: int) -> Iterator[Another]:
    ours, its = socket.socketpair()
    what, given = environment_of(1, 2, shared, its.fileno()), (shared, its.fileno())
    command, pipe = [sys.executable, "-c", _PROGRAM], subprocess.PIPE
    with (
        closing(ours),
        closing(its),
        subprocess.Popen(
            command, env={**os.environ, **what}, pass_fds=given, cwd=_ROOT, stdin=pipe, stdout=pipe, text=True
        ) as process,
    ):
        try:
            yield Another(process)
        finally:
            process.kill()


def test_a_bucket_begins_where_another_worker_has_just_begun_it(tmp_path: Path, shared: int) -> None:
    worker, free = worker_of(shared, 0, 2), {"x": 2 << 20, "y": 1 << 20}
    opened = [Disk(tmp_path / name, "a", 0, worker, free_bytes=lambda folder: free[folder.name]) for name in free]
    body = a_body()

    def stage() -> None:
        Disks(opened, "a", worker.locks).stage(staged(body), len(body)).discard()

    staging = threading.Thread(target=stage)
    with another(shared) as other:
        begin = f"os.mkdir('{tmp_path / 'y' / 'buckets' / str(BUCKET)}')"
        other.says(f"with in_use._locks.held({CHOOSING}): tell('chooses'); hear(); {begin}")
        assert other.hears() == "chooses"
        staging.start()
        staging.join(0.2)
        assert staging.is_alive()
        other.says("")
        staging.join(60)
    assert [path.parent.parent.name for path in tmp_path.glob("*/buckets/*")] == ["y"]
    for disk in opened:
        disk.close()


def test_a_node_with_stores_has_one_worker(installation: Certificates, tmp_path: Path) -> None:
    store: dict[str, Any] = {
        "data_stores": ["s3://bucket/prefix?endpoint=https://localhost:1&region=here"],
        "store_key_file": tmp_path / "key",
        "spool_dir": tmp_path / "spool",
    }
    own: dict[str, Any] = {
        "license_server": "localhost:1",
        "license_key": installation.ca,
        "license_file": tmp_path / "lease",
        "serial": "none",
        "token_keys": tmp_path,
    }
    assert some_settings(StorageSettings, "storage", installation, **own, **store).workers == 1
    with pytest.raises(ValidationError, match="a node with OORT_DATA_STORES has one"):
        some_settings(StorageSettings, "storage", installation, **own, **store, workers=2)
    with pytest.raises(ValidationError, match="less than or equal to 64"):
        some_settings(StorageSettings, "storage", installation, **own, data_dirs=[tmp_path], workers=65)
