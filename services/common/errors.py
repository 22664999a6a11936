"""Errors that a caller may see, and the one place where they become a gRPC status.

Kept true: every refusal carries google.rpc.ErrorInfo with a reason of the role's enum and the domain `oort.<role>`, and
google.rpc.RetryInfo where waiting is known to help; a traceback goes to the log and never to the caller.
"""

from typing import ClassVar

import grpc
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status


class ServiceError(Exception):
    """{detail}"""

    # A name in the role's enum `Reason` (protos/oort/<role>/v1/reasons.proto).
    reason: ClassVar[str] = "INTERNAL"
    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    # The label of `oort_refusals_total`, where an operator wants to know more than the reason says.
    cause: ClassVar[str] = "internal"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "cause" not in cls.__dict__ and "reason" in cls.__dict__:
            cls.cause = cls.reason.lower()

    def __init__(self, **fields: object) -> None:
        super().__init__((self.__doc__ or "").format(**fields))
        self.fields = fields

    @property
    def retry_seconds(self) -> float | None:
        """After which the same call may go through; None where nobody knows."""
        return None


class InvalidArgument(ServiceError):
    """{detail}"""

    reason = "INVALID_ARGUMENT"
    code = grpc.StatusCode.INVALID_ARGUMENT


class NotSignedIn(ServiceError):
    """Sign in first: the call carries no session that is valid here."""

    reason = "NOT_SIGNED_IN"
    code = grpc.StatusCode.UNAUTHENTICATED


class NotAllowed(ServiceError):
    """{detail}"""

    reason = "NOT_ALLOWED"
    code = grpc.StatusCode.PERMISSION_DENIED


class NotFound(ServiceError):
    """There is no {what}."""

    reason = "NOT_FOUND"
    code = grpc.StatusCode.NOT_FOUND


class Unavailable(ServiceError):
    """{what} cannot be reached at the moment: try again."""

    reason = "UNAVAILABLE"
    code = grpc.StatusCode.UNAVAILABLE


class Busy(Unavailable):
    """{what} is busy or away at the moment: try again."""

    # The unit of work that raised it changed nothing. The call may have changed something in one before.


class InternalError(ServiceError):
    """Something went wrong on the server; its log has the cause under error id {error_id}."""


class StartError(Exception):
    """Why a process cannot start or go on: one line for whoever started it, and the code it ends with."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def to_status(error: ServiceError, role: str) -> Status:
    """What the caller gets; `role` names the domain of the reason."""
    code: int = error.code.value[0]
    status = Status(code=code, message=str(error))
    status.details.add().Pack(ErrorInfo(reason=error.reason, domain=f"oort.{role}"))
    if error.retry_seconds is not None:
        retry = RetryInfo()
        retry.retry_delay.FromNanoseconds(round(error.retry_seconds * 1e9))
        status.details.add().Pack(retry)
    return status
