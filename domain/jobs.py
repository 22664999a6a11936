"""Numbers of jobs. Users' scripts read them (BACKUP_TOOL_JOB_STATUS), so they never change."""

from enum import IntEnum


class JobStatus(IntEnum):
    """5000-5999 ended well, 6000-6999 running, 7000-7999 ended badly."""

    SUCCESS = 5000
    RUNNING_ACTIVE = 6001
    RUNNING_REVIVED = 6002
    RUNNING_TRYAGAIN = 6003
    NOT_YET_STARTED = 6004
    TIMEOUT = 7000
    WARNING = 7001
    ERROR = 7002
    QUOTA_EXCEEDED = 7003
    MISSED = 7004
    CANCELLED = 7005
    SKIPPED_ALREADY_RUNNING = 7006
    ABANDONED = 7007

    @property
    def is_running(self) -> bool:
        return 6000 <= self < 7000  # noqa: PLR2004 - the range is the definition


class JobKind(IntEnum):
    """What the replaced product calls the classification of a job."""

    UNKNOWN = 4000
    BACKUP = 4001
    RESTORE = 4002
    RETENTION = 4003
    UNLOCK = 4004
    DELETE_SNAPSHOT = 4005
    REMEASURE = 4006
    UPDATE = 4007
    IMPORT = 4008
    REINDEX = 4009
    DEEP_VERIFY = 4010
    UNINSTALL = 4011
