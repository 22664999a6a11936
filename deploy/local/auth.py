"""An operator's calls to the auth role of a stack (mutual TLS as oort://operator/local)."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import grpc
from oort.auth.v1 import admin_pb2, admin_pb2_grpc

from client.account.connection import translate
from client.errors import ServerUnreachable
from client.rpc import read_refusal
from deploy.local.calls import Operator
from deploy.local.certificates import CertificateAuthority
from deploy.local.cluster import CALL_SECONDS
from deploy.local.errors import StackNotRunning
from deploy.local.folder import StackFolder

Answer = TypeVar("Answer")

_AT_ONCE = 1000  # buckets in a call
_NAMES_SECONDS = 10.0  # a list of ids now is worth more than one of names later


def set_vault_quota(data: Path, bucket: str, limit: int) -> None:
    """What the tokens of a vault's devices say from now on; 0: no limit. Raises as `tell_auth`."""
    request = admin_pb2.SetVaultQuotaRequest(bucket_id=bucket, bytes=limit)
    tell_auth(data, lambda stub: stub.SetVaultQuota(request, timeout=CALL_SECONDS))


def names_of(data: Path, buckets: Sequence[str]) -> dict[str, admin_pb2.VaultNames]:
    """By bucket: what people call the vault in it, and whose it is. Raises as `tell_auth`."""
    found: dict[str, admin_pb2.VaultNames] = {}
    for first in range(0, len(buckets), _AT_ONCE):
        answer = tell_auth(data, _asking_names(buckets[first : first + _AT_ONCE]))
        found |= {vault.bucket_id: vault for vault in answer.vaults}
    return found


def _asking_names(
    buckets: Sequence[str],
) -> Callable[[admin_pb2_grpc.SetupServiceStub], admin_pb2.GetVaultNamesResponse]:
    request = admin_pb2.GetVaultNamesRequest(bucket_ids=buckets)
    return lambda stub: stub.GetVaultNames(request, timeout=_NAMES_SECONDS)


def tell_auth(data: Path, ask: Callable[[admin_pb2_grpc.SetupServiceStub], Answer]) -> Answer:
    """Make a call. Raises NoStack, StackNotRunning, ServerUnreachable, and what a refusal means."""
    folder = StackFolder.find(data)
    now = datetime.now(UTC)
    operator = Operator(CertificateAuthority.open(folder.certificates, now), now)
    auth = folder.load().services.get("auth")
    if auth is None:
        raise StackNotRunning(folder=folder.path)
    with operator.channel(auth.internal) as channel:
        try:
            return ask(admin_pb2_grpc.SetupServiceStub(channel))
        except grpc.RpcError as error:
            refusal = read_refusal(error)
            if refusal.is_outage and not refusal.reason:
                raise ServerUnreachable(server="auth", reason=refusal.message) from None
            raise translate(refusal, "auth") from None
