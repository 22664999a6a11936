"""Around every call: it is counted and timed, and whatever it raises becomes a status.

Kept true: a caller never sees a traceback; what nobody expected is logged with one under an error id, which is all
that the caller gets.
"""

import inspect
import secrets
import sys
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias, cast

import grpc
import psycopg
import structlog

from services.common.clock import Clock
from services.common.errors import InternalError, ServiceError, Unavailable, to_status
from services.common.metrics import ListenerName, Metrics

Context = grpc.aio.ServicerContext[Any, Any]
# Texts: only the stubs make it generic.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
MaybeHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
_PASSING = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
_DETAILS_KEY = "grpc-status-details-bin"


class AroundCalls(grpc.aio.ServerInterceptor):
    """Runs every call of a server inside `around(method, context)`."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[MaybeHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> MaybeHandler:
        handler = await continuation(handler_call_details)
        # No handler: the server answers UNIMPLEMENTED by itself.
        return handler and _wrapped(handler, handler_call_details.method, self.around)

    @abstractmethod
    def around(self, method: str, context: Context) -> AbstractAsyncContextManager[None]:
        """What happens before and after a call; `method` is `/package.Service/Method`."""


class MapErrors(AroundCalls):
    """Turns what a call raises into google.rpc.Status."""

    def __init__(self, role: str, metrics: Metrics, listener: ListenerName) -> None:
        self._role = role
        self._metrics = metrics
        self._listener = listener
        self._log = structlog.get_logger(role)

    @asynccontextmanager
    async def around(self, method: str, context: Context) -> AsyncIterator[None]:
        try:
            yield
        except (grpc.aio.AbortError, grpc.aio.InternalError):
            # The latter says that the caller is gone: there is nobody to tell, and it is no fault.
            raise
        except Exception as error:  # noqa: BLE001 - the edge of the process: everything becomes a status here
            refusal = refusal_of(error, method, self._log, self._metrics, self._listener)
            detail = to_status(refusal, self._role).SerializeToString()
            await context.abort(refusal.code, str(refusal), ((_DETAILS_KEY, detail),))


def refusal_of(error: Exception, method: str, log: Any, metrics: Metrics, listener: ListenerName) -> ServiceError:
    """What the caller of `method` is told of what it raised; the log gets the rest, and the refusal is counted."""
    refusal = _refusal_of(error, method, log)
    metrics.refusals.labels(refusal.cause, listener).inc()
    return refusal


def _refusal_of(error: Exception, method: str, log: Any) -> ServiceError:
    if isinstance(error, ServiceError):
        if isinstance(error, Unavailable):
            log.warning("unavailable", method=method, cause=repr(error.__cause__ or error))
        return error
    if what := _outage(error):
        log.warning("unavailable", method=method, cause=repr(error))
        return Unavailable(what=what)
    if isinstance(error, grpc.aio.AioRpcError) and error.code() in _PASSING:
        log.warning("unavailable", method=method, cause=error.details())
        return Unavailable(what="Another server that this call needs")
    error_id = secrets.token_hex(6)
    log.error("call failed", method=method, error_id=error_id, exc_info=error)
    return InternalError(error_id=error_id)


def _outage(error: Exception) -> str | None:
    """What could not be reached, if the error says that something could not."""
    if isinstance(error, psycopg.OperationalError):
        return "The database"
    # Asked for where it is loaded: importing it takes a sixth of a role's start, and most roles use no Redis.
    if (redis := sys.modules.get("redis")) and isinstance(error, (redis.ConnectionError, redis.TimeoutError)):
        return "The session store"
    return None


class MeasureCalls(AroundCalls):
    """Counts calls by method and status, and their durations."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock

    @asynccontextmanager
    async def around(self, method: str, context: Context) -> AsyncIterator[None]:
        begun = self._clock.monotonic()
        code = "UNKNOWN"
        try:
            yield
            code = "OK"
        except grpc.aio.AbortError:
            code = _code_name(context)
            raise
        except grpc.aio.InternalError:
            code = "CANCELLED"
            raise
        except BaseException as error:
            code = "UNKNOWN" if isinstance(error, Exception) else "CANCELLED"
            raise
        finally:
            self._metrics.calls.labels(method, code).inc()
            self._metrics.seconds.labels(method).observe(self._clock.monotonic() - begun)


def _code_name(context: Context) -> str:
    # types-grpcio calls it StatusCode; grpc answers the number that it sends.
    code = cast("int | grpc.StatusCode", context.code())
    if isinstance(code, grpc.StatusCode):
        return code.name
    return next((known.name for known in grpc.StatusCode if known.value[0] == code), "UNKNOWN")


def _wrapped(
    handler: Handler, method: str, around: Callable[[str, Context], AbstractAsyncContextManager[None]]
) -> Handler:
    """The same handler with its behaviour inside `around`."""
    behaviour, make = _parts(handler)

    async def call(request: Any, context: Context) -> Any:
        async with around(method, context):
            return await behaviour(request, context)

    async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
        async with around(method, context):
            async for response in behaviour(request, context):
                yield response

    return make(
        stream if inspect.isasyncgenfunction(behaviour) else call,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


def _parts(handler: Handler) -> tuple[Callable[..., Any], Callable[..., Handler]]:
    kinds: dict[tuple[bool, bool], tuple[str, Callable[..., Handler]]] = {
        (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
        (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
        (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
        (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
    }
    attribute, make = kinds[handler.request_streaming, handler.response_streaming]
    return getattr(handler, attribute), make
