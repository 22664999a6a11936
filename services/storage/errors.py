"""Why a storage node refuses a call: one class a reason (protos/oort/storage/v1/reasons.proto)."""

from uuid import UUID

import grpc

from services.common.errors import Busy, InvalidArgument, NotAllowed, ServiceError, Unavailable


class StorageError(ServiceError):
    """{detail}"""


class BucketBusy(Busy):
    """The bucket is being changed by others at the moment, and nothing was changed by this call: try again."""


class BadToken(StorageError):
    """The vault token is refused: {detail}. Ask auth for a new one."""

    reason = "BAD_TOKEN"
    code = grpc.StatusCode.UNAUTHENTICATED


class ExpiredToken(BadToken):
    """The vault token is refused: it has expired. Ask auth for a new one."""

    cause = "expired_token"

    def __init__(self, device: UUID) -> None:
        """`device` is whose token it is: auth has signed it."""
        super().__init__()
        self.device = device


class ForeignToken(BadToken):
    """The vault token is refused: it is for {what}. Ask auth for a new one."""

    cause = "foreign_token"


class MissingScope(NotAllowed):
    """The {shown} not allow to {scope}."""

    cause = "missing_scope"


class WrongBucket(NotAllowed):
    """The user name and password are of another vault."""

    cause = "wrong_bucket"


class WrongDevice(NotAllowed):
    """The session belongs to another device."""

    cause = "wrong_device"


class BadObjectName(InvalidArgument):
    """{name!r} is no name of an object: {form}."""

    cause = "bad_name"


class BadSignature(StorageError):
    """The opening of the session is not signed by the device that the vault token names."""

    reason = "BAD_SIGNATURE"
    code = grpc.StatusCode.UNAUTHENTICATED


class SessionOver(StorageError):
    """Session {session} is over: open a new one and go on from what is stored."""

    reason = "SESSION_OVER"
    code = grpc.StatusCode.FAILED_PRECONDITION


class Follows(StorageError):
    """Bucket {bucket} is cluster {cluster}'s to write to, and only read here: an operator can promote it."""

    reason = "FOLLOWS"
    code = grpc.StatusCode.FAILED_PRECONDITION


class SourceRefused(StorageError):
    """The cluster that is followed refuses: {detail}"""

    reason = "NOT_ALLOWED"
    code = grpc.StatusCode.FAILED_PRECONDITION


class SourceGone(SourceRefused):
    """What is to be followed is not there: {detail}"""


class ParentGone(StorageError):
    """Snapshot {parent} was removed: open the session with another parent, or with none."""

    reason = "PARENT_GONE"
    code = grpc.StatusCode.FAILED_PRECONDITION


class NameMismatch(StorageError):
    """{name} was refused: {detail}."""

    reason = "NAME_MISMATCH"
    code = grpc.StatusCode.INVALID_ARGUMENT


class QuotaExceeded(StorageError):
    """Bucket {bucket} may hold {limit} bytes, holds {used}, and {size} more do not fit."""

    reason = "QUOTA_EXCEEDED"
    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class SharedQuotaExceeded(QuotaExceeded):
    """The {whose} is {limit} bytes, and {size} more do not fit beside what other vaults have."""

    cause = "shared_quota_exceeded"


class Unentered(StorageError):
    """Node {node} holds a config that the catalogue does not know: `oort bucket adopt` or `node rescan` enters it."""

    reason = "DAMAGED"
    code = grpc.StatusCode.DATA_LOSS


class DiskFull(StorageError):
    """The disk of node {node} is full: nothing was stored. Free space there or add a node."""

    reason = "DISK_FULL"
    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class IndexNeeded(StorageError):
    """The session put or reserved a pack after its last index file: put an index file, then commit."""

    reason = "INDEX_NEEDED"
    code = grpc.StatusCode.FAILED_PRECONDITION


class NotReserved(StorageError):
    """The index file lists {count} packs that this session neither put nor reserved, {first} for one."""

    reason = "NOT_RESERVED"
    code = grpc.StatusCode.FAILED_PRECONDITION


class NoHome(Unavailable):
    """Node {node} is no home of bucket {bucket}, or just becomes one: try again."""


