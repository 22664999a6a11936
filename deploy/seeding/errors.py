"""Why a folder cannot be written as a bucket's image, or read as a repository."""

from client.errors import OortError, UsageError


class FolderTaken(UsageError):
    """{folder} holds something else than what an earlier export of this bucket left: give a new folder."""


class FolderBusy(OortError):
    """Another export is writing to {folder}: run the command again when it has ended, or give another folder."""


class FolderFull(OortError):
    """{folder} is full: what is whole there stays. Free space, then run the command again: it goes on from there."""

    exit_code = 7


class NotARepository(UsageError):
    """{folder} is no restic repository: {detail}. Nothing was taken in."""


class AnotherVault(UsageError):
    """Bucket {bucket} holds another vault than {folder} (another config): import it into an empty bucket."""


class Unreadable(OortError):
    """{detail}"""

    exit_code = 3
