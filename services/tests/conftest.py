from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from oort.license.v1 import leases_pb2, leases_pb2_grpc

from services.common.provision import DatabaseUrls
from services.common.testing.processes import RoleProcess, a_process
from services.common.testing.server import Certificates, Endpoints
from services.storage.tests.cluster import Cluster

SERIAL = "TEST-0000-0000-0000-0000-0001"
_FREE = "127.0.0.1:0"


class Environment(Protocol):
    """Makes the OORT_ variables of one instance."""

    def __call__(self, role: str, instance: str = "one", **others: object) -> dict[str, str]: ...


@dataclass(frozen=True)
class LicenseServer:
    """A running licence role; `key` is the file with its public key."""

    process: RoleProcess
    key: Path


@pytest.fixture(scope="module")
def plain_environment(
    installation: Certificates, a_database: Callable[[str], DatabaseUrls]
) -> Callable[..., dict[str, str]]:
    """Of a role without a lease."""

    def make(role: str, instance: str = "one", **others: object) -> dict[str, str]:
        certificate, key = installation.certificate(role, instance)
        database = a_database(role)
        values: dict[str, object] = {
            "instance": instance,
            **dict.fromkeys(("public_listen", "internal_listen", "metrics_listen"), _FREE),
            **dict.fromkeys(("public_endpoint", "internal_endpoint"), "localhost:1"),
            "tls_certificate": certificate,
            "tls_key": key,
            "ca_certificate": installation.ca,
            "database_url": database.app,
            "database_owner_url": database.owner,
            "database_worker_url": database.worker,
            "drain_seconds": 120,
            **others,
        }
        return {f"OORT_{name.upper()}": str(value) for name, value in values.items()}

    return make


@pytest.fixture(scope="module")
def license_server(
    plain_environment: Environment, installation: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LicenseServer]:
    folder = tmp_path_factory.mktemp("license")
    key = Ed25519PrivateKey.generate()
    (folder / "signing.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "public.pem").write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with a_process("license", plain_environment("license", signing_key=folder / "signing.pem")) as process:
        put_serial(process, installation)
        yield LicenseServer(process, folder / "public.pem")


def put_serial(process: RoleProcess, certificates: Certificates) -> None:
    certificate, key = certificates.certificate("operator", "tests")
    credentials = grpc.ssl_channel_credentials(certificates.ca.read_bytes(), key.read_bytes(), certificate.read_bytes())
    with grpc.secure_channel(f"localhost:{process.ports['internal']}", credentials) as channel:
        leases_pb2_grpc.SerialServiceStub(channel).PutSerial(leases_pb2.PutSerialRequest(serial=SERIAL), timeout=60)


@pytest.fixture(scope="module")
def environment(
    plain_environment: Environment, license_server: LicenseServer, tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    """Of a role that takes a lease."""

    def make(role: str, instance: str = "one", **others: object) -> dict[str, str]:
        lease = {
            "license_server": f"localhost:{license_server.process.ports['public']}",
            "license_key": license_server.key,
            "license_file": tmp_path_factory.mktemp("instance") / "oort-license.db",
            "serial": SERIAL,
        }
        return plain_environment(role, instance, **{**lease, **others})

    return make


@pytest.fixture(scope="module")
def endpoints_of(installation: Certificates) -> Callable[[RoleProcess], Endpoints]:
    def make(process: RoleProcess) -> Endpoints:
        ports = process.ports
        return Endpoints(f"localhost:{ports['public']}", f"localhost:{ports['internal']}", installation)

    return make


@pytest.fixture
def cluster(
    a_database: Callable[[str], DatabaseUrls],
    installation: Certificates,
    tmp_path: Path,
    a_free_port: Callable[[], int],
) -> Cluster:
    return Cluster(a_database("storage"), installation, tmp_path, a_free_port)
