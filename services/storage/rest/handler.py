"""restic's REST protocol: unpack, authorise, call, answer. It reaches objects by the same parts as gRPC does.

Kept true: an object is read, stored and removed only by who shows a URL's user name and password that allow it, in the
session that the locks make (restic.py); a body that is not what its name says is refused; every refusal is a status
and one line of text, never a traceback.
"""

import json
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from hashlib import sha256
from http import HTTPStatus
from uuid import UUID, uuid4

import structlog
from aiohttp import ClientError, web

from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose, Scope
from domain.tokens import VaultClaims
from services.common.addresses import address_of
from services.common.clock import Clock
from services.common.database import Database
from services.common.errors import NotSignedIn, ServiceError
from services.common.interceptors import refusal_of
from services.common.metrics import Metrics
from services.storage.access.rates import Kind, Rates
from services.storage.errors import Exists, MissingScope, WrongBucket
from services.storage.removal.holding import Brake
from services.storage.rest import restic
from services.storage.rest.access import OUTAGE_SECONDS, Access, basic
from services.storage.rest.bodies import SMALL_BYTES, announced_size, frames_of, read_small, require_same
from services.storage.rest.limiting import LimitRequests
from services.storage.rest.requests import VERSION_1, VERSION_2, NotOffered, Target, http_status, one_line, part_of
from services.storage.sessions import lifecycle
from services.storage.store.objects import ListedObject
from services.storage.transfer.frames import get_body
from services.storage.transfer.gets import Gets, Part
from services.storage.transfer.puts import Put, Puts
from services.storage.transfer.streams import Streams

_METHODS = frozenset(("HEAD", "GET", "POST", "DELETE"))
_OCTETS = "application/octet-stream"
_GONE = "CANCELLED"
_HEADERS = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": 'Basic realm="oort"'},
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": str(round(OUTAGE_SECONDS))},
}


