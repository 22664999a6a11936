"""A bucket on another cluster, as a node of this one reads it: over mutual TLS, in a reading session.

Kept true: what was listed in the session can be read while it lasts, whatever is removed there meanwhile (rule 3 of
docs/sessions.md); a node that does not answer is followed by the next one, for as long as that may help, so that a
cluster of which none answers holds up nobody for long; nothing is changed there but the session, and the note of who
follows.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from itertools import islice
from typing import TypeVar
from uuid import UUID, uuid4

import grpc
from oort.storage.v1 import (
    objects_pb2,
    regions_pb2,
    regions_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
)

from domain.names import ObjectKind, ObjectName
from domain.sessions import OPERATOR_METADATA, Purpose
from services.common.errors import Unavailable
from services.storage.errors import Damaged, SourceGone, SourceRefused
from services.storage.peers import Peers
from services.storage.transfer.copies import reason_of

_CALL_SECONDS = 30.0
_PATIENCE_SECONDS = 60.0  # after which no further node is asked the same
_REACH_SECONDS = 20.0  # in which one of its nodes is reached for a look
_LOOK_SECONDS = 50.0  # for it as a whole: the first one of a large bucket counts all that there is
# For how long those that were asked are waited for before others are, while none is reached, and when one is.
_HEAD_START_SECONDS = 2.0
_ANSWER_SECONDS = 20.0
_PAGE = 1000
_GET = "/oort.storage.v1.ObjectService/Get"
_OUTAGES = frozenset(
    (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED, grpc.StatusCode.ABORTED)
)

Answer = TypeVar("Answer")


class Source:
    """One bucket there. `seconds`: how long a node may take for one frame."""

    def __init__(self, peers: Peers, bucket: UUID, endpoints: Sequence[str], *, seconds: float) -> None:
        self.bucket = bucket
        self._peers = peers
        self._endpoints = list(endpoints)
        self._seconds = seconds
        self._session = ""
        self._beat_seconds = _CALL_SECONDS
        self._metadata: tuple[tuple[str, str], ...] = ()

    async def look(
        self,
        cluster: str,
        endpoints: Sequence[str],
        upto_seq: int,
        session: UUID | None = None,
        *,
        of: str | None = None,
    ) -> regions_pb2.LookResponse:
        """How the bucket is, and what came after `upto_seq`; `cluster` and its `endpoints` are ours.

        With `endpoints` it is noted there that we follow it. `session` is the one there in which all up to then was
        read. With `of`, a node of any other cluster is passed over. One node is asked alone, then ever more at once
        while none is reached: one that hangs hides none that does. The node that answers is the first to be asked next.

        Raises Unavailable when none answers, SourceRefused when those that do refuse, SourceGone when all of those are
        of another cluster, or have no such bucket.
        """
        request = regions_pb2.LookRequest(
            bucket_id=str(self.bucket),
            cluster=cluster,
            endpoints=endpoints,
            upto_seq=upto_seq,
            session_id=str(session) if session else "",
        )
        nobody = f"none of {len(self._endpoints)} nodes answers"
        refusal: Exception = Unavailable(what=f"The other cluster ({nobody})")
        reached: set[str] = set()
        ends = asyncio.get_running_loop().time() + _REACH_SECONDS

        async def look_at(endpoint: str) -> regions_pb2.LookResponse:
            await self._reach(endpoint, ends)
            reached.add(endpoint)
            there = await self._look_at(endpoint, request)
            if of not in (None, there.cluster):
                raise SourceGone(detail=f"its nodes are of cluster {there.cluster} now, not of {of}")
            return there

        def pause() -> float:
            return _ANSWER_SECONDS if reached else _HEAD_START_SECONDS

        def step(more: int) -> int:
            # Those that are reached may all count the same in the one database that they have.
            return 1 if reached else 2 * more

        try:
            async with (
                asyncio.timeout(_LOOK_SECONDS),
                aclosing(_ask_ever_more(self._endpoints, look_at, pause, step)) as looks,
            ):
                async for endpoint, look in looks:
                    try:
                        there = await look
                    except (Unavailable, SourceRefused) as error:
                        refusal = _weightier(refusal, error, is_reached=endpoint in reached)
                    else:
                        self._endpoints.sort(key=lambda one: one != endpoint)
                        return there
        except TimeoutError:
            pass
        raise refusal

    async def _reach(self, endpoint: str, ends: float) -> None:
        """Connect to a node, up to a time of the loop. Raises Unavailable."""
        channel = self._peers.channel(endpoint)
        try:
            async with asyncio.timeout_at(ends):
                while (state := channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
                    if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                        raise Unavailable(what=f"The other cluster's node at {endpoint}")
                    await channel.wait_for_state_change(state)
        except TimeoutError:
            raise Unavailable(what=f"The other cluster's node at {endpoint}") from None

    async def _look_at(self, endpoint: str, request: regions_pb2.LookRequest) -> regions_pb2.LookResponse:
        stub = regions_pb2_grpc.RegionServiceStub(self._peers.channel(endpoint))
        try:
            return await stub.Look(request, timeout=_CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise _refusal(error) from error

    async def open(self, tenant: UUID, user: UUID) -> tuple[UUID, int]:
        """Open the session; answers its id and the seq of its opening: all that came until then is seen in it."""
        # Whose the bucket is, and that a node asks: no device does.
        values = (str(self.bucket), str(tenant), str(user))
        self._metadata = tuple(zip(OPERATOR_METADATA, values, strict=True))
        session = uuid4()
        request = sessions_pb2.OpenRequest(session_id=str(session), purpose=Purpose.READ)
        opened = await self._ask(
            lambda channel: sessions_pb2_grpc.SessionServiceStub(channel).Open(
                request, timeout=_CALL_SECONDS, metadata=self._metadata
            )
        )
        self._session = str(session)
        self._beat_seconds = opened.beat_interval.ToTimedelta().total_seconds()
        return session, opened.opened_seq

    @property
    def beat_seconds(self) -> float:
        """How often the session is to beat; three missed end it."""
        return self._beat_seconds

    async def beat(self) -> None:
        """Say that the session lives, if it is open. A node may take for it as long as beats are apart."""
        if session := self._session:
            request = sessions_pb2.BeatRequest(session_id=session)
            try:
                await self._ask(
                    lambda channel: sessions_pb2_grpc.SessionServiceStub(channel).Beat(
                        request, timeout=min(_CALL_SECONDS, self._beat_seconds), metadata=self._metadata
                    )
                )
            except SourceRefused:
                if session == self._session:  # and was not ended meanwhile
                    raise

    async def end(self) -> None:
        """End the session, if it was opened."""
        if self._session:
            request = sessions_pb2.EndRequest(session_id=self._session)
            self._session = ""
            await self._ask(
                lambda channel: sessions_pb2_grpc.SessionServiceStub(channel).End(
                    request, timeout=_CALL_SECONDS, metadata=self._metadata
                )
            )

    async def changes(self, kind: ObjectKind, after_seq: int) -> AsyncGenerator[list[regions_pb2.Change], None]:
        """What the session sees of a kind and came after `after_seq`, in pages."""
        token, more = "", True
        while more:
            request = regions_pb2.ListChangesRequest(
                bucket_id=str(self.bucket),
                session_id=self._session,
                kind=kind,
                after_seq=after_seq,
                page_size=_PAGE,
                page_token=token,
            )
            page = await self._ask(partial(_list_changes, request))
            yield list(page.changes)
            token = page.next_page_token
            more = bool(token)

    async def gone(self, kind: ObjectKind, names: Sequence[bytes]) -> list[bytes]:
        """Those of at most 1,000 objects, by their SHA-256, that the session does not see."""
        request = regions_pb2.FindGoneRequest(
            bucket_id=str(self.bucket), session_id=self._session, kind=kind, sha256=names
        )
        answer = await self._ask(
            lambda channel: regions_pb2_grpc.RegionServiceStub(channel).FindGone(request, timeout=_CALL_SECONDS)
        )
        return list(answer.sha256)

    async def messages(self, name: ObjectName) -> AsyncGenerator[bytes, None]:
        """GetResponse messages with a whole object, verified there before the last one.

        Raises Damaged when no copy there is whole, Unavailable also in the middle.
        """
        request = objects_pb2.GetRequest(session_id=self._session, name=str(name)).SerializeToString()
        for endpoint in self._in_turn():
            is_begun = False
            call: grpc.aio.UnaryStreamCall[bytes, bytes] = self._peers.channel(endpoint).unary_stream(
                _GET, _as_is, _as_is
            )(request, metadata=self._metadata)
            try:
                while True:
                    async with asyncio.timeout(self._seconds):
                        message = await call.read()
                    if not isinstance(message, bytes):
                        return
                    is_begun = True
                    yield message
            except TimeoutError:
                refusal: Exception = Unavailable(what=f"{name} at {endpoint}")
            except grpc.aio.AioRpcError as error:
                refusal = _refusal(error, name)
            finally:
                call.cancel()
            if is_begun or not isinstance(refusal, Unavailable):
                raise refusal
            self._try_last(endpoint)
        raise Unavailable(what=f"{name} at {', '.join(self._endpoints)}")

    async def _ask(self, question: Callable[[grpc.aio.Channel], Awaitable[Answer]]) -> Answer:
        said = "it has no nodes"
        for endpoint in self._in_turn():
            try:
                return await question(self._peers.channel(endpoint))
            except grpc.aio.AioRpcError as error:
                refusal = _refusal(error)
                if not isinstance(refusal, Unavailable):
                    raise refusal from error
                said = f"{endpoint}: {error.details()}"
                self._try_last(endpoint)
        raise Unavailable(what=f"The other cluster ({said})")

    def _in_turn(self) -> Iterator[str]:
        """Its nodes, while it is worth asking one more."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + _PATIENCE_SECONDS
        for endpoint in list(self._endpoints):
            yield endpoint
            if loop.time() >= ends:
                return

    def _try_last(self, endpoint: str) -> None:
        self._endpoints.remove(endpoint)
        self._endpoints.append(endpoint)


