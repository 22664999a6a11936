"""An operator's calls to the storage nodes of a running stack (mutual TLS as oort://operator/local).

Kept true: a call that one node does not take is made to the next; a refusal is told in the node's own words.
"""

from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Self, TypeVar

import grpc
from oort.storage.v1 import (
    buckets_pb2,
    buckets_pb2_grpc,
    nodes_pb2,
    nodes_pb2_grpc,
    quotas_pb2,
    quotas_pb2_grpc,
    rescans_pb2,
    rescans_pb2_grpc,
    scrubs_pb2,
    scrubs_pb2_grpc,
)

from client.account.connection import translate
from client.errors import NotFound, OortError, ServerError, ServerUnreachable
from client.rpc import read_refusal
from deploy.local.calls import Operator
from deploy.local.certificates import CertificateAuthority
from deploy.local.errors import StackNotRunning
from deploy.local.folder import StackFolder

CALL_SECONDS = 60.0
_REMOVAL_SECONDS = 3600.0  # of a lost node, bucket by bucket
_PAGE_SIZE = 500

Answer = TypeVar("Answer")


class Cluster:
    """The storage nodes of a stack; every call raises OortError for a person."""

    def __init__(self, channels: dict[str, grpc.Channel], connect: Callable[[str], grpc.Channel] | None = None) -> None:
        """`channels` by name, or by address: then `connect` makes one to a node that is named (host:port)."""
        self._channels = channels
        self._connect = connect
        self._named: dict[str, grpc.Channel] = {}

    @classmethod
    @contextmanager
    def of_stack(cls, data: Path, at: Sequence[str] | None = None) -> Iterator[Self]:
        """The nodes of the stack, or those `at` (internal host:port) of another cluster of its installation.

        Raises NoStack, StackNotRunning; another cluster does not need the stack to run.
        """
        folder = StackFolder.find(data)
        if not at and not folder.is_held:
            raise StackNotRunning(folder=folder.path)
        now = datetime.now(UTC)
        operator = Operator(CertificateAuthority.open(folder.certificates, now), now)
        nodes = {one: one for one in at or ()} or {node.name: node.internal for node in folder.load().nodes}
        with ExitStack() as stack:

            def connect(internal: str) -> grpc.Channel:
                channel = operator.channel(internal)
                stack.callback(channel.close)
                return channel

            yield cls({name: connect(internal) for name, internal in nodes.items()}, connect if at else None)

    @property
    def nodes(self) -> list[str]:
        return list(self._channels)

    def channel(self, node: str) -> grpc.Channel:
        """To one node; of another cluster, where it says itself that it is reached, as by the other nodes.

        Raises NotFound where there is no such node, ServerUnreachable when none says where it is.
        """
        known = self._channels | self._named
        if node not in known and self._connect:
            for one in self.heartbeats():
                self._named[one.id] = self._channels.get(one.internal_endpoint) or self._connect(one.internal_endpoint)
            known |= self._named
        if node not in known:
            raise NotFound(detail=f"There is no node {node}; there are: {', '.join(known)}.")
        return known[node]

    def channels(self, first: Container[str]) -> list[grpc.Channel]:
        """To all nodes, those in `first` before the others."""
        return [self._channels[name] for name in sorted(self._channels, key=lambda name: name not in first)]

    def describe(self, *, backlog: bool = False) -> buckets_pb2.DescribeClusterResponse:
        """The nodes, and whether all copies are complete; with `backlog` what each node is to fetch."""
        return self.ask(
            lambda channel: buckets_pb2_grpc.BucketServiceStub(channel).DescribeCluster(
                buckets_pb2.DescribeClusterRequest(backlog=backlog), timeout=CALL_SECONDS
            )
        )

    def node(self, node: str) -> buckets_pb2.Node:
        """Raises NotFound."""
        found = {one.id: one for one in self.heartbeats()}
        if node not in found:
            raise NotFound(detail=f"There is no node {node}; there are: {', '.join(found)}.")
        return found[node]

    def heartbeats(self) -> list[buckets_pb2.Node]:
        """What each node last said of itself."""
        return list(self.describe().nodes)

    def silent_nodes(self) -> set[str]:
        """Those that do not live, by their heartbeats."""
        return {node.id for node in self.heartbeats() if not node.live}

    def drain(self, node: str) -> buckets_pb2.Node:
        """Raises NotFound, UsageError when too few nodes would be left."""
        request = nodes_pb2.DrainNodeRequest(node_id=node)
        return self.ask(
            lambda channel: nodes_pb2_grpc.NodeServiceStub(channel).DrainNode(request, timeout=CALL_SECONDS)
        ).node

    def undrain(self, node: str) -> buckets_pb2.Node:
        """Raises NotFound."""
        request = nodes_pb2.UndrainNodeRequest(node_id=node)
        return self.ask(
            lambda channel: nodes_pb2_grpc.NodeServiceStub(channel).UndrainNode(request, timeout=CALL_SECONDS)
        ).node

    def remove(self, node: str, *, lost: bool, give_up: bool) -> nodes_pb2.RemoveNodeResponse:
        """Raises NotFound, UsageError when that cannot be done, or not yet."""
        request = nodes_pb2.RemoveNodeRequest(node_id=node, lost=lost, give_up=give_up)
        return self.ask(
            lambda channel: nodes_pb2_grpc.NodeServiceStub(channel).RemoveNode(request, timeout=_REMOVAL_SECONDS)
        )

    def buckets(self) -> Iterator[buckets_pb2.Bucket]:
        """All of them, by id."""
        token, more = "", True
        while more:
            request = buckets_pb2.ListBucketsRequest(page_size=_PAGE_SIZE, page_token=token)
            page = self.ask(
                lambda channel, request=request: buckets_pb2_grpc.BucketServiceStub(channel).ListBuckets(  # type: ignore[misc] # mypy infers no default
                    request, timeout=CALL_SECONDS
                )
            )
            yield from page.buckets
            token = page.next_page_token
            more = bool(token)

    def bucket(self, bucket: str) -> buckets_pb2.Bucket:
        """Raises NotFound, UsageError."""
        return self.ask(
            lambda channel: buckets_pb2_grpc.BucketServiceStub(channel).GetBucket(
                buckets_pb2.GetBucketRequest(id=bucket), timeout=CALL_SECONDS
            )
        ).bucket

    def quotas(self) -> Iterator[quotas_pb2.Quota]:
        """Those that buckets share, of all tenants, by tenant and name."""
        token, more = "", True
        while more:
            request = quotas_pb2.ListQuotasRequest(page_size=_PAGE_SIZE, page_token=token)
            page = self.ask(
                lambda channel, request=request: quotas_pb2_grpc.QuotaServiceStub(channel).ListQuotas(  # type: ignore[misc] # mypy infers no default
                    request, timeout=CALL_SECONDS
                )
            )
            yield from page.quotas
            token = page.next_page_token
            more = bool(token)

    def set_quota(self, tenant: str, name: str, limit: int) -> None:
        """Of a group, or of all buckets of the tenant for the empty name; 0 bytes: none. Raises UsageError."""
        quota = quotas_pb2.Quota(tenant_id=tenant, name=name, bytes=limit)
        request = quotas_pb2.SetQuotaRequest(quota=quota)
        self.ask(lambda channel: quotas_pb2_grpc.QuotaServiceStub(channel).SetQuota(request, timeout=CALL_SECONDS))

    def set_bucket_quota(self, bucket: str, limit: int) -> quotas_pb2.SetBucketQuotaResponse:
        """Of one bucket; 0 bytes: none. Answers what it was. Raises NotFound, UsageError."""
        request = quotas_pb2.SetBucketQuotaRequest(bucket_id=bucket, bytes=limit)
        return self.ask(
            lambda channel: quotas_pb2_grpc.QuotaServiceStub(channel).SetBucketQuota(request, timeout=CALL_SECONDS)
        )

    def set_group(self, bucket: str, name: str) -> None:
        """Put a bucket under a group's quota, or none's for the empty name. Raises NotFound, UsageError."""
        request = quotas_pb2.SetGroupRequest(bucket_id=bucket, name=name)
        self.ask(lambda channel: quotas_pb2_grpc.QuotaServiceStub(channel).SetGroup(request, timeout=CALL_SECONDS))

    def start_scrub(self, bucket: str) -> int:
        """Of one bucket, or all for the empty text; answers how many homes were asked. Raises NotFound, UsageError."""
        return self.ask(
            lambda channel: scrubs_pb2_grpc.ScrubServiceStub(channel).StartScrub(
                scrubs_pb2.StartScrubRequest(bucket_id=bucket), timeout=CALL_SECONDS
            )
        ).homes

    def scrubs(self, bucket: str) -> list[scrubs_pb2.Scrub]:
        """What was asked last of each home of a bucket, or of all."""
        found: list[scrubs_pb2.Scrub] = []
        token, more = "", True
        while more:
            request = scrubs_pb2.ListScrubsRequest(bucket_id=bucket, page_size=_PAGE_SIZE, page_token=token)
            page = self.ask(
                lambda channel, request=request: scrubs_pb2_grpc.ScrubServiceStub(channel).ListScrubs(  # type: ignore[misc] # mypy infers no default
                    request, timeout=CALL_SECONDS
                )
            )
            found += page.scrubs
            token = page.next_page_token
            more = bool(token)
        return found

    def rescan(self, node: str) -> Iterator[rescans_pb2.RescanResponse]:
        """Have a node enter what lies on its disks; how far it is, and last what it came to. Raises UsageError."""
        answers = rescans_pb2_grpc.RescanServiceStub(self.channel(node)).Rescan(rescans_pb2.RescanRequest())
        try:
            yield from answers
        except grpc.RpcError as error:
            raise _as_error(error, node) from None
        finally:
            answers.cancel()

    def finish_rescan(self) -> int:
        """Say that every node was rescanned and could read all. Answers how many buckets that lets go of."""
        request = rescans_pb2.FinishRequest()
        return self.ask(
            lambda channel: rescans_pb2_grpc.RescanServiceStub(channel).Finish(request, timeout=CALL_SECONDS)
        ).released

    def ask(self, question: Callable[[grpc.Channel], Answer]) -> Answer:
        """The answer of the first node that gives one. Raises ServerUnreachable, and what a refusal means."""
        failure: OortError = ServerUnreachable(server="The storage cluster", reason="it has no nodes")
        for name in self._channels:
            try:
                return self.ask_node(name, question)
            except ServerUnreachable as error:
                failure = error
        raise failure

    def ask_node(self, name: str, question: Callable[[grpc.Channel], Answer]) -> Answer:
        """The answer of one node. Raises ServerUnreachable, and what a refusal means."""
        try:
            return question(self._channels[name])
        except grpc.RpcError as error:
            raise _as_error(error, name) from None


def _as_error(error: grpc.RpcError, node: str) -> OortError:
    refusal = read_refusal(error)
    if refusal.code is grpc.StatusCode.UNIMPLEMENTED:
        return ServerError(
            detail=f"{node} does not know this call: give the internal address of a storage node of this version."
        )
    if refusal.is_outage and not refusal.reason:
        return ServerUnreachable(server=node, reason=refusal.message)
    return translate(refusal, node)