class TooFewCopies(StorageError):
    """{detail}"""

    reason = "TOO_FEW_COPIES"
    code = grpc.StatusCode.UNAVAILABLE


class Damaged(StorageError):
    """{name} is damaged or missing on every node that holds a copy: {detail}."""

    reason = "DAMAGED"
    code = grpc.StatusCode.DATA_LOSS


class NodeNeeded(StorageError):
    """{detail}"""

    reason = "NODE_NEEDED"
    code = grpc.StatusCode.FAILED_PRECONDITION


class Stalled(StorageError):
    """Nothing arrived for {seconds:g} seconds: the call was given up."""

    reason = "STALLED"
    code = grpc.StatusCode.DEADLINE_EXCEEDED


class NotInitialised(StorageError):
    """The vault in bucket {bucket} has no config yet: initialise it first."""

    reason = "NOT_INITIALISED"
    code = grpc.StatusCode.FAILED_PRECONDITION


class SealChanged(StorageError):
    """The seal in bucket {bucket} is another one by now than the one to be replaced: read it, and begin again."""

    reason = "SEAL_CHANGED"
    code = grpc.StatusCode.FAILED_PRECONDITION


class RetentionRunning(StorageError):
    """Another retention is running in bucket {bucket}: wait until it ends."""

    reason = "RETENTION_RUNNING"
    code = grpc.StatusCode.FAILED_PRECONDITION


class RestoreRunning(RetentionRunning):
    """An operator is bringing back what was removed from bucket {bucket}: wait until that has ended."""


class BeingRemoved(StorageError):
    """{name} is just being removed: try again."""

    reason = "BEING_REMOVED"
    code = grpc.StatusCode.UNAVAILABLE


class TooBusy(StorageError):
    """This node serves {limit} streams already: try again, or another node."""

    reason = "TOO_BUSY"
    code = grpc.StatusCode.UNAVAILABLE


class TooManyCalls(StorageError):
    """This device calls the cluster too often: try again in {seconds:.2f} s."""

    reason = "RATE_LIMITED"
    cause = "device_rate"
    code = grpc.StatusCode.RESOURCE_EXHAUSTED

    @property
    def retry_seconds(self) -> float:
        return float(str(self.fields["seconds"]))


class TooManyCallsOfRange(TooManyCalls):
    """The addresses around this one call the cluster too often: try again in {seconds:.2f} s."""

    cause = "range_rate"


class TooManyCallsOfStrangers(TooManyCalls):
    """The addresses around this one show no good token too often: try again in {seconds:.2f} s."""

    cause = "stranger_rate"


class SnapshotInUse(StorageError):
    """{name} is the parent of a backup that is running: try again when that has ended."""

    reason = "SNAPSHOT_IN_USE"
    code = grpc.StatusCode.FAILED_PRECONDITION


class Held(StorageError):
    """{name} stays: {detail}."""

    reason = "HELD"
    code = grpc.StatusCode.FAILED_PRECONDITION


class RemovalRunning(StorageError):
    """A {purpose} is open in the bucket: nothing comes back until it ends, or `oort session end {session}` ends it."""

    reason = "RETENTION_RUNNING"
    code = grpc.StatusCode.FAILED_PRECONDITION


class MarkedAlready(StorageError):
    """This session has drawn its mark: what was listed after it is what counts. Open a new session for another."""

    reason = "MARKED_ALREADY"
    code = grpc.StatusCode.FAILED_PRECONDITION


class MarkNeeded(StorageError):
    """A retention draws its mark before it lists and condemns: draw it first."""

    reason = "MARK_NEEDED"
    code = grpc.StatusCode.FAILED_PRECONDITION


class NotLocked(StorageError):
    """No lock of this restic is in force: it was never written, was removed, or not refreshed for 30 minutes."""

    reason = "NOT_LOCKED"
    code = grpc.StatusCode.FAILED_PRECONDITION


class InUse(StorageError):
    """{name} stays: {detail}."""

    reason = "IN_USE"
    code = grpc.StatusCode.FAILED_PRECONDITION


class Exists(StorageError):
    """The vault has a config: it is initialised already."""

    reason = "EXISTS"
    code = grpc.StatusCode.PERMISSION_DENIED
