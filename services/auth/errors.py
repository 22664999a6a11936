"""Why auth refuses: reasons of protos/oort/auth/v1/reasons.proto, each with the line that a person reads."""

from grpc import StatusCode

from services.common.errors import InvalidArgument, NotSignedIn, ServiceError


class WrongCredentials(ServiceError):
    """Wrong user name or password."""

    reason = "WRONG_CREDENTIALS"
    code = StatusCode.UNAUTHENTICATED


class WrongRecoveryCode(ServiceError):
    """Wrong user name or recovery code."""

    reason = "WRONG_CREDENTIALS"
    code = StatusCode.UNAUTHENTICATED


class WrongDeviceKey(ServiceError):
    """The signature is not by this device's key: log in with the password as a new device."""

    reason = "WRONG_CREDENTIALS"
    code = StatusCode.UNAUTHENTICATED


class TooManyAttempts(ServiceError):
    """Too many failed attempts: try again in {seconds} s."""

    reason = "TOO_MANY_ATTEMPTS"
    code = StatusCode.RESOURCE_EXHAUSTED


class Suspended(ServiceError):
    """This account is suspended: ask your administrator."""

    reason = "SUSPENDED"
    code = StatusCode.PERMISSION_DENIED


class DeviceUnknown(ServiceError):
    """This device is not registered, or was revoked: log in with the password as a new device."""

    reason = "DEVICE_UNKNOWN"
    code = StatusCode.UNAUTHENTICATED


class AppendOnly(ServiceError):
    """This device may only add: another device of the account must do this."""

    reason = "APPEND_ONLY"
    code = StatusCode.PERMISSION_DENIED


class ChallengeOver(NotSignedIn):
    """The challenge was used or is older than a minute: begin the login again."""


class NameTaken(ServiceError):
    """The name {name} is taken: choose another."""

    reason = "NAME_TAKEN"
    code = StatusCode.ALREADY_EXISTS


class BadName(ServiceError):
    """{what} {rule}."""

    reason = "BAD_NAME"
    code = StatusCode.INVALID_ARGUMENT


class IdTaken(InvalidArgument):
    """The {what} {id} was created with other content: choose a new id."""


class NoSuchTemplate(ServiceError):
    """There is no storage template {name}. {known}"""

    reason = "NO_SUCH_TEMPLATE"
    code = StatusCode.NOT_FOUND


class VaultHasKey(ServiceError):
    """The vault has a key: another device was first. Read the vault again and use that key."""

    reason = "VAULT_HAS_KEY"
    code = StatusCode.ALREADY_EXISTS


class StaleVersion(ServiceError):
    """It was changed meanwhile: read it again, then change it."""

    reason = "STALE_VERSION"
    code = StatusCode.FAILED_PRECONDITION


class StorageUnavailable(ServiceError):
    """The storage cluster {cluster} does not serve this at the moment: {detail} Nothing was changed; try again."""

    reason = "STORAGE_UNAVAILABLE"
    code = StatusCode.UNAVAILABLE


class BucketRefused(ServiceError):
    """{detail}"""

    reason = "BUCKET_REFUSED"
    code = StatusCode.FAILED_PRECONDITION


class AdminExists(ServiceError):
    """The installation has its first administrator already."""

    reason = "ADMIN_EXISTS"
    code = StatusCode.ALREADY_EXISTS


class JobFinished(ServiceError):
    """The job has ended already, with another result."""

    reason = "JOB_FINISHED"
    code = StatusCode.FAILED_PRECONDITION
