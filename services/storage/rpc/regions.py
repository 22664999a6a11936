"""RegionService: buckets that follow those of another cluster. Internal listener."""

from collections.abc import Iterable
from typing import Any

import grpc
from oort.storage.v1 import regions_pb2, regions_pb2_grpc

from domain.names import ObjectKind
from services.common.errors import InvalidArgument
from services.common.identity import OPERATOR, require_peer
from services.common.listeners import Served
from services.common.messages import optional_uuid_of, timestamp_of, uuid_of
from services.common.paging import page_of
from services.storage.regions.orders import Orders, Wanted
from services.storage.regions.telling import MOST_ENDPOINTS, Telling
from services.storage.store.followed import FollowerCluster
from services.storage.store.following import Following

Context = grpc.aio.ServicerContext[Any, Any]
_NAME = regions_pb2.DESCRIPTOR.services_by_name["RegionService"].full_name
_NAMES_AT_ONCE = 1000
_LONGEST_NAME = 255
_MAX_SEQ = (1 << 63) - 1


class RegionsRpc(regions_pb2_grpc.RegionServiceServicer):
    def __init__(self, orders: Orders, telling: Telling, cluster: str) -> None:
        self._orders = orders
        self._telling = telling
        self._cluster = cluster

    def served(self) -> Served:
        """The service with its handlers."""
        return Served(regions_pb2_grpc.add_RegionServiceServicer_to_server, self, _NAME)

    async def Follow(self, request: regions_pb2.FollowRequest, context: Context) -> regions_pb2.FollowResponse:
        require_peer(context, OPERATOR)
        wanted = Wanted(
            uuid_of(request.bucket_id, "bucket_id"),
            _endpoints(request.endpoints),
            removals=request.removals,
            existing=request.existing,
            copies=request.copies,
            ack_copies=request.ack_copies,
        )
        return regions_pb2.FollowResponse(following=_following(await self._orders.follow(wanted)))

    async def Promote(self, request: regions_pb2.PromoteRequest, context: Context) -> regions_pb2.PromoteResponse:
        require_peer(context, OPERATOR)
        found = await self._orders.promote(
            uuid_of(request.bucket_id, "bucket_id"), give_up=request.give_up, devices_stay=request.devices_stay
        )
        return regions_pb2.PromoteResponse(following=_following(found))

    async def ListFollowing(
        self, request: regions_pb2.ListFollowingRequest, context: Context
    ) -> regions_pb2.ListFollowingResponse:
        require_peer(context, OPERATOR, "cluster")
        if request.bucket_id:
            one, followers, writes_to = await self._orders.of_bucket(uuid_of(request.bucket_id, "bucket_id"))
            return regions_pb2.ListFollowingResponse(
                following=[_following(one)] if one else [],
                followers=[_follower(request.bucket_id, follower) for follower in followers],
                writes_to=writes_to,
            )
        page = page_of(request)
        after = uuid_of(page.after[0], "page_token") if page.after else None
        shown, token = page.cut(await self._orders.page(after, page.limit), lambda row: (str(row.bucket_id),))
        return regions_pb2.ListFollowingResponse(following=map(_following, shown), next_page_token=token)

    async def Look(self, request: regions_pb2.LookRequest, context: Context) -> regions_pb2.LookResponse:
        require_peer(context, "storage")
        bucket = uuid_of(request.bucket_id, "bucket_id")
        found = await self._telling.look(
            bucket,
            _cluster(request.cluster),
            _endpoints(request.endpoints),
            upto_seq=_seq(request.upto_seq, "upto_seq"),
            session=optional_uuid_of(request.session_id, "session_id"),
        )
        return regions_pb2.LookResponse(
            cluster=self._cluster,
            tenant_id=str(found.tenant_id),
            user_id=str(found.user_id),
            copies=found.copies,
            ack_copies=found.ack_copies,
            quota_bytes=found.quota_bytes,
            known=found.known,
            seq=found.seq,
            objects=found.objects,
            bytes=found.bytes,
            oldest_seconds=found.oldest_seconds,
            removed=found.removed,
            braked=found.braked,
            lock_days=found.lock_days,
            endpoints=await self._telling.endpoints(),
            follows=found.follows or "",
            is_following=found.is_following,
            config_sha256=found.config_sha256 or b"",
            seal_sha256=found.seal_sha256 or b"",
        )

    async def ListChanges(
        self, request: regions_pb2.ListChangesRequest, context: Context
    ) -> regions_pb2.ListChangesResponse:
        require_peer(context, "storage")
        page = page_of(request, parts=2)
        after = (_number(page.after[0]), _number(page.after[1])) if page.after else (-1, -1)
        found = await self._telling.changes(
            uuid_of(request.bucket_id, "bucket_id"),
            uuid_of(request.session_id, "session_id"),
            _kind(request.kind),
            _seq(request.after_seq, "after_seq"),
            after=after,
            limit=page.limit,
        )
        shown, token = page.cut(found, lambda row: (str(row.seq), str(row.id)))
        changes = [
            regions_pb2.Change(name=str(row.name), sha256=bytes(row.sha256), size=row.size, repacked=row.repacked)
            for row in shown
        ]
        return regions_pb2.ListChangesResponse(changes=changes, next_page_token=token)

    async def FindGone(self, request: regions_pb2.FindGoneRequest, context: Context) -> regions_pb2.FindGoneResponse:
        require_peer(context, "storage")
        if len(request.sha256) > _NAMES_AT_ONCE:
            raise InvalidArgument(detail=f"sha256 may have {_NAMES_AT_ONCE} names, and has {len(request.sha256)}.")
        found = await self._telling.gone(
            uuid_of(request.bucket_id, "bucket_id"),
            uuid_of(request.session_id, "session_id"),
            _kind(request.kind),
            list(request.sha256),
        )
        return regions_pb2.FindGoneResponse(sha256=found)

    async def HandOver(self, request: regions_pb2.HandOverRequest, context: Context) -> regions_pb2.HandOverResponse:
        require_peer(context, OPERATOR)
        bucket = uuid_of(request.bucket_id, "bucket_id")
        if request.cluster:
            seq = await self._orders.hand_over(bucket, request.cluster)
        else:
            seq = await self._orders.take_back(bucket, give_up=request.give_up)
        return regions_pb2.HandOverResponse(seq=seq)


