"""Roles served inside the test's process, on free ports of loopback, with the TLS that they have outside."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import grpc

from services.common.clock import Clock, SystemClock
from services.common.interceptors import MapErrors, MeasureCalls
from services.common.listeners import Served, internal_credentials, listen, public_credentials
from services.common.metrics import Metrics
from services.common.provision import DatabaseUrls
from services.common.rpc import CHANNEL_OPTIONS
from services.common.settings import ProcessSettings

Settings = TypeVar("Settings", bound=ProcessSettings)
_FREE_PORT = "127.0.0.1:0"
NO_DATABASE = DatabaseUrls("", "", "")


class Certificates(Protocol):
    """The fixture `installation`."""

    @property
    def ca(self) -> Path: ...
    def certificate(self, role: str, instance: str) -> tuple[Path, Path]: ...


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where a role listens, and channels to it. Close the channels."""

    public: str
    internal: str
    certificates: Certificates

    def public_channel(self) -> grpc.aio.Channel:
        """As clients connect: TLS, no certificate of their own."""
        credentials = grpc.ssl_channel_credentials(self.certificates.ca.read_bytes())
        return grpc.aio.secure_channel(self.public, credentials, CHANNEL_OPTIONS)

    def internal_channel(self, role: str, instance: str) -> grpc.aio.Channel:
        """As that instance connects."""
        certificate, key = self.certificates.certificate(role, instance)
        credentials = grpc.ssl_channel_credentials(
            self.certificates.ca.read_bytes(), key.read_bytes(), certificate.read_bytes()
        )
        return grpc.aio.secure_channel(self.internal, credentials, CHANNEL_OPTIONS)


def some_settings(
    kind: type[Settings],
    role: str,
    certificates: Certificates,
    database: DatabaseUrls = NO_DATABASE,
    **others: Any,
) -> Settings:
    """Settings of one instance on free ports; `others` are the role's own, or replace these."""
    instance = str(others.pop("instance", f"{role}-1"))
    certificate, key = certificates.certificate(role, instance)
    values: dict[str, Any] = {
        "instance": instance,
        "public_listen": _FREE_PORT,
        "internal_listen": _FREE_PORT,
        "metrics_listen": _FREE_PORT,
        "public_endpoint": "localhost:1",
        "internal_endpoint": "localhost:1",
        "tls_certificate": certificate,
        "tls_key": key,
        "ca_certificate": certificates.ca,
        "database_url": database.app,
        "database_owner_url": database.owner,
        "database_worker_url": database.worker,
        "start_seconds": 0,
    }
    return kind(**{**values, **others})


@asynccontextmanager
async def serving(
    role: str,
    certificates: Certificates,
    *,
    public: Sequence[Served] = (),
    internal: Sequence[Served] = (),
    instance: str = "",
    clock: Clock | None = None,
) -> AsyncIterator[Endpoints]:
    """Serve services as the role's process does, without its lease, database and metrics port."""
    settings = some_settings(ProcessSettings, role, certificates, instance=instance or f"{role}-1")
    metrics = Metrics(role, settings.instance, "test")
    measure = MeasureCalls(metrics, clock or SystemClock())
    around_internal = (measure, MapErrors(role, metrics, "internal"))
    around_public = (measure, MapErrors(role, metrics, "public"))
    inside = await listen(settings.internal_listen, internal_credentials(settings), internal, around_internal)
    try:
        outside = await listen(settings.public_listen, public_credentials(settings), public, around_public)
        try:
            yield Endpoints(f"localhost:{outside.port}", f"localhost:{inside.port}", certificates)
        finally:
            await outside.drain(0)
    finally:
        await inside.drain(0)


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """The ErrorInfo reason in a refusal."""
    from google.rpc.error_details_pb2 import ErrorInfo
    from grpc_status import rpc_status

    status = rpc_status.from_call(error)  # type: ignore[arg-type] # made for sync calls; it reads what both have
    for detail in status.details if status else ():
        info = ErrorInfo()
        if detail.Unpack(info):
            return str(info.reason)
    return ""
