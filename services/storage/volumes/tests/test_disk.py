"""The folders of packs: each is made with the first pack in it, and its name is on the disk before that pack is."""

import asyncio
import errno
import gc
import os
import secrets
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from threading import Barrier, Event
from uuid import UUID, uuid4

import pytest

from domain.names import ObjectKind, ObjectName
from services.storage.tests.cluster import a_body, pack
from services.storage.transfer.copies import LocalCopy
from services.storage.volumes.disk import Disk, StagedFile
from services.storage.volumes.disks import Disks
from services.storage.volumes.staging import StagedName
from services.storage.volumes.threads import DiskThreads

BUCKET = uuid4()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "disk", "a", 0)
    yield disk
    disk.close()


def bodies_of_one_folder(count: int) -> list[bytes]:
    found: dict[str, list[bytes]] = defaultdict(list)
    while True:
        body = a_body(10)
        same = found[pack(body).id[:2]]
        same.append(body)
        if len(same) == count:
            return same


def staged(disk: Disk, body: bytes) -> StagedFile:
    file = disk.stage(StagedName(BUCKET, UUID(int=1), pack(body), sha256(body).digest()), len(body))
    file.write(body)
    file.finish()
    return file


def placing(disk: Disk, file: StagedFile, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Place it; answers the folders of the bucket that were synced, and `renamed` for the rename, in their order."""
    seen: list[str] = []
    bucket, fsync, rename = disk.buckets / str(BUCKET), os.fsync, Path.rename

    def sync(handle: int) -> None:
        seen.append(str(Path(f"/proc/self/fd/{handle}").resolve().relative_to(bucket)))
        fsync(handle)

    def move(path: Path, target: Path) -> Path:
        moved = rename(path, target)
        seen.append("renamed")
        return moved

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", sync)
        patch.setattr(Path, "rename", move)
        file.place()
    return seen


def test_the_name_of_a_folder_is_synced_before_the_first_pack_is_moved_into_it(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = bodies_of_one_folder(2)
    first, second = [staged(disk, body) for body in bodies]
    folder = f"data/{pack(bodies[0]).id[:2]}"
    assert list((disk.buckets / str(BUCKET) / "data").iterdir()) == []
    assert placing(disk, first, monkeypatch) == ["data", "renamed", folder]
    assert placing(disk, second, monkeypatch) == ["renamed", folder]


def test_a_folder_that_this_run_of_the_node_has_not_synced_is_synced_although_it_is_there(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = staged(disk, body := secrets.token_bytes(10))
    folder = f"data/{pack(body).id[:2]}"
    (disk.buckets / str(BUCKET) / folder).mkdir()  # as another thread, or a run that was killed, leaves it
    assert placing(disk, file, monkeypatch) == ["data", "renamed", folder]


def test_threads_that_need_the_same_folder_at_once_all_place_their_packs(disk: Disk) -> None:
    bodies = bodies_of_one_folder(8)
    files = [staged(disk, body) for body in bodies]
    at_once = Barrier(len(files))

    def place(file: StagedFile) -> None:
        at_once.wait()
        file.place()

    with ThreadPoolExecutor(len(files)) as threads:
        list(threads.map(place, files))
    assert [disk.path(BUCKET, pack(body)).read_bytes() for body in bodies] == bodies


def test_a_folder_that_is_removed_under_a_running_node_is_made_again(disk: Disk) -> None:
    first, second = bodies_of_one_folder(2)
    staged(disk, first).place()
    disk.path(BUCKET, pack(first)).unlink()
    disk.path(BUCKET, pack(first)).parent.rmdir()
    staged(disk, second).place()
    assert disk.path(BUCKET, pack(second)).read_bytes() == second


def test_a_removal_that_died_before_its_sync_is_synced_by_the_next_one(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged(disk, body := a_body(10)).place()
    folder = disk.path(BUCKET, pack(body)).parent
    fsync, synced = os.fsync, []

    def dies(_handle: int) -> None:
        raise OSError(errno.EIO, "the node died here")

    def sync(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").resolve())
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", dies)
        with pytest.raises(OSError, match="died here"):
            Disks([disk], "a").remove(BUCKET, [pack(body)])
    assert not disk.path(BUCKET, pack(body)).exists()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", sync)
        assert Disks([disk], "a").remove(BUCKET, [pack(body)]) == {pack(body)}
    assert synced == [folder.resolve()]
    # Nothing is to be synced where no folder is.
    folder.rmdir()
    assert Disks([disk], "a").remove(BUCKET, [pack(body)]) == {pack(body)}


async def test_a_step_that_fails_when_its_caller_has_gone_is_no_fault_of_the_node(tmp_path: Path) -> None:
    body, told = a_body(), list[str]()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: told.append(context["message"]))
    disks = Disks([Disk(tmp_path / "disk", "a", 0)], "a")
    with ThreadPoolExecutor(1) as threads, closing(disks):
        name = StagedName(BUCKET, UUID(int=1), pack(body), sha256(body).digest())
        copy = LocalCopy("a", disks, DiskThreads(threads), name, len(body))
        await copy.begin()
        go_on = Event()
        threads.submit(go_on.wait)
        staging = asyncio.create_task(copy.stage())
        await asyncio.sleep(0)
        staging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await staging
        go_on.set()
        await loop.run_in_executor(threads, int)
        await asyncio.sleep(0)
        await copy.discard()
        del copy
        gc.collect()
    assert told == []


def test_a_pack_is_let_go_of_once_it_is_synced_and_what_is_read_again_is_kept(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = a_body()
    done: list[str] = []
    fsync, advise = os.fsync, os.posix_fadvise

    def sync(handle: int) -> None:
        done.append("folder" if Path(f"/proc/self/fd/{handle}").resolve().is_dir() else "synced")
        fsync(handle)

    def let_go(*advice: int) -> None:
        done.append("let go" if advice[1:] == (0, 0, os.POSIX_FADV_DONTNEED) else "advised")
        advise(*advice)

    disk.make_bucket(BUCKET)
    index = ObjectName(ObjectKind.INDEX, sha256(body).hexdigest())
    for name in (pack(body), index):
        file = disk.stage(StagedName(BUCKET, UUID(int=1), name, sha256(body).digest()), len(body))
        file.write(body)
        with monkeypatch.context() as seen:
            seen.setattr(os, "fsync", sync)
            seen.setattr(os, "posix_fadvise", let_go)
            file.finish()
    assert done == ["synced", "let go", "folder", "synced", "folder"]


def test_a_pack_that_the_system_does_not_let_go_of_is_taken(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "posix_fadvise", refuse)
    body = a_body()
    staged(disk, body).place()
    assert disk.path(BUCKET, pack(body)).read_bytes() == body