def _endpoints(given: Iterable[str]) -> list[str]:
    """Raises InvalidArgument for too many, or what is no host:port."""
    endpoints = list(given)
    if len(endpoints) > MOST_ENDPOINTS:
        raise InvalidArgument(detail=f"endpoints may have {MOST_ENDPOINTS}, and has {len(endpoints)}.")
    for endpoint in endpoints:
        host, _, port = endpoint.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or "\0" in host:
            raise InvalidArgument(detail=f"{endpoint!r} is no host:port.")
    return endpoints


def _cluster(given: str) -> str:
    """Raises InvalidArgument."""
    if not 1 <= len(given) <= _LONGEST_NAME or not given.isprintable():
        raise InvalidArgument(detail=f"cluster has 1 to {_LONGEST_NAME} printable characters.")
    return given


def _kind(given: str) -> ObjectKind:
    try:
        return ObjectKind(given)
    except ValueError:
        raise InvalidArgument(detail=f"{given!r} is no kind of object.") from None


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise InvalidArgument(detail="page_token is not one that this list gave.")
    return _seq(int(text), "page_token")


def _seq(value: int, field: str) -> int:
    if value > _MAX_SEQ:
        raise InvalidArgument(detail=f"{field} is at most {_MAX_SEQ}.")
    return value


def _following(row: Following) -> regions_pb2.Following:
    return regions_pb2.Following(
        bucket_id=str(row.bucket_id),
        source=row.source,
        endpoints=row.addresses,
        removals=row.removals,
        upto_seq=row.seen_seq,
        complete=row.complete,
        seen=timestamp_of(row.seen) if row.seen else None,
        behind_objects=row.behind_objects,
        behind_bytes=row.behind_bytes,
        behind_since=timestamp_of(row.behind_since) if row.behind_since else None,
        kept_objects=row.kept_objects,
        damaged_objects=row.damaged_objects,
        problem=" ".join(filter(None, (row.problem, row.standing))),
        node_id=row.node_id,
    )


def _follower(bucket: str, row: FollowerCluster) -> regions_pb2.FollowerCluster:
    return regions_pb2.FollowerCluster(
        bucket_id=bucket, cluster=row.cluster, upto_seq=row.upto_seq, seen=timestamp_of(row.seen)
    )
