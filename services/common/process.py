"""The life of a role's process: lease, schema, listeners, work, drain.

Kept true: nothing is served before the instance has a lease and its schema is current; after SIGTERM or SIGINT no new
call is taken and those under way finish, for `drain_seconds` at most. Of an instance of several processes that is
true of all: the first one starts the others when it serves, and waits for them when it ends (crew.py).

Exit codes: 0 ended by a signal; 1 it could not start or go on (a taken port, no database); 2 bad settings;
3 no lease; 4 lease and grace are over. Every one but 0 comes with one line on stderr.
"""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from importlib.resources.abc import Traversable
from typing import Any, Generic, TypeVar

import grpc
import structlog
from prometheus_client import CollectorRegistry

from services.common import heartbeat, jobs, logs
from services.common.clock import Clock, SystemClock
from services.common.crew import Crew, follow, tick
from services.common.database import Database
from services.common.errors import StartError, Unavailable
from services.common.figures import summed
from services.common.interceptors import MapErrors, MeasureCalls
from services.common.lease import NO_LEASE, open_keeper
from services.common.listeners import Listener, Served, internal_credentials, listen, public_credentials
from services.common.metrics import Metrics, MetricsServer
from services.common.migrations import migrate
from services.common.ports import reserved
from services.common.settings import ProcessSettings, RoleSettings, load
from services.common.worker import Worker, started_as

Settings = TypeVar("Settings", bound=ProcessSettings)
Result = TypeVar("Result")
Job = Callable[[], Awaitable[None]]
Drain = Callable[[float], Awaitable[None]]

_FAILED = 1
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0


