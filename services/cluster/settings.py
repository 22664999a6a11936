from pydantic import Field

from services.common.settings import HostPort, RoleSettings


class ClusterSettings(RoleSettings):
    """Settings of the cluster role."""

    public_listen: HostPort = Field(default="0.0.0.0:8064", description="host:port of the public listener (TLS)")
    internal_listen: HostPort = Field(default="0.0.0.0:8164", description="host:port of the internal listener (mTLS)")
    metrics_listen: HostPort = Field(default="127.0.0.1:9064", description="host:port of the metrics (HTTP)")