class RestHandler:
    """Answers the requests of one node, for any bucket of the cluster."""

    def __init__(
        self,
        node: str,
        access: Access,
        db: Database,
        puts: Puts,
        gets: Gets,
        *,
        streams: Streams,
        rates: Rates,
        metrics: Metrics,
        clock: Clock,
        brake: Brake,
    ) -> None:
        self._node = node
        self._access = access
        self._db = db
        self._puts = puts
        self._gets = gets
        self._streams = streams
        self._limits = LimitRequests(rates, clock)
        self._metrics = metrics
        self._clock = clock
        self._brake = brake
        self._log = structlog.get_logger("storage")

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request, and count it as calls are counted."""
        begun = self._clock.monotonic()
        kind = _kind_of(request)
        method = f"/rest/{request.method if request.method in _METHODS else 'other'} {kind}"
        code = _GONE
        try:
            answer = await self._answer(request, method)
            code = str(answer.status) if answer.status != _ABORTED else _GONE
        finally:
            self._metrics.calls.labels(method, code).inc()
            self._metrics.seconds.labels(method).observe(self._clock.monotonic() - begun)
        return answer

    async def _answer(self, request: web.BaseRequest, method: str) -> web.StreamResponse:
        try:
            return await self._dispatch(request)
        except (ConnectionError, ClientError):
            return _abort(request)
        except _Broken as broken:
            # The status has been sent: what is left is to let the client see that this is not all.
            refusal = self._refusal(broken.cause, method)
            self._log.warning("a body was cut off", method=method, cause=str(refusal))
            return _abort(request)
        except Exception as error:  # noqa: BLE001 - the edge of the process: everything becomes a status here
            return _refuse(self._refusal(error, method))

    def _refusal(self, error: Exception, method: str) -> ServiceError:
        return refusal_of(error, method, self._log, self._metrics, "public")

    async def _dispatch(self, request: web.BaseRequest) -> web.StreamResponse:
        claims = await self._caller(request)
        target = Target.parse(request.path)
        if target.bucket != claims.bucket:
            raise WrongBucket
        with self._streams.one():
            if target.kind is None:
                return await self._repository(request, claims)
            if target.name is None:
                return await self._list(request, claims, target.kind)
            return await self._object(request, claims, target.name)

    async def _caller(self, request: web.BaseRequest) -> VaultClaims:
        """Who asks, counted among the calls of the device, or of strangers; its locks are its beats."""
        address = address_of(request.remote or "")
        kind = Kind.BEAT if _kind_of(request) == ObjectKind.LOCK else Kind.CALL
        try:
            shown = basic(request.headers.get("Authorization"))
        except NotSignedIn:
            await self._limits.take(None, address, kind)
            raise
        await self._limits.take(self._access.device(shown), address, kind)
        return await self._access.claims(shown)

    async def _repository(self, request: web.BaseRequest, claims: VaultClaims) -> web.StreamResponse:
        if request.method != "POST" or request.query.get("create") != "true":
            raise NotOffered(what=f"{request.method} of a whole repository")
        _require(claims, Scope.APPEND)
        if await restic.needs_config(self._db, claims):
            async with self._first(claims) as session:
                await restic.begin(self._db, claims, session)
        return web.Response()

    async def _object(self, request: web.BaseRequest, claims: VaultClaims, name: ObjectName) -> web.StreamResponse:
        match request.method:
            case "GET" | "HEAD":
                _require(claims, Scope.READ)
                return await self._get(request, claims, name)
            case "POST":
                _require(claims, Scope.APPEND)
                await self._post(request, claims, name)
            case "DELETE" if name.kind is ObjectKind.LOCK:
                # Who may store writes locks, and so removes them.
                _require(claims, Scope.APPEND)
                await restic.remove_lock(self._db, claims, name)
            case "DELETE":
                _require(claims, Scope.DELETE)
                await restic.remove(self._db, claims, name, self._brake)
            case _:
                raise NotOffered(what=request.method[:40])
        return web.Response()

    # Reading

    async def _list(self, request: web.BaseRequest, claims: VaultClaims, kind: ObjectKind) -> web.StreamResponse:
        if request.method != "GET":
            raise NotOffered(what=f"{request.method[:40]} of a whole folder")
        _require(claims, Scope.READ)
        with_sizes = request.headers.get("Accept") == VERSION_2
        response = web.StreamResponse()
        response.content_type = VERSION_2 if with_sizes else VERSION_1
        async with aclosing(restic.pages(self._db, claims, kind)) as pages:
            first = await anext(pages)
            async with self._answering(request, response):
                await self._write(response, b"[" + _entries(first, with_sizes=with_sizes))
                before = bool(first)
                async for page in pages:
                    entries = _entries(page, with_sizes=with_sizes)
                    await self._write(response, (b"," if before and page else b"") + entries)
                await self._write(response, b"]")
        return response

    async def _get(self, request: web.BaseRequest, claims: VaultClaims, name: ObjectName) -> web.StreamResponse:
        if name.kind is ObjectKind.LOCK:
            body = await restic.read_lock(self._db, claims, name)
            return await self._send_small(request, body)
        seen = await restic.see(self._db, claims, name, self._node)
        part, response = _begun(request, seen.size)
        if request.method == "HEAD":
            async with self._answering(request, response):
                return response
        async with aclosing(self._gets.read(claims, name, seen, part)) as messages:
            # What is wrong before the first byte has a status of its own.
            message = await anext(messages, None)
            async with self._answering(request, response):
                while message is not None:
                    await self._write(response, get_body(message))
                    message = await anext(messages, None)
        return response

    async def _send_small(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        part, response = _begun(request, len(body))
        async with self._answering(request, response):
            if request.method != "HEAD":
                await self._write(response, body[part.offset : part.end])
        return response

    @asynccontextmanager
    async def _answering(self, request: web.BaseRequest, response: web.StreamResponse) -> AsyncIterator[None]:
        """While an answer is sent, to its end: no reader that stands still is waited for without bound."""
        with _begun_answer():
            await self._streams.patiently(response.prepare(request))
            yield
            await self._streams.patiently(response.write_eof())

    async def _write(self, response: web.StreamResponse, data: bytes | memoryview) -> None:
        await self._streams.patiently(response.write(data))
        self._streams.count_out(len(data))

    # Storing

    async def _post(self, request: web.BaseRequest, claims: VaultClaims, name: ObjectName) -> None:
        if name.kind not in SMALL_BYTES:
            await self._stream(request, claims, name)
            return
        body = await read_small(request, self._streams, name)
        self._streams.count_in(len(body))
        match name.kind:
            case ObjectKind.LOCK:
                await restic.write_lock(self._db, claims, name, body)
            case ObjectKind.CONFIG:
                await self._initialise(claims, name, body)
            case ObjectKind.KEY if await restic.needs_config(self._db, claims):
                async with self._first(claims) as session:
                    await self._puts.put_body(_put(claims, session, name, body), body)
            case _:
                session = await restic.writing_session(self._db, claims, name.kind)
                await self._puts.put_body(_put(claims, session, name, body), body)

    async def _stream(self, request: web.BaseRequest, claims: VaultClaims, name: ObjectName) -> None:
        """A pack or an index file."""
        size = announced_size(request, name.kind)
        session = await restic.writing_session(self._db, claims, name.kind)
        put = Put(claims, session, name, bytes.fromhex(name.id), size)
        async with aclosing(frames_of(request, self._streams)) as frames:
            stored = await self._puts.put(put, frames)
            # Without copies the body was not read; with them it was, and hashed, also where the name was there by then.
            if not stored.copies:
                await require_same(frames, name)
        self._streams.count_in(size)

    async def _initialise(self, claims: VaultClaims, name: ObjectName, body: bytes) -> None:
        async with self._first(claims) as session:
            if not await self._puts.initialise(claims, session, [(_put(claims, session, name, body), body)]):
                raise Exists

    @asynccontextmanager
    async def _first(self, claims: VaultClaims) -> AsyncIterator[UUID]:
        """A session for what restic stores before it writes its first lock."""
        session = uuid4()
        await lifecycle.open_session(self._db, claims, session, Purpose.BACKUP, None)
        try:
            yield session
        finally:
            await lifecycle.end(self._db, claims, session)


class _Broken(Exception):
    """An answer cannot be gone on with, and has begun."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