@dataclass(frozen=True, slots=True)
class Runtime(Generic[Settings]):
    """What a role builds its parts from.

    `draining` is set when the process begins to end: long streams then finish or hand back what they hold, and no new
    work is begun. `worker` is which of the instance's processes this one is.
    """

    role: str
    settings: Settings
    db: Database
    clock: Clock
    metrics: Metrics
    draining: asyncio.Event
    worker: Worker = field(default_factory=Worker)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a role serves, and what it does besides.

    `around_public` runs around the calls of the public listener, inside of what is around all calls.
    `drains` is what else it serves: each takes no new calls, and lets those under way finish for the given seconds.
    A job of `background` runs until the process ends, when it is cancelled after the last call; one that raises ends
    the process. `lent` are descriptors that further processes of the instance are to have open too.
    """

    public: Sequence[Served] = ()
    internal: Sequence[Served] = ()
    background: Sequence[Job] = ()
    drains: Sequence[Drain] = ()
    around_public: Sequence[grpc.aio.ServerInterceptor] = ()
    lent: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Role(Generic[Settings]):
    """One role, as its `__main__.py` describes it.

    `wire` opens what the role needs (Redis, channels, disks), yields its parts, and closes what it opened. A role whose
    settings are RoleSettings starts with a lease. `workers` is how many processes an instance has, which share the
    ports of the settings `listens`; `wire` is called in each.
    """

    name: str
    settings: type[Settings]
    migrations: Traversable
    wire: Callable[[Runtime[Settings]], AbstractAsyncContextManager[Parts]]
    workers: Callable[[Settings], int] = lambda _settings: 1
    listens: Sequence[str] = ("public_listen", "internal_listen")


@dataclass(frozen=True, slots=True)
class Started:
    """A role that serves; the ports are those it got. Metrics are served by the first process of an instance."""

    public: Listener
    internal: Listener
    metrics: MetricsServer | None


def main(role: Role[Any]) -> int:
    """Run a role with settings from the environment until a signal; answers the exit code."""
    try:
        settings = load(role.settings)
        worker = started_as(os.environ)
        named = {"worker": str(worker.number)} if worker else {}
        logs.configure(settings.log_level, role=role.name, instance=settings.instance, **named)
        asyncio.run(_until_signal(role, settings, worker))
    except StartError as error:
        sys.stderr.write(f"oort {role.name}: {error}\n")
        return error.exit_code
    except Exception:  # noqa: BLE001 - the edge of the process: whoever started it gets one line, the log the traceback
        structlog.get_logger(role.name).exception("the process failed")
        sys.stderr.write(f"oort {role.name}: failed; the traceback is in the log above\n")
        return _FAILED
    return 0


async def _until_signal(role: Role[Settings], settings: Settings, worker: Worker | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await run(role, settings, SystemClock(), stop, _never_look_again, worker=worker)


def _never_look_again(_started: Started) -> None:
    """Begin to look for garbage in cycles, but never among what is there after the start, which stays.

    Looking through it took a fifth of the imports, and 7 % of a storage node's processor time.
    """
    gc.collect()
    gc.freeze()
    gc.enable()


async def run(
    role: Role[Settings],
    settings: Settings,
    clock: Clock,
    stop: asyncio.Event,
    on_start: Callable[[Started], None] | None = None,
    *,
    worker: Worker | None = None,
) -> None:
    """Start the role and serve until `stop` is set; then drain. Raises StartError, whose exit code says why.

    `worker` is what a further process of an instance was started as: it serves beside the first one, under its lease.
    """
    log = structlog.get_logger(role.name)
    async with AsyncExitStack() as stack:
        background: list[Job] = []
        if isinstance(settings, RoleSettings) and worker is None:
            keeper = open_keeper(role.name, settings, clock)
            stack.callback(keeper.close)
            patience = partial(_patiently, clock=clock, seconds=settings.start_seconds, stop=stop)
            if await patience(keeper.take, exit_code=NO_LEASE) is None:
                return
            background.append(keeper.keep)
        metrics = Metrics(role.name, settings.instance, version("oort"))
        crew: Crew | None = None
        if worker is not None:
            follow(worker, metrics.registry)
            stack.callback(asyncio.ensure_future(tick(worker, clock)).cancel)
        elif (count := role.workers(settings)) > 1:
            settings = stack.enter_context(reserved(settings, role.listens))
            crew = Crew(count, _where(settings, role.listens), clock, metrics.registry)
            stack.callback(crew.close)
            stack.push_async_callback(crew.drain, 0)
        db = await _open_database(role, settings, clock, stop, migrates=worker is None)
        if db is None:
            return
        stack.push_async_callback(db.close)
        draining = asyncio.Event()
        place = worker or (crew.first if crew else Worker())
        parts = await stack.enter_async_context(
            role.wire(Runtime(role.name, settings, db, clock, metrics, draining, place))
        )
        shown = summed(metrics.registry, crew.figures) if crew else metrics.registry
        started = await stack.enter_async_context(
            _listening(role.name, settings, parts, metrics, clock, shown=shown if place.is_first else None)
        )
        if settings.cluster_server and place.is_first:
            target = settings.cluster_server
            background.append(partial(heartbeat.beat, role.name, settings, target, clock.now(), clock))
        _say_serving(log, started)
        if on_start:
            on_start(started)
        drains = [*parts.drains]
        if crew:
            background.append(partial(crew.keep, parts.lent))
            drains.append(crew.drain)
        drain = partial(_drain, started, drains, draining, settings.drain_seconds)
        await _work([*background, *parts.background], stop, drain)
    log.info("ended")


def _where(settings: ProcessSettings, listens: Sequence[str]) -> dict[str, str]:
    """What further processes are told of where all listen."""
    given = {name: value for name in listens if (value := getattr(settings, name)) is not None}
    return {f"OORT_{name.upper()}": value for name, value in {**given, "share_port": "true"}.items()}


def _say_serving(log: Any, started: Started) -> None:
    ports = {"public": started.public.port, "internal": started.internal.port}
    if started.metrics is None:
        log.info("a worker serves", **ports)
    else:
        log.info("serving", **ports, metrics=started.metrics.port, version=version("oort"))


async def _open_database(
    role: Role[Settings], settings: Settings, clock: Clock, stop: asyncio.Event, *, migrates: bool
) -> Database | None:
    """Bring the schema up to date, if that is this process's to do, and connect. None if it is to end before."""
    patience = partial(_patiently, clock=clock, seconds=settings.start_seconds, stop=stop)
    if migrates and await patience(partial(migrate, settings.database_owner_url, role.migrations)) is None:
        return None
    open_it = partial(
        Database.open,
        settings.database_url,
        settings.database_worker_url,
        connections=settings.database_connections,
    )
    return await patience(open_it)


