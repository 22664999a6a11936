"""What the workers of a node know of a disk that is away, and what they let be for it."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from services.common.errors import Unavailable
from services.common.worker import Worker, worker_of
from services.storage.errors import DiskFull
from services.storage.tests.cluster import a_body, pack
from services.storage.volumes.begun import Begun
from services.storage.volumes.disks import Disks
from services.storage.volumes.tests.test_workers import BUCKET, a_disk, shared, staged
from services.storage.volumes.volume import StagedBody

__all__ = ["shared"]
_ROOT = Path(__file__).parents[4]


def test_of_a_disk_that_is_away_all_workers_know_what_any_of_them_has_begun_there(tmp_path: Path, shared: int) -> None:
    (tmp_path / "buckets" / str(UUID(int=9))).mkdir(parents=True)
    with a_disk(tmp_path, worker_of(shared, 0, 2)) as first, a_disk(tmp_path, worker_of(shared, 1, 2), first) as second:
        second.make_bucket(BUCKET)
        (tmp_path / "buckets").rename(tmp_path / "elsewhere")
        assert not first.may_hold(BUCKET)
        (tmp_path / "oort-disk.json").unlink()
        with a_disk(tmp_path, worker_of(shared, 1, 2), first) as restarted:
            for disk in (first, second, restarted):
                assert disk.may_hold(BUCKET)
                assert disk.may_hold(UUID(int=9)), "it lay there when the node was started"
                assert not disk.may_hold(UUID(int=10))


def test_what_a_worker_has_found_on_a_disk_that_was_put_there_by_hand_is_away_with_it_for_all(
    tmp_path: Path, shared: int
) -> None:
    with a_disk(tmp_path, worker_of(shared, 0, 2)) as first, a_disk(tmp_path, worker_of(shared, 1, 2), first) as second:
        (tmp_path / "buckets" / str(BUCKET)).mkdir()
        assert Disks([second], "a").holding(BUCKET) == [second]
        (tmp_path / "oort-disk.json").unlink()
        (tmp_path / "buckets").rename(tmp_path / "elsewhere")
        assert first.may_hold(BUCKET)


def test_a_body_that_waited_since_an_earlier_run_is_away_with_its_disk_for_all(tmp_path: Path, shared: int) -> None:
    body = a_body()
    with a_disk(tmp_path, Worker()) as before:
        one = before.stage(staged(body), len(body))
        one.write(body)
        one.finish()
    for folder in sorted((tmp_path / "buckets").rglob("*"), reverse=True):
        folder.rmdir()
    with a_disk(tmp_path, worker_of(shared, 0, 2)) as first, a_disk(tmp_path, worker_of(shared, 1, 2), first) as second:
        [waiting] = first.staged()
        waiting.place()
        (tmp_path / "oort-disk.json").unlink()
        (tmp_path / "buckets").rename(tmp_path / "elsewhere")
        assert second.may_hold(BUCKET)


@pytest.mark.parametrize("spread", [False, True])
def test_while_a_disk_is_away_what_no_worker_has_begun_there_is_removed_from_the_others(
    tmp_path: Path, shared: int, *, spread: bool
) -> None:
    folders, workers = (tmp_path / "one", tmp_path / "two"), (worker_of(shared, 0, 2), worker_of(shared, 1, 2))
    body = a_body()
    with ExitStack() as stack:
        first = [stack.enter_context(a_disk(folder, workers[0])) for folder in folders]
        second = [stack.enter_context(a_disk(*both)) for both in zip(folders, (workers[1],) * 2, first, strict=True)]
        mine, other = Disks(first, "a", workers[0].locks), Disks(second, "a", workers[1].locks)
        one = second[0].stage(staged(body), len(body))
        one.write(body)
        one.finish()
        other.place(one)
        if spread:
            second[1].make_bucket(BUCKET)
        folders[1].rename(tmp_path / "away")
        for disks in (mine, other):
            if spread:
                with pytest.raises(Unavailable):
                    disks.remove(BUCKET, [pack(body)])
            else:
                assert disks.open(BUCKET, pack(a_body()), 1000) is None, "nor is it on the disk that is away"
                assert disks.remove(BUCKET, [pack(body)]) == {pack(body)}


def test_a_worker_that_is_started_while_its_disk_is_away_touches_nothing_there_and_has_it_when_it_is_back(
    tmp_path: Path, shared: int
) -> None:
    folder, elsewhere = tmp_path / "mounted", tmp_path / "elsewhere"
    body = a_body()
    with a_disk(folder, worker_of(shared, 0, 2)) as first:
        first.make_bucket(BUCKET)
        folder.rename(elsewhere)
        for beneath in ("nothing", "an empty folder", "another disk of the node"):
            if beneath == "an empty folder":
                folder.mkdir()
            if beneath == "another disk of the node":
                with a_disk(folder, worker_of(shared, 1, 2)) as other:
                    other.stage(staged(body), len(body))
            files = sorted(folder.rglob("*"))
            with a_disk(folder, worker_of(shared, 1, 2), first) as second:
                assert (second.id, second.is_there) == (first.id, False)
                assert second.drop_parts() == 0
                assert second.may_hold(BUCKET)
                assert sorted(folder.rglob("*")) == files
        folder.rename(tmp_path / "other")
        with a_disk(folder, worker_of(shared, 1, 2), first) as second:
            elsewhere.rename(folder)
            assert second.is_there
            begun = second.stage(staged(body), len(body))
            begun.write(body)
            begun.finish()
            begun.place()
            assert first.has(BUCKET, pack(body))


def test_workers_that_note_buckets_at_once_lose_none() -> None:
    begun = Begun.make(UUID(int=1), (UUID(int=number) for number in range(10_000)))
    program = (
        "import sys; from uuid import UUID; from services.storage.volumes.begun import Begun\n"
        "begun = Begun(int(sys.argv[1]))\n"
        "for number in range(int(sys.argv[2]), int(sys.argv[2]) + 5000): begun.add(UUID(int=number))"
    )
    with closing(begun):
        ranges = (10_000, 12_500, 20_000)  # two of them have some in common
        running = [
            subprocess.Popen(
                [sys.executable, "-c", program, str(begun.descriptor), str(start)],
                pass_fds=(begun.descriptor,),
                cwd=_ROOT,
            )
            for start in ranges
        ]
        assert [process.wait(120) for process in running] == [0, 0, 0]
        assert begun.disk == UUID(int=1)
        noted = [*range(17_500), *range(20_000, 25_000)]
        assert all(UUID(int=number) in begun for number in noted)
        assert UUID(int=17_500) not in begun


def test_a_bucket_for_which_a_disk_took_no_folder_or_that_has_left_it_is_not_taken_for_one_that_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = a_body()
    with a_disk(tmp_path, Worker()) as disk:
        with monkeypatch.context() as full:
            full.setattr(Path, "mkdir", is_full)
            with pytest.raises(DiskFull):
                disk.make_bucket(BUCKET)
        assert not disk.may_hold(BUCKET)
        late = disk.stage(staged(body), len(body))
        late.write(body)
        late.finish()
        [settled] = disk.staged()
        settled.place()
        assert disk.remove(BUCKET, [pack(body)]) == {pack(body)}
        assert disk.drop_folders(BUCKET)
        with pytest.raises(FileNotFoundError):
            late.place()
        assert not disk.may_hold(BUCKET)


def test_what_was_put_on_a_disk_by_hand_and_found_is_waited_for_while_that_is_away_by_one_worker_too(
    tmp_path: Path,
) -> None:
    with a_disk(tmp_path / "one", Worker()) as one, a_disk(tmp_path / "two", Worker()) as two:
        disks = Disks([one, two], "a")
        one.make_bucket(BUCKET)
        body = a_body()
        place = two.path(BUCKET, pack(body))
        place.parent.mkdir(parents=True)
        place.write_bytes(body)
        assert disks.lacking(BUCKET, [(pack(body), len(body))]) == set()
        (tmp_path / "two").rename(tmp_path / "away")
        with pytest.raises(Unavailable):
            disks.open(BUCKET, pack(body), len(body))
        with pytest.raises(Unavailable):
            disks.remove(BUCKET, [pack(body)])


def test_a_disk_that_goes_when_it_was_chosen_is_not_called_full(tmp_path: Path) -> None:
    body = a_body()
    with a_disk(tmp_path / "one", Worker()) as disk:
        disk.make_bucket(BUCKET)
        (tmp_path / "one").rename(tmp_path / "away")
        with pytest.raises(Unavailable):
            disk.stage(staged(body), len(body))


@pytest.mark.parametrize("spread", [False, True])
def test_a_disk_that_is_pulled_and_fails_each_call_keeps_no_other_from_serving_what_was_not_begun_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, spread: bool
) -> None:
    sound, pulled = tmp_path / "sound", tmp_path / "pulled"
    with a_disk(sound, Worker()) as one, a_disk(pulled, Worker()) as two:
        disks = Disks([one, two], "a")
        body, other = a_body(), a_body()
        one.make_bucket(BUCKET)
        if spread:
            two.make_bucket(BUCKET)
        put(disks, body)
        fails_below(monkeypatch, pulled)
        assert [disk.there for disk in disks.states()] == [True, False]
        put(disks, other)
        for each in (body, other):
            opened = disks.open(BUCKET, pack(each), len(each))
            assert opened is not None
            opened.close()
        finished(disks, a_body())
        [waiting] = one.staged()
        assert not disks.is_taken(waiting)
        if spread:
            with pytest.raises(Unavailable):
                disks.remove(BUCKET, [pack(body)])
        else:
            assert disks.remove(BUCKET, [pack(body)]) == {pack(body)}


def test_a_disk_that_is_there_and_cannot_be_looked_at_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_disk(tmp_path, Worker()) as disk:
        fails_below(monkeypatch, tmp_path / "buckets")
        assert disk.is_there
        with pytest.raises(OSError, match="gone"):
            disk.has_bucket(BUCKET)
        assert disk.has(BUCKET, pack(a_body()))


def finished(disks: Disks, body: bytes) -> StagedBody:
    begun = disks.stage(staged(body), len(body))
    begun.write(body)
    begun.finish()
    return begun


def put(disks: Disks, body: bytes) -> None:
    disks.place(finished(disks, body))


def fails_below(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """As calls below a mount point whose device has gone."""

    def failing(call: Callable[..., Any]) -> Callable[..., Any]:
        def answer(path: Any, *args: Any, **others: Any) -> Any:
            if isinstance(path, str | Path) and Path(path).is_relative_to(folder):
                raise OSError(errno.EIO, "gone", str(path))
            return call(path, *args, **others)

        return answer

    monkeypatch.setattr(os, "stat", failing(os.stat))
    monkeypatch.setattr(Path, "read_bytes", failing(Path.read_bytes))


def is_full(_path: Path, *_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "full")
