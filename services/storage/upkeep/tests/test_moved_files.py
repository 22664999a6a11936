"""Files that are moved between the disks of a node: what comes in between, and what a crash leaves."""

import errno
import os
import shutil
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry

from domain.names import SEAL, ObjectKind, ObjectName
from services.common.clock import SystemClock
from services.storage.errors import NameMismatch
from services.storage.tests.cluster import Cluster, a_body, pack
from services.storage.tests.spread import BUCKET, SESSION, Node, move, put, put_pack, read
from services.storage.upkeep.moves import Mover
from services.storage.upkeep.tests.moving import NEVER
from services.storage.volumes.disk import Disk, StagedFile
from services.storage.volumes.staging import StagedName
from services.storage.volumes.threads import DiskThreads


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_a_damaged_file_is_not_moved(node: Node) -> None:
    with node.up() as disks:
        name = put_pack(disks, body := a_body(100))
        (node.folder / "first" / "buckets" / str(BUCKET) / name.path).write_bytes(bytes(100))
        with pytest.raises(NameMismatch):
            move(disks, name, body)
        assert node.places(name) == ["first"]
        assert list(disks.places.disks[1].staged()) == []


def test_a_pack_that_was_moved_before_its_put_has_seen_it_placed_is_in_its_place(node: Node) -> None:
    with node.up() as disks:
        body = a_body(100)
        staged = disks.stage(StagedName(BUCKET, SESSION, pack(body), sha256(body).digest()), 100)
        staged.write(body)
        staged.finish()
        (waiting,) = disks.places.disks[0].staged(BUCKET)
        disks.place(waiting)
        assert move(disks, pack(body), body)
        disks.place(staged)
        assert node.places(pack(body)) == ["second"]
        disks.remove(BUCKET, [pack(body)])
        with pytest.raises(FileNotFoundError):
            disks.place(staged)