async def _patiently(
    attempt: Callable[[], Awaitable[Result]],
    *,
    clock: Clock,
    seconds: float,
    stop: asyncio.Event,
    exit_code: int = _FAILED,
) -> Result | None:
    """Try again while what is needed is not up yet: an installation starts in any order. None once `stop` is set."""
    end = clock.monotonic() + seconds
    pause = _FIRST_PAUSE
    while not stop.is_set():
        try:
            return await attempt()
        except Unavailable as error:
            what = error.fields["what"]
            if clock.monotonic() + pause > end:
                raise StartError(f"{what} cannot be reached: {_cause(error)}", exit_code) from error
            if pause == _FIRST_PAUSE:
                structlog.get_logger("start").warning("waiting", what=what, cause=_cause(error), seconds=seconds)
        await clock.sleep(pause)
        pause = min(_LONGEST_PAUSE, pause * 2)
    return None


def _cause(error: Unavailable) -> str:
    """In one line."""
    cause = error.__cause__
    if isinstance(cause, grpc.aio.AioRpcError):
        return cause.details() or cause.code().name
    return str(cause or error).strip().splitlines()[0]


@asynccontextmanager
async def _listening(
    role: str,
    settings: ProcessSettings,
    parts: Parts,
    metrics: Metrics,
    clock: Clock,
    *,
    shown: CollectorRegistry | None,
) -> AsyncIterator[Started]:
    """`shown` is what the metrics port shows; None where there is none."""
    async with AsyncExitStack() as stack:
        metrics_server = MetricsServer.start(shown, settings.metrics_listen) if shown else None
        if metrics_server:
            stack.callback(metrics_server.close)
        listeners = []
        measure = MeasureCalls(metrics, clock)
        inside, outside = MapErrors(role, metrics, "internal"), MapErrors(role, metrics, "public")
        for listen_on, credentials, services, around in (
            (settings.internal_listen, internal_credentials(settings), parts.internal, (measure, inside)),
            (
                settings.public_listen,
                public_credentials(settings),
                parts.public,
                (measure, outside, *parts.around_public),
            ),
        ):
            listener = await listen(listen_on, credentials, services, around, share_port=settings.share_port)
            stack.push_async_callback(listener.drain, 0)
            listeners.append(listener)
        yield Started(public=listeners[1], internal=listeners[0], metrics=metrics_server)


async def _drain(started: Started, drains: Sequence[Drain], draining: asyncio.Event, seconds: float) -> None:
    draining.set()
    own = (started.public.drain, started.internal.drain)
    await asyncio.gather(*(drain(seconds) for drain in (*own, *drains)))


async def _work(work: Sequence[Job], stop: asyncio.Event, drain: Job) -> None:
    """Run the jobs until `stop` is set or one of them fails; drain; then cancel them. Raises what the job raised."""
    stopping = asyncio.create_task(stop.wait())
    running = {asyncio.ensure_future(job()) for job in work}
    try:
        waiting: set[asyncio.Future[Any]] = {stopping, *running}
        failed: asyncio.Future[Any] | None = None
        while waiting and not stop.is_set() and failed is None:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            failed = next((job for job in done if job is not stopping and job.exception()), None)
        await drain()
        if failed is not None:
            await failed
    finally:
        await jobs.cancel([stopping, *running])
