import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.account.device import Device
from client.account.items import Items
from client.account.job_record import JobCounts, JobRecord, JobShelf, VaultEnd
from client.account.jobs import INFO, WARNING, RunningJob, error_of, list_jobs, read_log, report_kept
from client.account.tests.an_auth import Office
from client.errors import ServerError
from domain.jobs import JobKind, JobStatus


@pytest.fixture
def device(office: Office) -> Iterator[Device]:
    with Device(office.logged_in()) as device:
        yield device


def a_job(device: Device) -> RunningJob:
    return RunningJob(device, JobKind.BACKUP, "vault", "item")


def kept(device: Device) -> list[str]:
    return sorted(path.suffix for path in (device.home.folder / "jobs").rglob("*") if path.is_file())


def test_a_job_is_told_from_start_to_end_and_leaves_nothing_in_the_home(office: Office, device: Device) -> None:
    job = a_job(device)
    job.begin()
    job.log(WARNING, "/home/alice/diary: permission denied")
    job.advanced(JobCounts(files=3, uploaded_bytes=10))
    assert job.end(JobStatus.WARNING, snapshot="ab" * 32) is None
    told = office.auth.jobs[job.id]
    assert (told.status, told.snapshot, told.counts.files) == (JobStatus.WARNING, "ab" * 32, 3)
    assert told.started.ToNanoseconds() <= told.ended.ToNanoseconds()
    assert kept(device) == []
    assert [text for _, text in read_log(device, job.id)] == ["/home/alice/diary: permission denied"]
    assert all(b"diary" not in sent for sent in office.auth.seen)


def test_a_line_that_was_moved_to_another_place_is_not_shown_as_it_was(office: Office, device: Device) -> None:
    job = a_job(device)
    job.begin()
    job.log(INFO, "one")
    job.log(INFO, "two")
    job.end(JobStatus.SUCCESS)
    office.auth.lines[job.id].reverse()
    assert all("does not open" in text for _, text in read_log(device, job.id))


def test_a_job_while_auth_is_away_is_told_later_with_its_true_times(office: Office, device: Device) -> None:
    office.auth.is_down = True
    job = a_job(device)
    job.begin()
    job.log(WARNING, "a line")
    assert job.end(JobStatus.SUCCESS, snapshot="cd" * 32) is not None
    assert kept(device) == [".json", ".lock"]
    with pytest.raises(ServerError):
        report_kept(device)
    office.auth.is_down = False
    with Device(device.home) as later:
        assert report_kept(later) == 0
        assert [text for _, text in read_log(later, job.id)] == ["a line"]
    told = office.auth.jobs[job.id]
    assert told.status == JobStatus.SUCCESS
    assert told.ended.ToNanoseconds() == job.record.ended_ns
    assert kept(device) == []


def test_a_job_whose_process_died_is_told_as_abandoned(office: Office, device: Device) -> None:
    record = JobRecord(a_job(device).id, JobKind.BACKUP, "vault", "item", 1_700_000_000_000_000_000, "0")
    shelf = JobShelf(device.home, device.id)
    shelf.hold(record.id).close()
    shelf.keep(record)
    assert report_kept(device) == 0
    assert office.auth.jobs[record.id].status == JobStatus.ABANDONED
    assert kept(device) == []


def test_a_job_that_died_keeps_what_is_known_of_its_vaults_and_the_others_are_abandoned(
    office: Office, device: Device
) -> None:
    job = RunningJob(device, JobKind.BACKUP, "first", "item", vaults=["first", "second", "third"])
    job.vault_ended("second", JobStatus.SUCCESS, "ab" * 32)
    job.vault_ended("third", JobStatus.ERROR, error="/mnt/disk: no space left")
    JobShelf(device.home, device.id).hold(job.id).close()
    assert report_kept(device) == 0
    told = office.auth.jobs[job.id]
    assert [(one.vault_id, one.status, one.snapshot) for one in told.vaults] == [
        ("first", JobStatus.ABANDONED, ""),
        ("second", JobStatus.SUCCESS, "ab" * 32),
        ("third", JobStatus.ERROR, ""),
    ]
    assert [error_of(device, job.id, one) for one in told.vaults] == [None, None, "/mnt/disk: no space left"]
    assert "does not open" in (error_of(device, "another job", told.vaults[2]) or "")
    assert all(b"no space left" not in sent for sent in office.auth.seen)


