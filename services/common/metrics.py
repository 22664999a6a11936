"""What a process measures of itself, for Prometheus: calls and their durations, besides the process's own figures."""

import threading
from dataclasses import dataclass
from typing import Literal
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)

from services.common.errors import StartError
from services.common.settings import split_host_port

# Seconds. Streams live as long as a backup does, so the buckets reach to an hour.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600, 3600)

# Where a call came in: from devices, or from other roles, nodes and operators.
ListenerName = Literal["public", "internal"]


class Metrics:
    """The registry of one process; roles add their own figures to `registry`."""

    def __init__(self, role: str, instance: str, version: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        Info("oort_build", "What runs here", registry=self.registry).info(
            {"role": role, "instance": instance, "version": version}
        )
        self.calls = Counter(
            "oort_rpc_calls", "Calls that ended, by method and status", ["method", "code"], registry=self.registry
        )
        self.refusals = Counter(
            "oort_refusals", "Calls that were refused, by cause", ["cause", "listener"], registry=self.registry
        )
        self.seconds = Histogram(
            "oort_rpc_seconds", "How long calls took", ["method"], buckets=_SECONDS, registry=self.registry
        )


@dataclass(frozen=True, slots=True)
class MetricsServer:
    """Plain HTTP with the metrics; for the inside of the installation only."""

    server: WSGIServer
    thread: threading.Thread

    @classmethod
    def start(cls, registry: CollectorRegistry, listen: str) -> "MetricsServer":
        """Serve at `listen`, host:port. Raises StartError when the port is taken."""
        host, port = split_host_port(listen)
        try:
            server, thread = start_http_server(port, host, registry=registry)
        except OSError as error:
            raise StartError(
                f"cannot listen on {listen} for metrics (OORT_METRICS_LISTEN): {error.strerror}"
            ) from error
        return cls(server, thread)

    @property
    def port(self) -> int:
        return self.server.server_port

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
