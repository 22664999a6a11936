"""A bucket that lies on several disks of a node: where its objects go, and from where they are read."""

import errno
import os
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from domain.names import CONFIG, SEAL, ObjectName
from services.common.errors import Unavailable
from services.storage.errors import DiskFull, Unentered
from services.storage.tests.cluster import a_body, pack
from services.storage.tests.spread import BUCKET, Node, move, put, put_pack, read
from services.storage.volumes.disk import Disk, StagedFile
from services.storage.volumes.disks import Disks


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


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


def test_a_disk_that_is_gone_with_its_folder_takes_nothing_and_the_others_do(tmp_path: Path) -> None:
    first, second = (Disk(tmp_path / name, "a", 0) for name in ("first", "second"))
    with closing(Disks([first, second], "a")) as disks:
        second.folder.rename(tmp_path / "away")
        assert second.free_bytes == 0
        assert disks.free_bytes > 0
        first.make_bucket(BUCKET)
        name = put_pack(disks, body := a_body(100))
        assert read(disks, name, 100) == body
        assert not second.folder.exists()


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


def test_a_seal_whose_disk_is_full_goes_to_another_and_leaves_no_older_one(node: Node) -> None:
    with node.up() as disks:
        put(disks, SEAL, b"old seal")
        node.free["first"] = 0
        put(disks, SEAL, b"new seal")
        assert node.places(SEAL) == ["second"]
        assert read(disks, SEAL, 8) == b"new seal"


def test_a_put_goes_on_another_disk_when_one_takes_nothing(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    with node.up() as disks:
        put_pack(disks, a_body(100))
        other = put_pack(disks, rest := a_body(100))
        assert move(disks, other, rest)
        first, stage = disks.places.disks[0], Disk.stage

        def is_read_only(disk: Disk, *given: Any, **named: Any) -> StagedFile:
            if disk is first:
                raise OSError(errno.EROFS, "read-only")
            return stage(disk, *given, **named)

        monkeypatch.setattr(Disk, "stage", is_read_only)
        assert node.places(put_pack(disks, a_body(100))) == ["second"]
        node.free["second"] = 99
        with pytest.raises(OSError, match="read-only"):
            put_pack(disks, a_body(100))


def test_a_pack_is_in_its_place_although_a_disk_that_fails_keeps_another_file_of_it(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    with node.up() as disks:
        name = put_pack(disks, body := a_body(100))
        node.free["first"] = 99
        first, remove = disks.places.disks[0], Disk.remove

        def fails(disk: Disk, *given: Any) -> set[ObjectName]:
            if disk is first:
                raise OSError(errno.EIO, "fails")
            return remove(disk, *given)

        monkeypatch.setattr(Disk, "remove", fails)
        put_pack(disks, body)
        assert node.places(name) == ["first", "second"]
        assert disks.hash(BUCKET, name, 100) == bytes.fromhex(name.id)


def test_an_older_seal_of_a_disk_that_was_left_out_goes_when_the_newer_one_is_looked_for(node: Node) -> None:
    older, newer = sha256(b"old seal").digest(), sha256(b"new seal").digest()
    with node.up() as disks:
        put(disks, SEAL, b"old seal")
    with closing(Disks([node.disk("second")], "a")) as disks:
        put(disks, SEAL, b"new seal")
    with node.up() as disks:
        assert disks.hash(BUCKET, SEAL, 8) == older
        assert disks.hash(BUCKET, SEAL, 8, newer, keep=False) == newer
        assert node.places(SEAL) == ["first", "second"]
        assert disks.hash(BUCKET, SEAL, 8, newer) == newer
        assert node.places(SEAL) == ["second"]
        assert read(disks, SEAL, 8) == b"new seal"


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
