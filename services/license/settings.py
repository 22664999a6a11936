from pydantic import Field

from services.common.settings import HostPort, ProcessSettings, ReadableFile


class LicenseSettings(ProcessSettings):
    """Settings of the licence role, the one role that needs no lease."""

    public_listen: HostPort = Field(default="0.0.0.0:8062", description="host:port of the public listener (TLS)")
    internal_listen: HostPort = Field(default="0.0.0.0:8162", description="host:port of the internal listener (mTLS)")
    metrics_listen: HostPort = Field(default="127.0.0.1:9062", description="host:port of the metrics (HTTP)")
    signing_key: ReadableFile = Field(description="PEM file: the Ed25519 private key that signs leases")
    lease_seconds: int = Field(default=24 * 3600, ge=3, description="seconds that a lease lasts; renewed at a third")
    grace_seconds: int = Field(
        default=72 * 3600, ge=0, description="seconds that an instance runs on when this server is out of reach"
    )