def test_a_record_of_an_older_version_has_no_results_of_vaults(device: Device) -> None:
    fields = json.loads(a_job(device).record.to_json())
    del fields["vaults"]
    assert JobRecord.from_json(json.dumps(fields).encode()).vaults == []


def test_a_job_that_another_process_runs_is_left_to_it(office: Office, device: Device) -> None:
    record = JobRecord(a_job(device).id, JobKind.BACKUP, "vault", "item", 1, "0")
    shelf = JobShelf(device.home, device.id)
    with shelf.hold(record.id):
        shelf.keep(record)
        assert report_kept(device) == 0
    assert office.auth.jobs == {}
    assert kept(device) == [".json", ".lock"]


def test_a_record_that_is_damaged_stands_in_nobodys_way(office: Office, device: Device) -> None:
    device.home.write(f"jobs/{device.id}/broken.json", b"{")
    assert report_kept(device) == 0
    assert office.auth.jobs == {}


def test_a_record_reads_back_as_it_was() -> None:
    record = JobRecord("id", 1, "v", "i", 5, "0", counts=JobCounts(files=2), snapshot="ab")
    record.vaults.append(VaultEnd("v", JobStatus.ERROR, "cd", b"sealed"))
    assert JobRecord.from_json(record.to_json()) == record
    assert json.loads(record.to_json())["counts"]["files"] == 2


def test_a_home_that_cannot_be_written_does_not_stop_a_job(
    office: Office, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    job = a_job(device)
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        job.begin()
        assert job.unkept is not None
        assert job.end(JobStatus.SUCCESS) is None
    assert office.auth.jobs[job.id].status == JobStatus.SUCCESS


def test_jobs_are_listed_newest_first(device: Device) -> None:
    jobs = [a_job(device) for _ in range(3)]
    for job in jobs:
        job.begin()
        job.end(JobStatus.SUCCESS)
    assert [job.id for job in list_jobs(device, all_devices=False, most=2)] == [jobs[2].id, jobs[1].id]


def test_the_same_paths_are_the_same_item_on_the_same_device(office: Office, device: Device) -> None:
    item = Items(device).of_paths(["/brown", "/amber"])
    assert Items(device).of_paths(["/amber", "/brown"]) == item
    assert Items(device).of_paths(["/amber"]) != item
    with Device(office.logged_in("second")) as other:
        assert Items(other).of_paths(["/amber", "/brown"]) != item
    assert all(b"/amber" not in sent for sent in office.auth.seen)


def test_an_item_made_while_auth_is_away_is_entered_later(office: Office, device: Device, tmp_path: Path) -> None:
    path = str(tmp_path / "caf\udce9")  # bytes that are no text
    office.auth.is_down = True
    item = Items(device).of_paths([path])
    assert Items(device).of_paths([path]) == item
    office.auth.is_down = False
    with Device(device.home) as later:
        assert Items(later).of_paths([path]) == item
        Items(later).of_paths(["/other"])
    assert item in office.auth.items


def test_a_list_of_more_paths_than_auth_takes_is_one_item_too(office: Office, device: Device) -> None:
    many = [f"/home/alice/{number:06}" for number in range(10_000)]
    item = Items(device).of_paths(many)
    assert Items(device).of_paths(many[::-1]) == item
    assert Items(device).of_paths(many[1:]) != item
    assert all(len(item.sealed) < 256 << 10 for item in office.auth.items.values())
    office.auth.is_down = True
    assert Items(device).of_paths(many) == item


def test_a_long_line_is_cut_so_that_a_message_holds_as_many_as_are_sent(device: Device) -> None:
    job = a_job(device)
    job.begin()
    for _ in range(500):
        job.log(WARNING, "x" * 100_000)
    assert job.end(JobStatus.WARNING) is None
    assert {len(text) for _, text in read_log(device, job.id)} == {8000}
