from domain.jobs import JobKind, JobStatus


def test_the_numbers_that_scripts_read_are_fixed() -> None:
    assert (JobStatus.SUCCESS, JobStatus.RUNNING_ACTIVE) == (5000, 6001)
    assert (JobStatus.WARNING, JobStatus.ERROR, JobStatus.QUOTA_EXCEEDED) == (7001, 7002, 7003)
    assert (JobKind.BACKUP, JobKind.RESTORE, JobKind.RETENTION) == (4001, 4002, 4003)


def test_only_the_six_thousands_are_running() -> None:
    assert {status for status in JobStatus if status.is_running} == {
        JobStatus.RUNNING_ACTIVE,
        JobStatus.RUNNING_REVIVED,
        JobStatus.RUNNING_TRYAGAIN,
        JobStatus.NOT_YET_STARTED,
    }
