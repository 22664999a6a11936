"""A bucket written to a folder."""

import errno
from pathlib import Path
from typing import IO, Any

import pytest

from client.errors import NotFound
from client.testing.damage import flip
from deploy.seeding.errors import FolderBusy, FolderTaken
from deploy.seeding.export import Moved
from deploy.seeding.tests.buckets import Bucket, Nodes, a_repository, files
from domain.names import ObjectKind
from domain.sessions import Purpose


@pytest.fixture
def bucket(nodes: Nodes, tmp_path: Path) -> Bucket:
    bucket = nodes.bucket()
    bucket.take_in(a_repository(tmp_path / "source"))
    return bucket


class BrokenOff(Exception):
    """What ends an export."""


def test_the_folder_is_the_repository_with_its_seal(bucket: Bucket, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "target"
    moved = bucket.export(target)
    assert moved.objects == {"keys": 1, "data": 3, "index": 1, "snapshots": 1}
    assert (moved.kept, moved.damaged, moved.besides) == (0, {}, 0)
    assert files(target) == files(tmp_path / "source")
    assert {one.name for one in target.iterdir() if one.is_dir()} == {"data", "index", "keys", "locks", "snapshots"}
    assert not any(one.stat().st_mode & 0o077 for one in (target, *target.rglob("*")))
    assert bucket.open_sessions() == 0


@pytest.mark.parametrize("count", [1, 4, 5])
def test_one_that_was_broken_off_goes_on_and_is_in_order_all_the_while(
    bucket: Bucket, tmp_path: Path, count: int
) -> None:
    target = tmp_path / "target"

    def told(moved: Moved) -> None:
        if sum(moved.objects.values()) == count:
            raise BrokenOff

    with pytest.raises(BrokenOff):
        bucket.export(target, told)
    assert bucket.open_sessions() == 0
    there = set(files(target))
    # Packs before the index file, and that before the snapshot.
    assert "config" in there
    assert not any(one.startswith("index") for one in there) or sum(one.startswith("data") for one in there) == 3
    assert not any(one.startswith("snapshots") for one in there)
    moved = bucket.export(target)
    assert (moved.kept, sum(moved.objects.values())) == (count, 6 - count)
    assert files(target) == files(tmp_path / "source")


def test_a_second_export_to_a_folder_is_refused_while_one_runs(bucket: Bucket, tmp_path: Path) -> None:
    refused = 0

    def second(_moved: Moved) -> None:
        nonlocal refused
        with pytest.raises(FolderBusy, match="Another export"):
            bucket.export(tmp_path / "target")
        refused += 1

    assert bucket.export(tmp_path / "target", second).damaged == {}
    assert refused == 6
    assert files(tmp_path / "target") == files(tmp_path / "source")
    assert bucket.export(tmp_path / "target").kept == 6


def test_an_altered_file_is_written_again(bucket: Bucket, tmp_path: Path) -> None:
    target = tmp_path / "target"
    bucket.export(target)
    victim = next(target.glob("data/*/*"))
    flip(victim, victim)
    moved = bucket.export(target)
    assert (moved.objects, moved.kept) == ({"data": 1}, 5)
    assert files(target) == files(tmp_path / "source")


def test_what_cannot_be_read_is_written_again(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "target"
    bucket.export(target)
    victim = next(target.glob("data/*/*"))
    opened = Path.open

    def failing(path: Path, mode: str = "r") -> IO[Any]:
        if path == victim:
            raise OSError(errno.EIO, "Input/output error")
        return opened(path, mode)

    before = victim.stat().st_ino
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", failing)
        moved = bucket.export(target)
    assert (moved.objects, moved.kept, moved.damaged) == ({"data": 1}, 5, {})
    assert victim.stat().st_ino != before
    assert files(target) == files(tmp_path / "source")


@pytest.mark.parametrize("is_folder", [True, False])
def test_what_lies_in_the_place_of_an_object_or_its_folder_is_left_alone(
    bucket: Bucket, tmp_path: Path, is_folder: bool
) -> None:
    target = tmp_path / "target"
    bucket.export(target)
    victim = next(target.glob("snapshots/*"))
    victim.unlink()
    if is_folder:
        victim.mkdir()
    else:
        (target / "snapshots").rmdir()
        (target / "snapshots").write_text("mine")
    with pytest.raises(FolderTaken):
        bucket.export(target)
    assert victim.is_dir() if is_folder else (target / "snapshots").read_text() == "mine"


def test_what_is_removed_meanwhile_is_in_it(bucket: Bucket, tmp_path: Path) -> None:
    kinds = (ObjectKind.INDEX, ObjectKind.PACK)

    def prune(moved: Moved) -> None:
        if sum(moved.objects.values()) != 1:
            return
        with bucket.device() as store, store.open(Purpose.RETENTION) as session:
            for info in list(session.list(ObjectKind.SNAPSHOT)):
                session.remove(info.name)
            session.mark()
            for kind in kinds:
                assert not session.condemn([info.name for info in session.list(kind)])

    bucket.export(tmp_path / "target", prune)
    assert files(tmp_path / "target") == files(tmp_path / "source")
    with bucket.device() as store, store.open(Purpose.READ) as session:
        assert not [info for kind in (*kinds, ObjectKind.SNAPSHOT) for info in session.list(kind)]
    moved = bucket.export(tmp_path / "target")
    assert (moved.objects, moved.kept, moved.besides) == ({}, 1, 5)


def test_what_is_lost_is_named_and_the_rest_is_written(bucket: Bucket, tmp_path: Path) -> None:
    victim = max(bucket.folder.glob("data/*/*"), key=lambda one: one.stat().st_size)
    flip(victim, victim)
    moved = bucket.export(tmp_path / "target")
    assert set(moved.damaged) == {f"data/{victim.name}"}
    lacking = set(files(tmp_path / "source")) - set(files(tmp_path / "target"))
    assert lacking == {f"data/{victim.name[:2]}/{victim.name}"}


def test_a_folder_with_anything_else_is_refused_and_left_alone(nodes: Nodes, bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "mine" / "data").mkdir(parents=True)
    (tmp_path / "mine" / "data" / "letter").write_text("dear")
    other = nodes.bucket()
    other.take_in(a_repository(tmp_path / "other"))
    for folder in ("mine", "other", "mine/data/letter"):
        before = files(tmp_path / folder)
        with pytest.raises(FolderTaken):
            bucket.export(tmp_path / folder)
        assert files(tmp_path / folder) == before


def test_a_bucket_without_a_vault_has_nothing_to_export(nodes: Nodes, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        nodes.bucket().export(tmp_path / "target")
    assert not (tmp_path / "target").exists()