@contextmanager
def _begun_answer() -> Iterator[None]:
    """What goes wrong in here has no status any more. Raises _Broken, and what says that the connection is gone."""
    try:
        yield
    except (ConnectionError, ClientError):
        raise
    except Exception as error:
        raise _Broken(error) from error


_ABORTED = 499  # no status of HTTP: nobody gets it


def _abort(request: web.BaseRequest) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=_ABORTED, reason="the connection is gone")


def _refuse(refusal: ServiceError) -> web.StreamResponse:
    line, status = one_line(refusal), http_status(refusal)
    headers = dict(_HEADERS.get(status, {}))
    if refusal.retry_seconds is not None:
        headers["Retry-After"] = str(math.ceil(refusal.retry_seconds))
    return web.Response(status=status, reason=line, text=f"{line}\n", headers=headers)


def _require(claims: VaultClaims, scope: Scope) -> None:
    if scope not in claims.scopes:
        raise MissingScope(shown="user name and password do", scope=scope.value)


def _kind_of(request: web.BaseRequest) -> str:
    try:
        kind = Target.parse(request.path).kind
    except ServiceError:
        return "other"
    return kind.value if kind else "repository"


def _begun(request: web.BaseRequest, size: int) -> tuple[Part, web.StreamResponse]:
    """The part of a body that is asked for, and the answer that will have it."""
    asked = part_of(request.headers.get("Range"), size)
    part = asked or Part(0, size, size)
    response = web.StreamResponse(headers={"Accept-Ranges": "bytes"})
    if asked is not None:
        response.set_status(HTTPStatus.PARTIAL_CONTENT)
        response.headers["Content-Range"] = f"bytes {part.offset}-{part.end - 1}/{size}"
    response.content_type = _OCTETS
    response.content_length = part.end - part.offset
    return part, response


def _entries(page: list[ListedObject], *, with_sizes: bool) -> bytes:
    """Without the brackets around them."""
    if with_sizes:
        text = json.dumps([{"name": row.sha256.hex(), "size": row.size} for row in page])
    else:
        text = json.dumps([row.sha256.hex() for row in page])
    return text[1:-1].encode()


def _put(claims: VaultClaims, session: UUID, name: ObjectName, body: bytes) -> Put:
    return Put(claims, session, name, bytes.fromhex(name.id) or sha256(body).digest(), len(body))
