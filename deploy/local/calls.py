"""Calls to the stack's own roles: health, and what only an operator may do (mutual TLS as oort://operator/local)."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from oort.auth.v1 import accounts_pb2, admin_pb2, admin_pb2_grpc, profiles_pb2
from oort.license.v1 import leases_pb2, leases_pb2_grpc
from oort.storage.v1 import buckets_pb2, buckets_pb2_grpc

from client.account.passwords import new_account
from client.rpc import read_refusal
from deploy.local.certificates import CertificateAuthority
from deploy.local.errors import SetupRefused
from deploy.local.secrets import ADMIN, TENANT, InstallationSecrets

_CALL_SECONDS = 15.0
# Calls stay on this machine: no proxy of the operator's shell takes part.
_OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))


def is_healthy(endpoint: str, ca_pem: bytes, *, seconds: float = 5.0) -> bool:
    """Whether the role behind a public listener says that it serves (grpc.health.v1)."""
    with grpc.secure_channel(endpoint, grpc.ssl_channel_credentials(ca_pem), _OPTIONS) as channel:
        try:
            stub: Any = health_pb2_grpc.HealthStub(channel)  # its published types lack the methods
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=seconds)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


class Operator:
    """Who sets a stack up."""

    def __init__(self, authority: CertificateAuthority, now: datetime) -> None:
        files = authority.certificate("operator", "local", now)
        self._credentials = grpc.ssl_channel_credentials(
            authority.ca.read_bytes(), files.key.read_bytes(), files.certificate.read_bytes()
        )

    def channel(self, endpoint: str) -> grpc.Channel:
        """To an internal listener. Close it."""
        return grpc.secure_channel(endpoint, self._credentials, _OPTIONS)

    def put_serial(self, license_internal: str, serial: str) -> None:
        with self._channel(license_internal, "PutSerial") as channel:
            leases_pb2_grpc.SerialServiceStub(channel).PutSerial(
                leases_pb2.PutSerialRequest(serial=serial, description="embedded stack"), timeout=_CALL_SECONDS
            )

    def add_first_admin(self, auth_internal: str, secrets: InstallationSecrets) -> None:
        """Make the first tenant and its administrator; nothing happens where there is one."""
        credentials, _ = new_account(secrets.admin_id, secrets.admin_password, (ADMIN,))
        request = admin_pb2.AddFirstAdminRequest(
            tenant=admin_pb2.Tenant(id=str(secrets.tenant_id), name=TENANT),
            admin=_admin(secrets.admin_id),
            credentials=credentials,
        )
        with self._channel(auth_internal, "AddFirstAdmin", accepted="ADMIN_EXISTS") as channel:
            admin_pb2_grpc.SetupServiceStub(channel).AddFirstAdmin(request, timeout=_CALL_SECONDS)

    def put_storage(self, auth_internal: str, cluster: str, nodes: list[str], template: profiles_pb2.Template) -> None:
        """Tell auth where the nodes of a cluster are now, and keep a template for vaults on it."""
        with self._channel(auth_internal, "PutStorageCluster") as channel:
            admin_pb2_grpc.SetupServiceStub(channel).PutStorageCluster(
                admin_pb2.PutStorageClusterRequest(name=cluster, internal_endpoints=nodes), timeout=_CALL_SECONDS
            )
        with self._channel(auth_internal, "PutTemplate") as channel:
            admin_pb2_grpc.SetupServiceStub(channel).PutTemplate(
                admin_pb2.PutTemplateRequest(template=template), timeout=_CALL_SECONDS
            )

    def describe_cluster(self, node_internal: str) -> buckets_pb2.DescribeClusterResponse | None:
        """None when this node does not answer: ask another."""
        with self.channel(node_internal) as channel:
            try:
                return buckets_pb2_grpc.BucketServiceStub(channel).DescribeCluster(
                    buckets_pb2.DescribeClusterRequest(), timeout=_CALL_SECONDS
                )
            except grpc.RpcError:
                return None

    @contextmanager
    def _channel(self, endpoint: str, call: str, accepted: str = "") -> Iterator[grpc.Channel]:
        """A channel for one call; a refusal with the reason `accepted` means that it was done before."""
        with self.channel(endpoint) as channel:
            try:
                yield channel
            except grpc.RpcError as error:
                refusal = read_refusal(error)
                if not accepted or refusal.reason != accepted:
                    raise SetupRefused(call=call, reason=refusal.message) from None


def _admin(user: UUID) -> admin_pb2.User:
    return admin_pb2.User(id=str(user), username=ADMIN, role=accounts_pb2.ROLE_ADMIN)
