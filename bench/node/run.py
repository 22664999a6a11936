"""The load itself: all put, all get, many wait; ours on one node of a stack, then the same on rclone.

Kept true: both servers get the same bodies from as many connections of one event loop; what one has written is on the
disk before the other begins; what was put is read from memory by rclone, and from the disk by ours, which lets go of
packs.
"""

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil
from oort.auth.v1.profiles_pb2 import IssueVaultTokenRequest, RequestVaultRequest

from bench.comparison import Say, ensure_room, work_folder
from bench.measure import NotMeasured, Watch, family, processor_seconds
from bench.node.bodies import Bodies, Body
from bench.node.clients import Client, Node, OortClient, ResticClient
from bench.node.figures import GETS, PUTS, NodeFigures, Phase
from bench.oort import SINGLE, running_stack
from bench.peers import can_serve_restic, rclone
from bench.profiling import Profile, profiled
from client.account.device import Device
from client.account.home import Home
from client.account.vaults import new_id
from deploy.driver import Device as Tool
from deploy.driver import Operator

C = TypeVar("C", bound=Client)
T = TypeVar("T")

_NODE = "node-a"
_PACK = 16 << 20
_LOOK_SECONDS = 0.2
_RENEW_SECONDS = 300.0
_OPENED_AT_ONCE = 50
_START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """How much: clients, packs of 16 MiB that each of them puts, sessions that are idle, and for how many seconds."""

    clients: int
    packs: int
    idle: int
    idle_seconds: float


FULL = Load(clients=200, packs=4, idle=1000, idle_seconds=60)
SHORT = Load(clients=16, packs=1, idle=50, idle_seconds=5)


def run(
    load: Load, *, workers: int, with_profile: bool, place: Path | None, say: Say
) -> tuple[NodeFigures, list[Profile]]:
    """Measure a node of so many processes. Raises NotMeasured when a client meets an error, or gets other bytes.

    A profile is of the first process.
    """
    return asyncio.run(_run(load, workers=workers, with_profile=with_profile, place=place, say=say))


async def _run(
    load: Load, *, workers: int, with_profile: bool, place: Path | None, say: Say
) -> tuple[NodeFigures, list[Profile]]:
    bodies = Bodies(_PACK)
    packs = [[bodies.make() for _ in range(load.packs)] for _ in range(load.clients)]
    with work_folder(place) as folder:
        ensure_room(folder, 5 * load.clients * load.packs * _PACK // 2)
        with running_stack(folder) as operator:
            if workers > 1:
                say(f"{_NODE} with {workers} workers")
                operator.set(_NODE, OORT_WORKERS=str(workers))
                await _serving(operator, workers)
            stack = _Stack(operator, folder, with_profile=with_profile)
            say(f"{load.clients} clients, {load.packs} packs of 16 MiB each, to {_NODE}")
            async with _closing(await stack.clients(load.clients)) as clients:
                puts = await stack.phase(PUTS, bodies, packs, [client.put for client in clients])
                os.sync()
                gets = await stack.phase(GETS, bodies, packs, [client.get for client in clients])
            say(f"{load.idle} idle sessions")
            nodes = [clients[number % len(clients)].node for number in range(load.idle)]
            async with _closing([OortClient(node) for node in nodes]) as waiting:
                with stack.watching("idle"):
                    for start in range(0, load.idle, _OPENED_AT_ONCE):
                        await _together([client.open() for client in waiting[start : start + _OPENED_AT_ONCE]])
                    await _together([client.wait(load.idle_seconds) for client in waiting])
        os.sync()
        beside = await _rclone(folder, bodies, packs, say) if can_serve_restic() else {}
    figures = NodeFigures(load.clients, load.idle, {PUTS: puts, GETS: gets}, beside, stack.memory, workers)
    return figures, stack.profiles


class _Stack:
    """The node that is measured, with one bucket for each client; what was seen of it."""

    def __init__(self, operator: Operator, folder: Path, *, with_profile: bool) -> None:
        self._operator = operator
        self._home = folder / "device"
        pids = {name: service["pid"] for name, service in operator.status()["services"].items()}
        self._pid = pids.pop(_NODE)
        self._others = list(pids.values())
        self._folder = folder
        self._with_profile = with_profile
        self.memory: dict[str, int] = {}
        self.profiles: list[Profile] = []

    async def clients(self, count: int) -> list[OortClient]:
        """As many with an open session on a bucket whose only copy is the node's; other buckets are left."""
        password = secrets.token_urlsafe(24)
        self._operator.add_user("clients", password)
        Tool(self._home).log_in(self._operator, "clients", password)
        device = Device(Home(self._home))
        endpoint = self._operator.status()["services"][_NODE]["public"]
        found: list[OortClient] = []
        while len(found) < count:
            client = OortClient(_bucket(device, endpoint))
            if await client.open() == (endpoint,):
                found.append(client)
            else:
                await client.close()
        return found

    async def phase(
        self,
        work: str,
        bodies: Bodies,
        packs: Sequence[Sequence[Body]],
        calls: Sequence[Callable[[Bodies, Body], Awaitable[None]]],
    ) -> Phase:
        with ExitStack() as watching:
            watching.enter_context(self.watching(work))
            if self._with_profile:
                title = f"{work}, {len(calls)} clients"
                watching.enter_context(profiled(title, _NODE, self._pid, self._folder / work, self.profiles.append))
            return await _phase(bodies, packs, calls, [self._pid], self._others)

    @contextmanager
    def watching(self, what: str) -> Iterator[None]:
        """See the most memory of the node meanwhile."""
        self.memory[what] = 0

        def look() -> None:
            self.memory[what] = max(self.memory[what], proportional_memory(self._pid))

        with Watch(look, _LOOK_SECONDS):
            yield


async def _serving(operator: Operator, workers: int) -> None:
    """Wait until so many processes of the node listen. Raises NotMeasured after a minute."""
    service = operator.status()["services"][_NODE]
    port, end = int(service["public"].rpartition(":")[2]), time.monotonic() + _START_SECONDS
    while sum(_listens(process, port) for process in family(service["pid"])) < workers:
        if time.monotonic() > end:
            raise NotMeasured(f"{_NODE} did not get {workers} workers")
        await asyncio.sleep(_LOOK_SECONDS)


def _listens(process: psutil.Process, port: int) -> bool:
    with suppress(psutil.Error):
        found = process.net_connections(kind="tcp")
        return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in found)
    return False


