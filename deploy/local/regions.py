"""An operator's orders about buckets that lie on two clusters of an installation.

Kept true: a bucket is promoted before the devices are sent to it, so that none is sent where nothing can be stored;
each step may be repeated, and one that was cut off is gone on with by giving the same order again.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from oort.auth.v1 import admin_pb2
from oort.storage.v1 import protection_pb2, protection_pb2_grpc, regions_pb2, regions_pb2_grpc

from client.errors import ServerUnreachable, UsageError
from deploy.local.auth import tell_auth
from deploy.local.cluster import CALL_SECONDS, Cluster

_PAGE_SIZE = 500
_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Region:
    """One cluster, by its nodes."""

    cluster: Cluster

    @property
    def name(self) -> str:
        return self.cluster.describe().name

    def follow(
        self, bucket: str, endpoints: Sequence[str], *, removals: bool, existing: bool, copies: int, ack_copies: int
    ) -> regions_pb2.Following:
        """Raises NotSupported as the clusters refuse, ServerUnreachable."""
        request = regions_pb2.FollowRequest(
            bucket_id=bucket,
            endpoints=endpoints,
            removals=removals,
            existing=existing,
            copies=copies,
            ack_copies=ack_copies,
        )
        return self.cluster.ask(lambda channel: _stub(channel).Follow(request, timeout=CALL_SECONDS)).following

    def lock(self, bucket: str, days: int) -> None:
        """Keep what arrives there for so many days. Raises UsageError for fewer than before."""
        request = protection_pb2.SetLockRequest(bucket_id=bucket, days=days)
        self.cluster.ask(
            lambda channel: protection_pb2_grpc.ProtectionServiceStub(channel).SetLock(request, timeout=CALL_SECONDS)
        )

    def release(self, bucket: str) -> bool:
        """Let go of the brake there; whether it held the bucket."""
        request = protection_pb2.ReleaseRequest(bucket_id=bucket)
        return self.cluster.ask(
            lambda channel: protection_pb2_grpc.ProtectionServiceStub(channel).Release(request, timeout=CALL_SECONDS)
        ).was_braked

    def promote(self, bucket: str, *, give_up: bool = False, devices_stay: bool = False) -> regions_pb2.Following:
        """Answers how far it had come. Raises NotSupported where more would come, unless that is given up.

        Also where `devices_stay` and the other cluster, which has handed the bucket over, takes nothing from them.
        """
        request = regions_pb2.PromoteRequest(bucket_id=bucket, give_up=give_up, devices_stay=devices_stay)
        return self.cluster.ask(lambda channel: _stub(channel).Promote(request, timeout=CALL_SECONDS)).following

    def hand_over(self, bucket: str, to: str) -> int:
        """Have it take nothing more; answers its last seq."""
        request = regions_pb2.HandOverRequest(bucket_id=bucket, cluster=to)
        return int(self.cluster.ask(lambda channel: _stub(channel).HandOver(request, timeout=CALL_SECONDS)).seq)

    def take_back(self, bucket: str, *, give_up: bool) -> None:
        """Have it take what devices store again. Raises NotSupported where another one may, unless that is given up."""
        request = regions_pb2.HandOverRequest(bucket_id=bucket, give_up=give_up)
        self.cluster.ask(lambda channel: _stub(channel).HandOver(request, timeout=CALL_SECONDS))

    def status(self, bucket: str) -> regions_pb2.ListFollowingResponse:
        """Whom a bucket follows, and who follows it. Raises NotFound."""
        request = regions_pb2.ListFollowingRequest(bucket_id=bucket)
        return self.cluster.ask(lambda channel: _stub(channel).ListFollowing(request, timeout=CALL_SECONDS))

    def following(self) -> Iterator[regions_pb2.Following]:
        """All that follow other clusters, by bucket."""
        token, more = "", True
        while more:
            request = regions_pb2.ListFollowingRequest(page_size=_PAGE_SIZE, page_token=token)
            page = self.cluster.ask(
                lambda channel, request=request: _stub(channel).ListFollowing(  # type: ignore[misc] # mypy infers no default
                    request, timeout=CALL_SECONDS
                )
            )
            yield from page.following
            token = page.next_page_token
            more = bool(token)

    def wait(
        self,
        bucket: str,
        is_so: Callable[[regions_pb2.Following], bool],
        seconds: float,
        tell: Callable[[regions_pb2.Following], None],
    ) -> None:
        """Until that holds of a following. Raises ServerUnreachable when that takes longer."""
        end = time.monotonic() + seconds
        while True:
            found = self.status(bucket).following
            if not found:
                raise UsageError(detail=f"The bucket {bucket} follows no other cluster any more.")
            tell(found[0])
            if is_so(found[0]):
                return
            if time.monotonic() > end:
                raise ServerUnreachable(
                    server=f"The bucket {bucket}", reason=found[0].problem or "it has not caught up yet: try again"
                )
            time.sleep(_POLL_SECONDS)


def put_cluster(data: Path, name: str, endpoints: Sequence[str]) -> None:
    """Tell the auth role of a storage cluster, and where its nodes are. Raises UsageError for what is neither."""
    request = admin_pb2.PutStorageClusterRequest(name=name, internal_endpoints=endpoints)
    tell_auth(data, lambda stub: stub.PutStorageCluster(request, timeout=CALL_SECONDS))


def send_devices(data: Path, bucket: str, to: str, *, check: bool = False) -> None:
    """Have the auth role send a vault's devices to another cluster; with `check`, find out that it would.

    Raises NotFound for a bucket that is no vault's, UsageError for a cluster that is not set up.
    """
    request = admin_pb2.MoveBucketRequest(bucket_id=bucket, cluster=to, check=check)
    tell_auth(data, lambda stub: stub.MoveBucket(request, timeout=CALL_SECONDS))


def _stub(channel: grpc.Channel) -> "regions_pb2_grpc.RegionServiceStub":
    return regions_pb2_grpc.RegionServiceStub(channel)
