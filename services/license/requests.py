"""Who asks for a lease: nothing in a request is believed that its certificates and signature do not prove.

Kept true: a verified request was signed, for this purpose, by the key of a certificate that its installation's CA
issued to the very instance it names.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from google.protobuf.message import DecodeError
from oort.license.v1 import leases_pb2

from services.common.errors import InvalidArgument
from services.common.identity import Instance
from services.common.lease_request import Purpose, installation_of, is_signed_by, statement
from services.common.lease_token import Bond
from services.common.messages import datetime_of
from services.license.errors import BadCertificate, BadSignature

# How far an instance's clock may be from this server's.
SKEW = timedelta(minutes=5)
_NONCE_BYTES = 16
_CHAIN_LENGTH = 2
_MOST_BYTES = 64 << 10
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_LONGEST_ADDRESS = 255


@dataclass(frozen=True, slots=True)
class VerifiedRequest:
    """An instance's own words, proved."""

    bond: Bond
    nonce: bytes


def verify(
    request: leases_pb2.AcquireRequest | leases_pb2.ReleaseRequest, purpose: Purpose, now: datetime
) -> VerifiedRequest:
    """Check everything that needs no database. Raises InvalidArgument, BadCertificate, BadSignature."""
    if len(request.request) + len(request.certificate_chain) > _MOST_BYTES:
        raise InvalidArgument(detail="A lease request has at most 64 KiB.")
    instance_certificate, ca = _chain(request.certificate_chain, now)
    if not is_signed_by(instance_certificate, statement(purpose, request.request), request.signature):
        raise BadSignature(detail="the signature is not of the certificate's key.")
    asked = _lease_request(request.request)
    if abs(datetime_of(asked.asked, "asked") - now) > SKEW:
        minutes = SKEW.seconds // 60
        raise InvalidArgument(detail=f"The clock of this instance is wrong by more than {minutes} minutes: set it.")
    if Instance(asked.role, asked.instance) not in _instances(instance_certificate):
        raise BadCertificate(detail=f"it was not issued to oort://{asked.role}/{asked.instance}.")
    bond = Bond(
        serial=asked.serial,
        installation=installation_of(ca),
        role=asked.role,
        instance=asked.instance,
        fingerprint=asked.fingerprint,
        address=asked.external_address,
    )
    return VerifiedRequest(bond, asked.nonce)


def _lease_request(body: bytes) -> leases_pb2.LeaseRequest:
    try:
        asked = leases_pb2.LeaseRequest.FromString(body)
    except DecodeError:
        raise InvalidArgument(detail="request is not a LeaseRequest.") from None
    if len(asked.nonce) != _NONCE_BYTES:
        raise InvalidArgument(detail=f"nonce has {_NONCE_BYTES} bytes.")
    if not _FINGERPRINT.fullmatch(asked.fingerprint):
        raise InvalidArgument(detail="fingerprint is a SHA-256 in hex.")
    if not 0 < len(asked.external_address) <= _LONGEST_ADDRESS:
        raise InvalidArgument(detail=f"external_address has 1 to {_LONGEST_ADDRESS} characters.")
    return asked


def _chain(pem: bytes, now: datetime) -> tuple[x509.Certificate, x509.Certificate]:
    try:
        chain = x509.load_pem_x509_certificates(pem)
    except ValueError:
        chain = []
    if len(chain) != _CHAIN_LENGTH:
        raise BadCertificate(detail="it holds the instance's certificate and then the CA's, in PEM.")
    for certificate in chain:
        if not certificate.not_valid_before_utc - SKEW <= now <= certificate.not_valid_after_utc:
            raise BadCertificate(detail="a certificate in it is not valid at this time.")
    for issued, issuer in pairwise([*chain, chain[-1]]):
        try:
            issued.verify_directly_issued_by(issuer)
        except (InvalidSignature, ValueError, TypeError):
            raise BadCertificate(detail="its certificates do not follow from each other.") from None
    if not _is_ca(chain[1]) or _is_ca(chain[0]):
        raise BadCertificate(detail="the second certificate must be a CA, and the first must not.")
    return chain[0], chain[1]


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return False


def _instances(certificate: x509.Certificate) -> set[Instance]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return set()
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return {instance for uri in uris if (instance := Instance.parse(uri))}