def proportional_memory(pid: int) -> int:
    """Bytes of a process and its descendants, what several share divided among them (PSS, proc_pid_smaps_rollup(5))."""
    total = 0
    for process in family(pid):
        for line in Path("/proc", str(process.pid), "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def _bucket(device: Device, endpoint: str) -> Node:
    """A new bucket; its token is asked for again in time."""
    request = RequestVaultRequest(id=new_id(), name=secrets.token_hex(8), template=SINGLE)
    vault = device.connection.call(device.profiles.RequestVault, request).vault
    held: tuple[float, str] = (0.0, "")

    def token() -> str:
        nonlocal held
        if time.monotonic() - held[0] > _RENEW_SECONDS or not held[1]:
            asked = IssueVaultTokenRequest(vault_id=vault.id, scopes=["read", "append"])
            held = time.monotonic(), device.connection.call(device.profiles.IssueVaultToken, asked).token
        return held[1]

    return Node(endpoint, device.home.ca(), vault.bucket_id, device.key, token)


async def _rclone(folder: Path, bodies: Bodies, packs: Sequence[Sequence[Body]], say: Say) -> dict[str, Phase]:
    say("the same to rclone serve restic")
    with rclone(folder / "repository", folder / "rclone") as (url, pid):
        async with _closing([ResticClient(url) for _ in packs]) as clients:
            await clients[0].create()
            puts = await _phase(bodies, packs, [client.put for client in clients], [pid], [])
            os.sync()
            gets = await _phase(bodies, packs, [client.get for client in clients], [pid], [])
    return {PUTS: puts, GETS: gets}


async def _phase(
    bodies: Bodies,
    packs: Sequence[Sequence[Body]],
    calls: Sequence[Callable[[Bodies, Body], Awaitable[None]]],
    server: Sequence[int],
    others: Sequence[int],
) -> Phase:
    """Each client handles its packs, one after the other."""
    started = time.perf_counter()

    async def one(call: Callable[[Bodies, Body], Awaitable[None]], own: Sequence[Body]) -> float:
        for body in own:
            await call(bodies, body)
        return time.perf_counter() - started

    cpu, beside = processor_seconds(server), processor_seconds(others)
    seconds = await _together([one(call, own) for call, own in zip(calls, packs, strict=True)])
    size = sum(map(len, packs)) * bodies.size
    return Phase(size, max(seconds), processor_seconds(server) - cpu, processor_seconds(others) - beside, seconds)


async def _together(works: Iterable[Awaitable[T]]) -> list[T]:
    """All at once, to the end of all. Raises NotMeasured when any of them failed."""
    done = await asyncio.gather(*works, return_exceptions=True)
    failed = [each for each in done if isinstance(each, BaseException)]
    if failed:
        raise NotMeasured(f"{len(failed)} of {len(done)} clients met an error, the first: {failed[0]!r}") from failed[0]
    return [each for each in done if not isinstance(each, BaseException)]


@asynccontextmanager
async def _closing(clients: list[C]) -> AsyncIterator[list[C]]:
    try:
        yield clients
    finally:
        await asyncio.gather(*(client.close() for client in clients), return_exceptions=True)
