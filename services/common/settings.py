"""Settings that every role has, read from environment variables `OORT_<FIELD>`.

Kept true: a process that started has read and checked all of its settings; a wrong one is named in one line.
Passwords inside addresses never appear in `repr`.
"""

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.common.errors import StartError

BAD_SETTINGS = 2
_MAX_PORT = 65535


def split_host_port(text: str) -> tuple[str, int]:
    """`host:port`, with an IPv6 host in brackets, in its two parts. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > _MAX_PORT:
        raise ValueError("must be host:port")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError("an IPv6 address stands in brackets, as in [::1]:8060")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _host_port(text: str) -> str:
    split_host_port(text)
    return text


def _readable(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    return path


HostPort = Annotated[str, AfterValidator(_host_port)]
ReadableFile = Annotated[Path, AfterValidator(_readable)]
InstanceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]


class ProcessSettings(BaseSettings):
    """What any process of ours needs; the licence role has no more than this."""

    model_config = SettingsConfigDict(env_prefix="OORT_", frozen=True, extra="ignore")

    instance: InstanceName = Field(description="name of this instance, unique in its role, as in its certificate")
    public_listen: HostPort = Field(description="host:port of the public listener (TLS)")
    internal_listen: HostPort = Field(description="host:port of the internal listener (mutual TLS)")
    metrics_listen: HostPort = Field(description="host:port of the Prometheus metrics (HTTP); keep it inside")
    public_endpoint: HostPort = Field(description="host:port at which clients reach the public listener")
    internal_endpoint: HostPort = Field(description="host:port at which other roles reach the internal listener")
    tls_certificate: ReadableFile = Field(description="PEM file: this instance's certificate")
    tls_key: ReadableFile = Field(description="PEM file: its private key")
    ca_certificate: ReadableFile = Field(description="PEM file: the installation's CA")
    database_url: str = Field(repr=False, description="Postgres as the role oort_app")
    database_owner_url: str = Field(repr=False, description="Postgres as the role oort_owner, for migrations")
    database_worker_url: str = Field(repr=False, description="Postgres as the role oort_worker, for named jobs")
    database_connections: int = Field(default=8, ge=1, le=200, description="greatest number of connections as oort_app")
    redis_url: str | None = Field(default=None, repr=False, description="Redis, where the role uses it; default: none")
    cluster_server: HostPort | None = Field(
        default=None, description="internal host:port of the cluster role; default: none"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least level that is logged"
    )
    start_seconds: float = Field(default=30, ge=0, description="seconds to wait for Postgres and the licence server")
    drain_seconds: float = Field(default=30, ge=0, description="seconds that calls have to finish after SIGTERM")
    share_port: bool = Field(
        default=False, description="true where several processes of one role listen on one port (SO_REUSEPORT)"
    )


class RoleSettings(ProcessSettings):
    """Settings of every role but the licence role: with what it keeps its lease by."""

    license_server: HostPort = Field(description="host:port of the licence server's public listener")
    license_key: ReadableFile = Field(description="PEM file: the licence server's Ed25519 public key, pinned")
    license_ca: ReadableFile | None = Field(
        None, description="PEM file: CA of the licence server's TLS certificate; default: the installation's CA"
    )
    license_file: Path = Field(
        description="oort-license.db (SQLite): this instance's leases; losing it loses the lease"
    )
    serial: str = Field(repr=False, description="the installation's serial, six groups of four characters")


Settings = TypeVar("Settings", bound=ProcessSettings)


def load(kind: type[Settings]) -> Settings:
    """Read settings from the environment. Raises StartError, with every wrong one, in one line."""
    try:
        return kind()  # type: ignore[call-arg] # the environment has the fields
    except ValidationError as error:
        faults = "; ".join(_fault(kind, str(fault["loc"][0]), fault["msg"]) for fault in error.errors())
        raise StartError(f"bad settings: {faults}", BAD_SETTINGS) from None


def _fault(kind: type[ProcessSettings], name: str, message: str) -> str:
    field = kind.model_fields.get(name)
    meaning = f" ({field.description})" if field and field.description else ""
    return f"OORT_{name.upper()}{meaning}: {message.removeprefix('Value error, ')}"
