import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from oort.license.v1 import leases_pb2, leases_pb2_grpc

from services.common.database import Database
from services.common.lease import Identity
from services.common.lease_request import Purpose, installation_of, signer
from services.common.lease_token import Bond, Lease
from services.common.listeners import Served
from services.common.provision import DatabaseUrls
from services.common.testing.certificates import Authority, a_certificate_authority
from services.common.testing.clock import ManualClock
from services.common.testing.server import Endpoints, serving
from services.license.leases import Leasing
from services.license.rpc.leases import LeasesRpc
from services.license.rpc.serials import SerialsRpc

LIFE, GRACE = timedelta(days=1), timedelta(days=3)


@dataclass
class Installation:
    """An operator's installation: asks for leases as its instances do."""

    authority: Authority
    serial: str

    def identity(self, role: str = "auth", instance: str = "one", **others: str) -> Identity:
        certificate, key = self.authority.certificate(role, instance)
        bond = Bond(
            serial=others.get("serial", self.serial),
            installation=installation_of(x509.load_pem_x509_certificate(self.authority.ca.read_bytes())),
            role=role,
            instance=instance,
            fingerprint=others.get("fingerprint", "ab" * 32),
            address=others.get("address", "auth.example:8060"),
        )
        chain = certificate.read_bytes() + self.authority.ca.read_bytes()
        return Identity(bond, chain, signer(key.read_bytes()))


@dataclass
class LicenseRole:
    """The licence role, served inside the test on a clock that jumps."""

    endpoints: Endpoints
    clock: ManualClock
    key: Ed25519PrivateKey
    db: Database
    channels: list[grpc.aio.Channel] = field(default_factory=list)

    async def acquire(self, identity: Identity) -> Lease:
        request = identity.request(self.clock.now(), secrets.token_bytes(16))
        return await self.answer(request)

    async def answer(self, request: leases_pb2.AcquireRequest) -> Lease:
        async with self.endpoints.public_channel() as channel:
            answer = await leases_pb2_grpc.LeaseServiceStub(channel).Acquire(request, timeout=60)
        return Lease.from_token(answer.lease, self.key.public_key())

    async def release(self, identity: Identity, purpose: Purpose = Purpose.RELEASE) -> None:
        signed = identity.request(self.clock.now(), secrets.token_bytes(16), purpose)
        request = leases_pb2.ReleaseRequest(
            request=signed.request, certificate_chain=signed.certificate_chain, signature=signed.signature
        )
        async with self.endpoints.public_channel() as channel:
            await leases_pb2_grpc.LeaseServiceStub(channel).Release(request, timeout=60)

    async def put_serial(self, serial: str, description: str = "", role: str = "operator") -> None:
        request = leases_pb2.PutSerialRequest(serial=serial, description=description)
        async with self.endpoints.internal_channel(role, "tests") as channel:
            await leases_pb2_grpc.SerialServiceStub(channel).PutSerial(request, timeout=60)

    async def list_leases(
        self, page_size: int = 0, page_token: str = "", role: str = "operator"
    ) -> leases_pb2.ListLeasesResponse:
        request = leases_pb2.ListLeasesRequest(page_size=page_size, page_token=page_token)
        async with self.endpoints.internal_channel(role, "tests") as channel:
            return await leases_pb2_grpc.SerialServiceStub(channel).ListLeases(request, timeout=60)


StartRole = Callable[[], AbstractAsyncContextManager[LicenseRole]]


@pytest.fixture(scope="module")
def license_database(a_database: Callable[[str], DatabaseUrls]) -> DatabaseUrls:
    return a_database("license")


@pytest.fixture
def license_role(license_database: DatabaseUrls, tmp_path: Path) -> StartRole:
    """Starts the role; its own CA is the vendor's, not that of any installation."""
    vendor = a_certificate_authority(tmp_path / "vendor")

    @asynccontextmanager
    async def start() -> AsyncIterator[LicenseRole]:
        clock, key = ManualClock(datetime.now(UTC)), Ed25519PrivateKey.generate()
        db = await Database.open(license_database.app, license_database.worker, connections=4, wait_seconds=60)
        leases = LeasesRpc(Leasing(db, clock, key, LIFE, GRACE), clock)
        public = [Served(leases_pb2_grpc.add_LeaseServiceServicer_to_server, leases, "oort.license.v1.LeaseService")]
        serials = SerialsRpc(db, clock)
        internal = [
            Served(leases_pb2_grpc.add_SerialServiceServicer_to_server, serials, "oort.license.v1.SerialService")
        ]
        try:
            async with serving("license", vendor, public=public, internal=internal, clock=clock) as endpoints:
                yield LicenseRole(endpoints, clock, key, db)
        finally:
            await db.close()

    return start


def a_serial() -> str:
    text = secrets.token_hex(12).upper()
    return "-".join(text[at : at + 4] for at in range(0, 24, 4))


@pytest.fixture
def an_installation(tmp_path: Path) -> Callable[..., Installation]:
    """Makes installations with CAs of their own; each under a new serial unless one is given."""

    def make(serial: str = "") -> Installation:
        return Installation(a_certificate_authority(tmp_path / secrets.token_hex(4)), serial or a_serial())

    return make
