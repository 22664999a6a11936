"""Nothing in a request is believed that its certificates and signature do not prove."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from oort.license.v1 import leases_pb2

from services.common.errors import InvalidArgument, ServiceError
from services.common.lease import Identity
from services.common.lease_request import Purpose, signer, statement
from services.common.testing.certificates import a_certificate_authority
from services.license.errors import BadCertificate, BadSignature
from services.license.requests import verify
from services.license.tests.conftest import Installation

NOW = datetime.now(UTC)
NONCE = b"0123456789abcdef"
MakeInstallation = Callable[..., Installation]


def verified(request: leases_pb2.AcquireRequest, now: datetime = NOW) -> None:
    verify(request, Purpose.ACQUIRE, now)


def a_request(identity: Identity, **fields: object) -> leases_pb2.AcquireRequest:
    """A well signed request, some of whose fields are others."""
    request = identity.request(NOW, NONCE)
    body = leases_pb2.LeaseRequest.FromString(request.request)
    for name, value in fields.items():
        setattr(body, name, value)
    request.request = body.SerializeToString()
    request.signature = identity.sign(statement(Purpose.ACQUIRE, request.request))
    return request


def test_a_proved_request_says_who_asks(an_installation: MakeInstallation) -> None:
    identity = an_installation().identity()
    found = verify(identity.request(NOW, NONCE), Purpose.ACQUIRE, NOW)
    assert (found.bond, found.nonce) == (identity.bond, NONCE)


def test_a_request_changed_on_the_way_or_signed_for_another_purpose_is_refused(
    an_installation: MakeInstallation,
) -> None:
    identity = an_installation().identity()
    changed = identity.request(NOW, NONCE)
    changed.request = changed.request.replace(b"example", b"evilone")
    other_purpose = identity.request(NOW, NONCE, Purpose.RELEASE)
    unsigned = identity.request(NOW, NONCE)
    unsigned.signature = b""
    for request in (changed, other_purpose, unsigned):
        with pytest.raises(BadSignature):
            verified(request)


def test_an_instance_asks_for_itself_alone(an_installation: MakeInstallation) -> None:
    identity = an_installation().identity("auth", "one")
    for fields in ({"role": "storage"}, {"instance": "two"}, {"role": "", "instance": ""}):
        with pytest.raises(BadCertificate, match="not issued to"):
            verified(a_request(identity, **fields))


def test_a_chain_that_does_not_hold_is_refused(an_installation: MakeInstallation) -> None:
    mine, other = an_installation(), an_installation()
    identity = mine.identity()
    own, ca = (
        identity.chain[: identity.chain.index(b"-----END CERTIFICATE-----\n") + 26],
        mine.authority.ca.read_bytes(),
    )
    for chain in (b"", b"nonsense", own, ca + own, ca + ca, own + other.authority.ca.read_bytes(), own + ca + ca):
        with pytest.raises(BadCertificate):
            verified(Identity(identity.bond, chain, identity.sign).request(NOW, NONCE))


def test_certificates_out_of_their_time_are_refused(an_installation: MakeInstallation, tmp_path: Path) -> None:
    installation = an_installation()
    identity = installation.identity()
    for begins in (NOW - timedelta(days=2), NOW + timedelta(hours=1)):
        certificate, key = installation.authority.issue("oort://auth/one", begins=begins, life=timedelta(days=1))
        chain = certificate.read_bytes() + installation.authority.ca.read_bytes()
        with pytest.raises(BadCertificate, match="not valid at this time"):
            verified(Identity(identity.bond, chain, signer(key.read_bytes())).request(NOW, NONCE))
    old = a_certificate_authority(tmp_path / "old", NOW - timedelta(days=2), timedelta(days=1))
    certificate, key = old.certificate("auth", "one")
    chain = certificate.read_bytes() + old.ca.read_bytes()
    with pytest.raises(BadCertificate, match="not valid at this time"):
        verified(Identity(identity.bond, chain, signer(key.read_bytes())).request(NOW, NONCE))


def test_an_instance_is_no_authority_and_an_authority_no_instance(an_installation: MakeInstallation) -> None:
    installation = an_installation()
    identity = installation.identity()
    certificate, key = installation.authority.issue("oort://auth/one", is_ca=True)
    chain = certificate.read_bytes() + installation.authority.ca.read_bytes()
    with pytest.raises(BadCertificate, match="must be a CA"):
        verified(Identity(identity.bond, chain, signer(key.read_bytes())).request(NOW, NONCE))


@pytest.mark.parametrize("minutes", [-6, 6])
def test_a_request_from_a_wrong_clock_is_refused(an_installation: MakeInstallation, minutes: int) -> None:
    request = an_installation().identity().request(NOW + timedelta(minutes=minutes), NONCE)
    with pytest.raises(InvalidArgument, match="clock"):
        verified(request)


@pytest.mark.parametrize(
    "fields",
    [
        {"nonce": b"short"},
        {"fingerprint": "unknown"},
        {"fingerprint": "AB" * 32},
        {"external_address": ""},
        {"external_address": "x" * 256},
    ],
)
def test_a_request_out_of_form_is_refused(an_installation: MakeInstallation, fields: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        verified(a_request(an_installation().identity(), **fields))


def test_what_is_no_request_at_all_is_refused(an_installation: MakeInstallation) -> None:
    identity = an_installation().identity()
    request = identity.request(NOW, NONCE)
    request.request = b"\xff\xff\xff"
    request.signature = identity.sign(statement(Purpose.ACQUIRE, request.request))
    with pytest.raises(InvalidArgument):
        verified(request)
    request.request = bytes(65 << 10)
    with pytest.raises(ServiceError, match="at most 64 KiB"):
        verified(request)
