from pydantic import Field

from services.common.settings import HostPort, ReadableFile, RoleSettings


class AuthSettings(RoleSettings):
    """Settings of the auth role."""

    public_listen: HostPort = Field(default="0.0.0.0:8060", description="host:port of the public listener (TLS)")
    internal_listen: HostPort = Field(default="0.0.0.0:8160", description="host:port of the internal listener (mTLS)")
    metrics_listen: HostPort = Field(default="127.0.0.1:9060", description="host:port of the metrics (HTTP)")
    token_key: ReadableFile = Field(description="PEM file: Ed25519 private key that signs vault tokens")
    pepper: ReadableFile = Field(description="file of 32 random bytes that login proofs are bound to; keep a copy")
    storage_seconds: float = Field(10, gt=0, description="seconds that the storage cluster has to make a bucket")
