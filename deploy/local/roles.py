"""The roles of a stack: their processes, ports and settings.

Kept true: a role is started with the environment written here and nothing else of the operator's shell but what is
named here, so a stack behaves the same wherever it is started.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from deploy.local.folder import Service, StackFolder
from deploy.local.ports import LOOPBACK

if TYPE_CHECKING:
    from deploy.local.certificates import CertificateAuthority
    from deploy.local.secrets import InstallationSecrets
    from services.common.provision import DatabaseUrls

# Marks every process of a stack, so that it is found when nothing else remembers it.
MARK = "OORT_STACK"
CLUSTER = "local"
POSTGRES_PORT = 8432
REDIS_PORT = 8379
# What a process may need of the shell: where programs and temporary files are, and the language of messages; and the
# settings that the operator of a stack chooses.
_NEEDED = ("PATH", "HOME", "TMPDIR", "TZ", "LANG", "LC_ALL", "LC_CTYPE", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
_CHOSEN = (
    "OORT_BASKET_DAYS",
    "OORT_REAP_SECONDS",
    "OORT_BEAT_SECONDS",
    "OORT_SCRUB_DAYS",
    "OORT_SCRUB_BYTES_PER_SECOND",
    "OORT_BRAKE_BYTES_PERCENT",
    "OORT_BRAKE_SNAPSHOTS_PERCENT",
    "OORT_BRAKE_FLOOR_BYTES",
)
_INHERITED = (*_NEEDED, *_CHOSEN)
_DRAIN_SECONDS = 10
_LEAST_CONNECTIONS = 200
_CONNECTIONS_EACH = 16
RESTART_DELAY_SECONDS = 10.0  # of a process that died, where the operator says nothing else
MOST_NODES = 16  # as many as a bucket may have copies


@dataclass(frozen=True, slots=True)
class Ports:
    """Of one instance, on loopback; `rest` of a storage node, 0 of others."""

    public: int
    internal: int
    metrics: int
    rest: int = 0


@dataclass(frozen=True, slots=True)
class Instance:
    """One process of a role; `name` is unique in the stack, and its name in its certificate."""

    name: str
    role: str
    ports: Ports

    @property
    def command(self) -> list[str]:
        # -P: the data folder, where the process runs, is no place to import modules from.
        return [sys.executable, "-P", "-m", f"services.{self.role}"]


def _instance(name: str, role: str, port: int, rest: int = 0) -> Instance:
    return Instance(name, role, Ports(port, port + 100, port + 1000, rest))


LICENSE = _instance("license", "license", 8062)
AUTH = _instance("auth", "auth", 8060)
CLUSTER_ROLE = _instance("cluster", "cluster", 8064)
BRANDING = _instance("branding", "branding", 8063)
# Of as many nodes as there may be: each leaves room for the REST ports, which are 10 above.
_NODE_PORTS = (8061, *range(8066, 8070), *range(8080, 8090), 8100)
# One database for each role; the nodes of a storage cluster share theirs.
DATABASES = {role: f"oort_{role}" for role in ("license", "cluster", "storage", "auth", "branding")}


def nodes(count: int) -> tuple[Instance, ...]:
    """The first `count` storage nodes: node-a, node-b and so on."""
    return tuple(
        _instance(f"node-{chr(ord('a') + number)}", "storage", port, rest=port + 10)
        for number, port in enumerate(_NODE_PORTS[:count])
    )


def leased(count: int) -> tuple[Instance, ...]:
    """What is started after the licence role, with so many storage nodes; what stands first is stopped last."""
    return (CLUSTER_ROLE, *nodes(count), AUTH, BRANDING)


def instances(count: int) -> tuple[Instance, ...]:
    """All processes of roles, with so many storage nodes."""
    return (LICENSE, *leased(count))


def connections(count: int, further: int = 0) -> int:
    """How many connections Postgres is to take, with so many storage nodes, and `further` workers of them.

    A process has up to 8 as oort_app, 4 as oort_worker and one as oort_owner, where nothing else is set for it.
    """
    return max(_LEAST_CONNECTIONS, _CONNECTIONS_EACH * (len(instances(count)) + further))


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all roles of a stack are told alike."""

    folder: StackFolder
    stack_id: str
    authority: "CertificateAuthority"
    secrets: "InstallationSecrets"
    databases: "Mapping[str, DatabaseUrls]"  # by role
    redis_url: str
    services: Mapping[str, Service]  # with the endpoints in force
    now: datetime


def inherited() -> dict[str, str]:
    return {name: value for name in _INHERITED if (value := os.environ.get(name)) is not None}


def environment(instance: Instance, around: Surroundings, chosen: dict[str, str]) -> dict[str, str]:
    """All environment variables of an instance; `chosen` are those that the operator sets for it alone."""
    service = around.services[instance.name]
    files = around.authority.certificate(instance.role, instance.name, around.now)
    urls = around.databases[instance.role]
    settings: dict[str, object] = {
        "instance": instance.name,
        "public_listen": service.public,
        "internal_listen": service.internal,
        "metrics_listen": service.metrics,
        "public_endpoint": service.public,
        "internal_endpoint": service.internal,
        "tls_certificate": files.certificate,
        "tls_key": files.key,
        "ca_certificate": around.authority.ca,
        "database_url": urls.app,
        "database_owner_url": urls.owner,
        "database_worker_url": urls.worker,
        "drain_seconds": _DRAIN_SECONDS,
        "license_server": around.services[LICENSE.name].public,
        "license_key": around.secrets.license_public_key,
        "serial": around.secrets.serial,
        "license_file": around.folder.path / "leases" / instance.name / "oort-license.db",
        "cluster_server": around.services[CLUSTER_ROLE.name].internal,
    }
    settings |= _own_settings(instance, around)
    named = {f"OORT_{name.upper()}": str(value) for name, value in settings.items()}
    return inherited() | named | chosen | {MARK: around.stack_id}


def _own_settings(instance: Instance, around: Surroundings) -> dict[str, object]:
    match instance.role:
        case "auth":
            return {
                "redis_url": around.redis_url,
                "token_key": around.secrets.token_key,
                "pepper": around.secrets.pepper,
            }
        case "storage":
            return {
                "redis_url": around.redis_url,
                # Below the folder that the process runs in: a path of the operator's may hold the separator.
                "data_dirs": around.folder.node(instance.name).relative_to(around.folder.path),
                "cluster_name": CLUSTER,
                "token_keys": around.secrets.token_public_key,
                "auth_server": around.services[AUTH.name].internal,
                "rest_listen": around.services[instance.name].rest,
                "rest_endpoint": around.services[instance.name].rest,
            }
        case "license":
            return {"signing_key": around.secrets.license_signing_key}
        case _:
            return {}


def endpoint(port: int) -> str:
    return f"{LOOPBACK}:{port}"
