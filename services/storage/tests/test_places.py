"""A bucket that lies on several disks of a node: where its objects go, how they are moved, and what a crash leaves."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.names import CONFIG, SEAL, ObjectKind, ObjectName
from services.common.errors import Unavailable
from services.storage.disk import Disk, StagedFile
from services.storage.disks import Disks
from services.storage.errors import DiskFull, NameMismatch, Unentered
from services.storage.staging import StagedName
from services.storage.store.rescans import FoundFile
from services.storage.tests.cluster import a_body, pack

BUCKET, SESSION = uuid4(), UUID(int=1)


@dataclass
class Node:
    """With disks of some free bytes each, in the order of their folders."""

    folder: Path
    free: dict[str, int] = field(default_factory=lambda: {"first": 1 << 20, "second": 1 << 19})

    @contextmanager
    def up(self) -> Iterator[Disks]:
        disks = Disks([Disk(self.folder / name, "a", 0, free_bytes=self._free) for name in self.free], "a")
        with closing(disks):
            yield disks

    def _free(self, folder: Path) -> int:
        return self.free[folder.name]

    def places(self, name: ObjectName) -> list[str]:
        """The disks on which something lies in its place."""
        return [disk for disk in self.free if (self.folder / disk / "buckets" / str(BUCKET) / name.path).exists()]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


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


def test_what_a_bucket_disk_has_no_room_for_goes_to_another_disk_and_is_read_from_there(node: Node) -> None:
    body, other = a_body(100), a_body(100)
    with node.up() as disks:
        name = put_pack(disks, body)
        node.free["first"] = 99
        spilled = put_pack(disks, other)
        assert (node.places(name), node.places(spilled)) == (["first"], ["second"])
        assert (read(disks, name, 100), read(disks, spilled, 100)) == (body, other)
        assert disks.lacking(BUCKET, [(name, 100), (spilled, 100)]) == set()
        assert disks.remove(BUCKET, [name, spilled]) == {name, spilled}
        assert node.places(name) + node.places(spilled) == []


def test_what_no_disk_has_room_for_is_refused(node: Node) -> None:
    with node.up() as disks:
        put_pack(disks, a_body(100))
        node.free.update(first=99, second=99)
        with pytest.raises(DiskFull):
            put_pack(disks, a_body(100))
        assert not (node.folder / "second" / "buckets" / str(BUCKET)).exists()


def test_nothing_is_written_where_a_disk_is_not_mounted(node: Node) -> None:
    with node.up() as disks:
        put_pack(disks, body := a_body(100))
        node.free["first"] = 99
        mounted = node.folder / "second"
        mounted.rename(node.folder / "away")
        (mounted / "buckets").mkdir(parents=True)  # the folder below the mount point, as somebody left it
        (mounted / "incoming").mkdir()
        with pytest.raises(DiskFull):
            put_pack(disks, a_body(100))
        assert not move(disks, pack(body), body)
        assert [path for path in mounted.rglob("*") if path.is_file()] == []
        assert node.places(pack(body)) == ["first"]


def test_an_object_on_a_disk_that_is_away_is_neither_missing_nor_removed(node: Node) -> None:
    with node.up() as disks:
        put_pack(disks, a_body(100))
        node.free["first"] = 99
        away = put_pack(disks, other := a_body(100))
        mounted = node.folder / "second"
        mounted.rename(node.folder / "elsewhere")
        mounted.mkdir()
        with pytest.raises(Unavailable):
            read(disks, away, 100)
        with pytest.raises(Unavailable):
            disks.remove(BUCKET, [away])
        assert not disks.all_there
        mounted.rmdir()
        (node.folder / "elsewhere").rename(mounted)
        assert read(disks, away, 100) == other


def test_a_damaged_file_is_replaced_where_it_lies_although_another_disk_has_more_room(node: Node) -> None:
    with node.up() as disks:
        name = put_pack(disks, body := a_body(100))
        (node.folder / "first" / "buckets" / str(BUCKET) / name.path).write_bytes(bytes(100))
        node.free["second"] = 1 << 30
        put_pack(disks, body)
        assert node.places(name) == ["first"]
        assert read(disks, name, 100) == body


def test_a_damaged_file_on_a_full_disk_is_replaced_on_another_and_goes(node: Node) -> None:
    with node.up() as disks:
        name = put_pack(disks, body := a_body(100))
        (node.folder / "first" / "buckets" / str(BUCKET) / name.path).write_bytes(bytes(100))
        node.free["first"] = 99
        put_pack(disks, body)
        assert node.places(name) == ["second"]
        assert read(disks, name, 100) == body


def test_a_damaged_file_that_a_crash_has_left_beside_a_whole_one_goes_when_it_is_looked_at(node: Node) -> None:
    with node.up() as disks:
        name = put_pack(disks, body := a_body(100))
        first = node.folder / "first" / "buckets" / str(BUCKET) / name.path
        move(disks, name, body)
        first.parent.mkdir(exist_ok=True)
        first.write_bytes(bytes(100))
        assert disks.hash(BUCKET, name, 100) == bytes.fromhex(name.id)
        assert node.places(name) == ["second"]
        first.write_bytes(bytes(100))
        (node.folder / "second" / "buckets" / str(BUCKET) / name.path).write_bytes(bytes(100))
        assert disks.hash(BUCKET, name, 100) == sha256(bytes(100)).digest()
        assert node.places(name) == ["first", "second"]


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


def test_what_a_disk_that_fails_has_is_unavailable_and_what_others_have_is_read(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    with node.up() as disks:
        here = put_pack(disks, body := a_body(100))
        there = put_pack(disks, other := a_body(100))
        move(disks, there, other)
        first, original = disks.places.disks[0], os.open

        def fails(path: Any, *given: Any, **named: Any) -> int:
            if Path(path).is_relative_to(first.buckets):
                raise OSError(errno.ENODEV, "gone")
            return original(path, *given, **named)

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", fails)
            assert read(disks, there, 100) == other
            with pytest.raises(Unavailable):
                read(disks, here, 100)
        assert read(disks, here, 100) == body


def test_a_put_goes_back_to_the_disk_that_its_bucket_leaves_when_no_other_has_room(node: Node) -> None:
    with node.up() as disks:
        put_pack(disks, body := a_body(100))
        other = put_pack(disks, rest := a_body(100))
        assert move(disks, other, rest)
        disks.places.disks[0].leaving.note(BUCKET)
        assert node.places(put_pack(disks, a_body(100))) == ["second"]
        node.free["second"] = 99
        assert node.places(put_pack(disks, a_body(100))) == ["first"]
        assert node.places(pack(body)) == ["first"]


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


def test_a_config_is_not_buried_by_a_new_one_on_another_disk(node: Node) -> None:
    with node.up() as disks:
        put(disks, CONFIG, b"config", first=True)
        move(disks, CONFIG, b"config")
        with pytest.raises(Unentered):
            put(disks, CONFIG, b"gifnoc", first=True)
        (node.folder / "second").rename(node.folder / "away")
        (node.folder / "second").mkdir()
        for name in (CONFIG, SEAL):
            with pytest.raises(Unavailable):
                put(disks, name, b"gifnoc", first=name == CONFIG)


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

        def removed_meanwhile(disk: Disk, path: Path, bucket: UUID, placed: ObjectName) -> None:
            removals.append(thread.submit(disks.remove, BUCKET, [name]))
            place(disk, path, bucket, placed)

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
        [sys.executable, "-m", "services.storage.tests.killed_moves", str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).parents[3],
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 8


def test_a_root_file_is_not_moved_over_another_one(node: Node) -> None:
    with node.up() as disks:
        first, second = disks.places.disks
        for disk, body in ((first, b"older"), (second, b"newer")):
            disk.make_bucket(BUCKET)
            disk.path(BUCKET, SEAL).write_bytes(body)
        [older] = first.root_files(BUCKET)
        assert not disks.places.move(BUCKET, older, first, second)
        assert [disk.path(BUCKET, SEAL).read_bytes() for disk in (first, second)] == [b"older", b"newer"]
        first.path(BUCKET, SEAL).write_bytes(b"newer")  # as a crash leaves it
        [same] = first.root_files(BUCKET)
        assert disks.places.move(BUCKET, same, first, second)
        assert node.places(SEAL) == ["second"]
