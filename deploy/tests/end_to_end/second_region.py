"""A second storage cluster beside a stack, of the same installation: one node, with a database of its own."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from deploy.driver import Operator
from deploy.local.calls import is_healthy
from deploy.local.certificates import CertificateAuthority
from deploy.local.folder import StackFolder
from deploy.local.postgres import PostgresServer
from deploy.local.secrets import open_secrets
from services.common.provision import DatabasePasswords, DatabaseUrls, provision

NAME = "far"
NODE = "far-a"
_START_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class SecondRegion:
    """Its node's internal address, and where its data lies."""

    internal: str
    data: Path

    @property
    def at(self) -> tuple[str, str]:
        """As `oort bucket` takes it."""
        return ("--at", self.internal)


@contextmanager
def a_second_region(operator: Operator, place: Path, free_port: Callable[[], int]) -> Iterator[SecondRegion]:
    """Started as an operator would, with the settings that the stack's own nodes have."""
    folder = StackFolder.find(operator.data)
    node_a = folder.load().services["node-a"].process
    assert node_a is not None
    words = Path(f"/proc/{node_a.pid}/environ").read_bytes().split(b"\0")
    env = dict(word.decode().split("=", 1) for word in words if b"=" in word)
    public, internal, metrics = (f"127.0.0.1:{free_port()}" for _ in range(3))
    authority = CertificateAuthority.open(folder.certificates, datetime.now(UTC))
    files = authority.certificate("storage", NODE, datetime.now(UTC))
    urls = _a_database(folder)
    env |= {
        "OORT_INSTANCE": NODE,
        "OORT_CLUSTER_NAME": NAME,
        "OORT_PUBLIC_LISTEN": public,
        "OORT_PUBLIC_ENDPOINT": public,
        "OORT_INTERNAL_LISTEN": internal,
        "OORT_INTERNAL_ENDPOINT": internal,
        "OORT_METRICS_LISTEN": metrics,
        "OORT_TLS_CERTIFICATE": str(files.certificate),
        "OORT_TLS_KEY": str(files.key),
        "OORT_DATABASE_URL": urls.app,
        "OORT_DATABASE_OWNER_URL": urls.owner,
        "OORT_DATABASE_WORKER_URL": urls.worker,
        "OORT_DATA_DIRS": str(place / "data"),
        "OORT_LICENSE_FILE": str(place / "oort-license.db"),
        "OORT_REGION_POLL_SECONDS": "0.2",
    }
    for name in ("OORT_REST_LISTEN", "OORT_REST_ENDPOINT"):
        env.pop(name, None)
    (place / "data").mkdir(parents=True)
    command = [sys.executable, "-P", "-m", "services.storage"]
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=operator.data, env=env, stdout=log, stderr=log)
    try:
        _wait_until_healthy(public, authority.ca.read_bytes(), process, place / "log")
        operator.oort.ok("cluster", "add", NAME, "--node", internal, "--data", str(operator.data))
        yield SecondRegion(internal, place / "data")
    finally:
        process.terminate()
        process.wait(60)


def _a_database(folder: StackFolder) -> DatabaseUrls:
    server = PostgresServer(folder.path / "postgres")
    server.port = int(folder.load().services["postgres"].public.rpartition(":")[2])
    secrets = open_secrets(folder)
    passwords = DatabasePasswords(secrets.database_owner, secrets.database_app, secrets.database_worker)
    return asyncio.run(provision(server.superuser_dsn, "oort_storage_far", passwords))


def _wait_until_healthy(public: str, ca_pem: bytes, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while not is_healthy(public, ca_pem):
        assert process.poll() is None, log.read_text(errors="replace")
        assert time.monotonic() < end, log.read_text(errors="replace")
        time.sleep(0.2)