def test_a_file_that_cannot_be_removed_from_the_old_disk_stops_the_moves(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    with node.up() as disks:
        name = put_pack(disks, body := a_body(100))
        first, unlink = disks.places.disks[0], Path.unlink

        def is_read_only(path: Path, *given: Any, **named: Any) -> None:
            if path.is_relative_to(first.buckets):
                raise OSError(errno.EROFS, "read-only")
            unlink(path, *given, **named)

        monkeypatch.setattr(Path, "unlink", is_read_only)
        with pytest.raises(OSError, match="cannot be removed"):
            move(disks, name, body)
        assert read(disks, name, 100) == body


def test_a_root_file_that_is_replaced_while_it_is_moved_is_not_lost(node: Node) -> None:
    with node.up() as disks:
        put(disks, SEAL, b"the first")
        newer = disks.stage(StagedName(BUCKET, SESSION, SEAL, sha256(b"the other").digest()), 9)
        newer.write(b"the other")
        newer.finish()
        assert move(disks, SEAL, b"the first")
        assert node.places(SEAL) == ["second"]
        disks.place(newer)  # it was on its way to the disk that the first one has left
        assert node.places(SEAL) == ["first"]
        assert read(disks, SEAL, 9) == b"the other"
        with pytest.raises(NameMismatch):
            move(disks, SEAL, b"the first")  # of another content than what was listed
        assert read(disks, SEAL, 9) == b"the other"


def test_a_root_file_that_is_replaced_after_it_was_read_stays_where_it_is(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    with node.up() as disks:
        put(disks, SEAL, b"the first")
        finish = StagedFile.finish

        def replaced_meanwhile(staged: StagedFile) -> None:
            finish(staged)
            monkeypatch.undo()
            put(disks, SEAL, b"the other")

        monkeypatch.setattr(StagedFile, "finish", replaced_meanwhile)
        assert not move(disks, SEAL, b"the first")
        assert node.places(SEAL) == ["first"]
        assert read(disks, SEAL, 9) == b"the other"


def test_a_removal_that_comes_first_leaves_nothing_for_a_move_to_bring_back(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    with node.up() as disks:
        name = put_pack(disks, body := a_body(100))
        finish = StagedFile.finish

        def removed_meanwhile(staged: StagedFile) -> None:
            finish(staged)
            assert disks.remove(BUCKET, [name]) == {name}

        monkeypatch.setattr(StagedFile, "finish", removed_meanwhile)
        assert not move(disks, name, body)
        assert node.places(name) == []
        assert list(disks.places.disks[1].staged()) == []


def test_a_removal_that_comes_in_the_middle_of_a_move_waits_and_finds_the_file(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    with node.up() as disks, ThreadPoolExecutor(1) as thread:
        name = put_pack(disks, body := a_body(100))
        place = Disk.place
        removals: list[Future[set[ObjectName]]] = []

        def removed_meanwhile(disk: Disk, path: Path, bucket: UUID, placed: ObjectName) -> bool:
            removals.append(thread.submit(disks.remove, BUCKET, [name]))
            return place(disk, path, bucket, placed)

        monkeypatch.setattr(Disk, "place", removed_meanwhile)
        assert move(disks, name, body)
        assert removals[0].result(60) == {name}
        assert node.places(name) == []


@pytest.mark.parametrize("look", ["open", "lacking"])
def test_what_is_moved_while_it_is_looked_for_is_found(node: Node, monkeypatch: pytest.MonkeyPatch, look: str) -> None:
    with node.up() as disks:
        name = put_pack(disks, body := a_body(100))
        put_pack(disks, other := a_body(100))
        assert move(disks, name, body)
        second, original = disks.places.disks[1], getattr(Disk, look)

        def moved_before(disk: Disk, *given: Any, **named: Any) -> Any:
            if disk is second and node.places(name) == ["second"]:
                monkeypatch.undo()
                assert move(disks, name, body, back=True)
            return original(disk, *given, **named)

        assert move(disks, pack(other), other)
        monkeypatch.setattr(Disk, look, moved_before)
        if look == "open":
            assert read(disks, name, 100) == body
        else:
            assert disks.lacking(BUCKET, [(name, 100)]) == set()
        assert node.places(name) == ["first"]


@pytest.mark.needs("restic")
def test_restic_reads_the_folders_of_a_spread_bucket_together(node: Node, tmp_path: Path) -> None:
    folders = [node.folder / disk / "buckets" / str(BUCKET) for disk in node.free]
    source, together = tmp_path / "source", tmp_path / "together"
    source.mkdir()
    (source / "file").write_bytes(os.urandom(40 << 20))
    restic(folders[0], "init")
    restic(folders[0], "backup", str(source))
    node.free = dict.fromkeys(node.free, 1 << 40)
    with node.up() as disks:
        first, second = disks.places.disks
        packs = [one for one in first.files(BUCKET) if not isinstance(one, str) and one.name.kind is ObjectKind.PACK]
        assert all(disks.places.move(BUCKET, one, first, second) for one in packs[::2])
        moved = [node.places(one.name) for one in packs]
    assert moved == [["second"] if number % 2 == 0 else ["first"] for number in range(len(packs))]
    for folder in folders:
        shutil.copytree(folder, together, dirs_exist_ok=True)
    restic(together, "--no-lock", "check", "--read-data")
    restic(together, "--no-lock", "restore", "latest", "--target", str(tmp_path / "target"))
    restored = tmp_path / "target" / source.relative_to("/") / "file"
    assert restored.read_bytes() == (source / "file").read_bytes()


def restic(repository: Path, *arguments: str) -> None:
    command = ["restic", "--repo", str(repository), "--quiet", "--no-cache", *arguments]
    environment = os.environ | {"RESTIC_PASSWORD": "secret"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_new_file_is_durable_before_the_old_one_is_unlinked(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    with node.up() as disks:
        name = put_pack(disks, body := a_body(100))
        seen: list[str] = []
        fsync, unlink, rename = os.fsync, Path.unlink, Path.rename

        def sync(handle: int) -> None:
            seen.append(f"sync {Path(f'/proc/self/fd/{handle}').resolve().relative_to(node.folder)}")
            fsync(handle)

        def remove(path: Path, *given: Any, **named: Any) -> None:
            if path.name == name.id:
                seen.append(f"unlink {path.relative_to(node.folder).parts[0]}")
            unlink(path, *given, **named)

        def moved(path: Path, target: Path) -> Path:
            if target.name == name.id:
                seen.append("rename")
            return rename(path, target)

        monkeypatch.setattr(os, "fsync", sync)
        monkeypatch.setattr(Path, "unlink", remove)
        monkeypatch.setattr(Path, "rename", moved)
        assert move(disks, name, body)
        folder = f"buckets/{BUCKET}/data/{name.id[:2]}"
        order = [seen.index(f"sync second/buckets/{BUCKET}/data"), seen.index("rename")]
        order += [seen.index(f"sync second/{folder}"), seen.index("unlink first"), seen.index(f"sync first/{folder}")]
        assert order == sorted(order)
        assert [step for step in seen[: order[1]] if step.startswith("sync second/incoming")]


def test_a_node_that_is_killed_at_any_step_of_a_move_has_the_object_and_goes_on(tmp_path: Path) -> None:
    """With SIGKILL, at each system call that changes something."""
    run = subprocess.run(
        [sys.executable, "-m", "services.storage.upkeep.tests.killed_moves", str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).parents[4],
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 8


def test_what_is_moved_is_as_old_as_before(node: Node) -> None:
    with node.up() as disks:
        put(disks, SEAL, b"a seal")
        first, second = disks.places.disks
        os.utime(first.path(BUCKET, SEAL), ns=(1, 1_234_567_890_123_456_789))
        assert move(disks, SEAL, b"a seal")
        assert second.path(BUCKET, SEAL).stat().st_mtime_ns == 1_234_567_890_123_456_789


def test_a_waiting_file_that_has_gone_does_not_let_a_damaged_one_win(node: Node) -> None:
    with node.up() as disks:
        name = put_pack(disks, body := a_body(100))
        first, second = disks.places.disks
        staged = StagedName(BUCKET, SESSION, name, sha256(body).digest())
        old, new = first.stage(staged, 100), second.stage(staged, 100)
        for one in (old, new):
            one.write(body)
            one.finish()
        (waiting,) = first.staged(BUCKET)
        old.discard()
        first.path(BUCKET, name).write_bytes(bytes(100))
        with pytest.raises(FileNotFoundError):
            disks.place(waiting)  # only a damaged one lies there
        assert new.place()
        disks.place(waiting)
        disks.places.keep_one(second, BUCKET, name)
        assert node.places(name) == ["second"]
        assert read(disks, name, 100) == body


async def test_nothing_leaves_while_no_disk_is_to_count_as_crowded(node: Node, cluster: Cluster) -> None:
    cluster.node("a")
    async with cluster.up("a") as [db]:
        with node.up() as disks, ThreadPoolExecutor(1) as thread:
            name = put_pack(disks, a_body(100))
            disks.places.disks[0].leaving.note(BUCKET)
            for crowded_bytes, lies in ((0, ["first"]), (1, ["second"])):
                mover = Mover(
                    "a",
                    db,
                    disks,
                    DiskThreads(thread),
                    clock=SystemClock(),
                    crowded_bytes=crowded_bytes,
                    bytes_per_second=1 << 20,
                    poll_seconds=NEVER,
                    registry=CollectorRegistry(),
                )
                await mover.relieve()
                assert node.places(name) == lies