async def _ask_ever_more(
    endpoints: Sequence[str],
    ask: Callable[[str], Awaitable[Answer]],
    pause: Callable[[], float],
    step: Callable[[int], int],
) -> AsyncGenerator[tuple[str, asyncio.Future[Answer]], None]:
    """What each comes to, as it does. One is asked, the next when that has failed, and more after each pause.

    `step` says how many, of how many it was before.
    """
    waiting, more = iter(list(endpoints)), 1
    asked: dict[asyncio.Future[Answer], str] = {}
    try:
        while True:
            for endpoint in islice(waiting, more):
                asked[asyncio.ensure_future(ask(endpoint))] = endpoint
            if not asked:
                return
            done, _ = await asyncio.wait(asked, timeout=pause(), return_when=asyncio.FIRST_COMPLETED)
            more = 1 if done else step(more)
            for one in done:
                yield asked.pop(one), one
    finally:
        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


def _weightier(said: Exception, error: Exception, *, is_reached: bool) -> Exception:
    """Of what two nodes said, the weightier: a refusal, and rather one of a node that has the bucket."""
    if isinstance(error, Unavailable):
        return error if is_reached and isinstance(said, Unavailable) else said  # it says what it lacks
    return error if isinstance(said, Unavailable) or not isinstance(error, SourceGone) else said


def _list_changes(
    request: regions_pb2.ListChangesRequest, channel: grpc.aio.Channel
) -> Awaitable[regions_pb2.ListChangesResponse]:
    return regions_pb2_grpc.RegionServiceStub(channel).ListChanges(request, timeout=_CALL_SECONDS)


def _as_is(message: bytes) -> bytes:
    return message


def _refusal(error: grpc.aio.AioRpcError, name: ObjectName | None = None) -> Exception:
    """What it means here that a node there refuses."""
    detail = error.details() or error.code().name
    if name is not None and reason_of(error) == Damaged.reason:
        return Damaged(name=name, detail=detail)
    if error.code() in _OUTAGES:
        return Unavailable(what=f"The other cluster ({detail})")
    if error.code() is grpc.StatusCode.NOT_FOUND:
        return SourceGone(detail=detail)
    return SourceRefused(detail=detail)
