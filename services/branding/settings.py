from pydantic import Field

from services.common.settings import HostPort, RoleSettings


class BrandingSettings(RoleSettings):
    """Settings of the branding role."""

    public_listen: HostPort = Field(default="0.0.0.0:8063", description="host:port of the public listener (TLS)")
    internal_listen: HostPort = Field(default="0.0.0.0:8163", description="host:port of the internal listener (mTLS)")
    metrics_listen: HostPort = Field(default="127.0.0.1:9063", description="host:port of the metrics (HTTP)")
