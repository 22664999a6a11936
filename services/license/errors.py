import grpc

from services.common.errors import ServiceError


class NoSuchSerial(ServiceError):
    """This serial is not known: check OORT_SERIAL, or have the serial entered."""

    reason = "NO_SUCH_SERIAL"
    code = grpc.StatusCode.NOT_FOUND


class SerialInUse(ServiceError):
    """Another installation holds this serial until {until}: stop it and wait, or have its leases released."""

    reason = "SERIAL_IN_USE"
    code = grpc.StatusCode.FAILED_PRECONDITION


class BadSignature(ServiceError):
    """The request is not signed as it must be: {detail}"""

    reason = "BAD_SIGNATURE"
    code = grpc.StatusCode.PERMISSION_DENIED


class BadCertificate(ServiceError):
    """The certificate chain does not serve: {detail}"""

    reason = "BAD_CERTIFICATE"
    code = grpc.StatusCode.PERMISSION_DENIED
