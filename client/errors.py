"""Every error that a person may see, with the exit code that `backup-tool` ends with.

A class's docstring is its message: `{}` fields are filled from the arguments. docs/exit-codes.md is the table of
codes, and a test compares it with this file.
"""

from typing import ClassVar

WARNINGS_EXIT_CODE = 3  # of what is done, but not of all of it


def reason_of(error: OSError | ValueError) -> str:
    """An error of the system, or of a path that can be none, in a few words without the path, for a sentence."""
    said = error.strerror if isinstance(error, OSError) else ""
    return (said or str(error)).lower()


class OortError(Exception):
    """{detail}"""

    exit_code: ClassVar[int] = 1

    def __init__(self, **fields: object) -> None:
        super().__init__((self.__doc__ or "").format(**fields))
        self.fields = fields


class UsageError(OortError):
    """{detail}"""

    exit_code = 2


class OutputLost(OortError):
    """The result could not be written to standard output: {reason}."""


class ReaderGone(OutputLost):
    """Whoever read what was told has closed the pipe: {reason}."""

    exit_code = 141


# Account and connection


class AccountError(OortError):
    """{detail}"""

    exit_code = 4


class NotLoggedIn(AccountError):
    """This device is not logged in: run `backup-tool login`."""


class HomeUnusable(OortError):
    """This device's folder {home} cannot be used: {reason}."""


class HomeFull(HomeUnusable):
    """The disk of this device's folder {home} is full: free some space there, then run the command again."""

    exit_code = 7


class DamagedHome(AccountError):
    """{file} is damaged: run `backup-tool login` again."""


class WrongPassword(AccountError):
    """Wrong user name or password: check both and log in again."""


class WeakPassword(AccountError):
    """The password is too weak: {reason}"""


class BadRecoveryCode(AccountError):
    """The recovery code is not right: {detail}"""


class BrokenSeal(OortError):
    """{what} does not open with this account's key: it was altered, or belongs to another account."""

    exit_code = 8


class ServerError(OortError):
    """{detail}"""

    exit_code = 5


class ServerUnreachable(ServerError):
    """Cannot reach {server}: {reason}. Check the address and the network, then try again."""


class UntrustedServer(ServerError):
    """{server} does not present a certificate of the CA in {ca}: check the address and the CA file."""


class NameTaken(OortError):
    """{detail}"""


class NotFound(OortError):
    """{detail}"""

    exit_code = 6


class UnsafeServer(ServerError):
    """The server asks for unsafe treatment of the password ({detail}): nothing was sent. Ask its operator."""


# Vaults and their stores


class NoSuchVault(OortError):
    """There is no vault named '{name}': `backup-tool vault list` shows those there are."""

    exit_code = 6


class NoSuchSnapshot(OortError):
    """No snapshot matches '{snapshot}': `backup-tool snapshots` lists those there are."""

    exit_code = 6


class NoOwnSnapshot(NoSuchSnapshot):
    """No snapshot of the vault is of this device: give an id, as `snapshots --all-devices` lists them."""


class SnapshotRemoved(OortError):
    """Snapshot {snapshot} was removed from {place} meanwhile: what was read of it so far is kept."""

    exit_code = 6


class AmbiguousSnapshot(NoSuchSnapshot):
    """{count} snapshots begin with '{snapshot}': give more digits."""


class NoSuchPath(OortError):
    """Snapshot {snapshot} has no '{path}': `backup-tool ls` lists what it has."""

    exit_code = 6


class NothingLeft(OortError):
    """Nothing of {paths} could be read, or all of it is left out: no snapshot was made."""


class WorkerLost(OortError):
    """A process that worked for this backup {reason}: no snapshot was made. Run the backup again."""


class StreamIncomplete(OortError):
    """{stream} {what}: no snapshot was made."""


class PromiseBroken(OortError):
    """{place} does not keep what a vault needs: {names}. Put no backups there; take another store."""


class NoSuchItem(OortError):
    """There is no item '{item}': `backup-tool snapshots --group-by item` lists those of a vault."""

    exit_code = 6


class AmbiguousItem(NoSuchItem):
    """{count} items begin with '{item}': give more digits."""


class BadRetention(UsageError):
    """The retention rules are not right: {detail}. Nothing was removed."""


class NoSnapshots(OortError):
    """Nothing was pruned: the vault has no snapshot, and packs ({packs}). Find its snapshots, or back up first."""

    exit_code = 8


class TargetFull(OortError):
    """{target} is full: {detail}. Free space there, or restore to another folder; what is whole already was kept."""

    exit_code = 7


class StoreError(OortError):
    """{place}: {detail}"""

    exit_code = 5


class StoreFull(StoreError):
    """{place} is full: {detail}. Free space there, or raise the quota, then run the command again."""

    exit_code = 7


class NoRoomForIndex(StoreFull):
    """{place} is full: {detail}. To remove more takes an index file: free at least {size} bytes there and repeat it."""


class NoRoomForLock(StoreFull):
    """{place} is full: {detail}. To remove anything takes a lock: free at least {size} bytes there and repeat it."""


class QuotaExceeded(StoreFull):
    """{place} has reached its quota: {detail}. Ask your provider for more, or free some by `retention --prune`."""


class ObjectMissing(StoreError):
    """{name} is missing from {place}."""

    exit_code = 8


class NameMismatch(StoreError):
    """{name} was refused by {place}: its content does not have that name."""

    exit_code = 8


class SessionOver(StoreError):
    """{place} has ended this session: run the command again."""


class ParentGone(StoreError):
    """The snapshot {parent} was removed from {place} meanwhile."""


class SnapshotInUse(StoreError):
    """A backup that is running in {place} builds on snapshot {snapshot}: try again when it has ended."""

    @property
    def why(self) -> str:
        """The reason alone, for who names the snapshot."""
        return "a backup that is running builds on it"


class SnapshotHeld(SnapshotInUse):
    """Snapshot {snapshot} stays in {place}: {detail}."""

    @property
    def why(self) -> str:
        return str(self.fields["detail"])


class RetentionRunning(StoreError):
    """Another retention is running in {place}, or an operator brings back what was removed: try again later."""


class SealChanged(StoreError):
    """Another device has just changed the key of the vault in {place}: run the command again."""


class NotSupported(StoreError):
    """{place} does not allow this: {detail}."""


class AppendOnly(NotSupported):
    """{place} lets this device only add: another one must do this."""


# The vault's content


class DamagedVault(OortError):
    """{name} is damaged: {detail}"""

    exit_code = 8


class TruncatedObject(DamagedVault):
    """{name} is shorter than expected: {detail}"""


class WrongRepositoryPassword(OortError):
    """The repository password does not open the vault at {place}."""

    exit_code = 4
