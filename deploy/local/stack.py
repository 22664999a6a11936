"""The embedded stack as its operator sees it: up, down, restart, status.

Kept true: `up` and `down` may be repeated, and whatever was killed in between, `down` leaves no process and `up` finds
all data again. Neither of them calls a role, so gRPC and what makes certificates are loaded for the others alone.
"""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.errors import NotFound, UsageError
from deploy.local import background, orphans, roles, settings
from deploy.local.background import Say
from deploy.local.errors import StackError, StackIsBusy, StackNotRunning
from deploy.local.folder import Service, StackFolder, StackState
from deploy.local.processes import ProcessId, last_lines, stop

if TYPE_CHECKING:
    from oort.storage.v1 import buckets_pb2

    from deploy.local.calls import Operator

_DOWN_PATIENCE_SECONDS = 120.0
_RESTART_PATIENCE_SECONDS = 120.0
_DEATHS = 3  # of a process that is started anew, after which it is not waited for any more
_POLL_SECONDS = 0.1


def up(
    path: Path,
    *,
    detach: bool,
    say: Say,
    ready: Callable[[], None],
    restart_delay: float = roles.RESTART_DELAY_SECONDS,
    nodes: int | None = None,
) -> bool:
    """Start a stack; without `detach`, stay until a signal and stop it.

    `nodes` is how many storage nodes it has from now on; None for as many as before. False when it runs already.
    Raises NotAStack, StackIsBusy, StackError, UsageError for fewer nodes than may hold something, and for another
    number of them than a stack has that runs.
    """
    folder = StackFolder.create(path)
    if folder.is_held:
        state = folder.load()
        if state.ready:
            _refuse_other_nodes(folder, state, nodes)
            return False
        raise StackIsBusy(folder=folder.path)
    settings.check(folder)
    if nodes is not None:
        _set_nodes(folder, nodes)
    if detach:
        background.start(folder, restart_delay, say)
        ready()
        return True
    from deploy.local.supervisor import Supervisor

    with folder.held():
        Supervisor(folder, restart_delay=restart_delay, say=say).run(ready)
    return True


def _refuse_other_nodes(folder: StackFolder, state: StackState, count: int | None) -> None:
    if count not in (None, state.node_count):
        raise UsageError(
            detail=f"The stack in {folder.path} is running, with {state.node_count} storage nodes: take it down with"
            f" `oort stack down --data {folder.path}`, and up again with --nodes {count}."
        )


def _set_nodes(folder: StackFolder, count: int) -> None:
    with folder.held():
        state = folder.load()
        least = _least_nodes(folder, state)
        if count < least:
            raise UsageError(
                detail=f"The stack in {folder.path} has {least} storage nodes, and what lies on them"
                " would be out of reach with fewer: give at least as many, or leave --nodes out."
            )
        wanted = {node.name for node in roles.nodes(count)}
        for node in state.nodes:
            if node.name not in wanted:
                del state.services[node.name]
        state.node_count = count
        folder.save(state)


def _least_nodes(folder: StackFolder, state: StackState) -> int:
    """As many as it has been up with, or those up to the last that holds anything: others may be taken away again."""
    every = enumerate(roles.nodes(roles.MOST_NODES), 1)
    return max([state.most_ready, *(number for number, node in every if folder.holds_buckets(node.name))])


def down(path: Path) -> list[str]:
    """Stop a stack. Answers the names of processes that had been left by a killed supervisor. Raises NoStack."""
    folder = StackFolder.find(path)
    end = time.monotonic() + _DOWN_PATIENCE_SECONDS
    while folder.is_held:
        supervisor = folder.load().supervisor
        # It enters itself right after it has taken the lock.
        if supervisor is not None and supervisor.pid != os.getpid():
            stop(supervisor, patience=_DOWN_PATIENCE_SECONDS)
        elif time.monotonic() > end:
            raise StackIsBusy(folder=folder.path)
        time.sleep(_POLL_SECONDS)
    with folder.held():
        state = folder.load()
        found = orphans.stop_all(folder, state.id)
        _forget_processes(folder, state)
    return found


def restart(path: Path, name: str) -> None:
    """End one process of a running stack, if it lives, and wait until it is healthy again.

    Raises StackNotRunning, NotFound; StackError for settings that cannot be meant, and when it does not stay up.
    """
    from deploy.local.certificates import CertificateAuthority

    folder = StackFolder.find(path)
    state = folder.load()
    if not folder.is_held or state.supervisor is None or not state.ready:
        raise StackNotRunning(folder=folder.path)
    if name not in state.services:
        raise NotFound(detail=f"There is no process named {name}: {', '.join(state.services)} are there.")
    settings.check(folder)
    before = state.services[name].process
    if before is not None:
        stop(before, ask=signal.SIGINT if name == "postgres" else signal.SIGTERM, patience=_RESTART_PATIENCE_SECONDS)
    ca_pem = CertificateAuthority.open(folder.certificates, datetime.now(UTC)).ca.read_bytes()
    end = time.monotonic() + _RESTART_PATIENCE_SECONDS
    dead: set[ProcessId] = set()
    while time.monotonic() < end and len(dead) < _DEATHS:
        service = folder.load().services[name]
        if service.process != before and _is_healthy(service, ca_pem):
            return
        if service.process is not None and service.process != before and not service.process.alive:
            dead.add(service.process)
        if supervisor := state.supervisor.find():
            # Again and again, since the supervisor may notice the death after the first one.
            supervisor.send_signal(signal.SIGHUP)
        time.sleep(_POLL_SECONDS * 5)
    log = folder.log(name)
    raise StackError(detail=f"{name} is not healthy again, see {log}\n{last_lines(log, 1)}")


@dataclass(frozen=True, slots=True)
class Status:
    """`missing_copies` is None when no storage node answers.

    `copies_complete`: none is missing, and every node that holds vaults lives and has compared its disks with the
    catalogue since it was started. `silent` are storage nodes that do not say that they live, as one says that
    does; a node's `away` are its disks and stores that were not there at its last heartbeat, `hanging` its disks that
    do not answer, with for how long.
    """

    running: bool
    services: dict[str, dict[str, Any]]
    nodes: dict[str, dict[str, Any]]
    missing_copies: int | None
    copies_complete: bool
    silent: list[str]

    @property
    def all_well(self) -> bool:
        return self.running and all(service["healthy"] for service in self.services.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "running": self.running,
            "copies_complete": self.copies_complete,
            "missing_copies": self.missing_copies,
            "services": self.services,
            "nodes": self.nodes,
        }


def status(path: Path) -> Status:
    """How a stack is; it runs when its supervisor lives and has brought everything up. Raises NoStack."""
    from deploy.local.calls import Operator
    from deploy.local.certificates import CertificateAuthority

    folder = StackFolder.find(path)
    state = folder.load()
    now = datetime.now(UTC)
    authority = CertificateAuthority.open(folder.certificates, now)
    ca_pem = authority.ca.read_bytes()
    services = {
        name: {
            "pid": service.process.pid if service.process and service.process.alive else None,
            "healthy": _is_healthy(service, ca_pem),
            "public": service.public,
            "internal": service.internal,
        }
        for name, service in state.services.items()
    }
    cluster = _describe(Operator(authority, now), [services[node.name] for node in state.nodes])
    told = {entry.id: entry for entry in cluster.nodes} if cluster else {}
    seen = {name for name, entry in told.items() if entry.live}
    disks = {node.name: told[node.name].disks if node.name in told else () for node in state.nodes}
    nodes = {
        node.name: {
            "data": str(folder.node(node.name)),
            "public": node.public,
            "internal": node.internal,
            "rest": node.rest,
            "live": node.name in seen,
            "away": [_text(disk) for disk in disks[node.name] if not disk.there],
            "hanging": [
                _hanging(disk) for disk in disks[node.name] if disk.silent_seconds and services[node.name]["healthy"]
            ],
        }
        for node in state.nodes
    }
    return Status(
        folder.is_held and state.ready,
        services,
        nodes,
        cluster.missing_copies if cluster else None,
        copies_complete=cluster is not None and cluster.copies_complete,
        silent=[name for name, entry in told.items() if not entry.live and entry.state in ("serving", "draining")],
    )


def _text(disk: "buckets_pb2.Disk") -> str:
    return f"the disk {disk.id} in {disk.place}" if disk.kind == "disk" else f"the store {disk.place}"


def _hanging(disk: "buckets_pb2.Disk") -> str:
    return f"{_text(disk)} does not answer for {disk.silent_seconds} s"


def _describe(operator: "Operator", nodes: list[dict[str, Any]]) -> "buckets_pb2.DescribeClusterResponse | None":
    """The storage cluster as the first node says that answers."""
    for node in nodes:
        if node["healthy"]:
            answer = operator.describe_cluster(node["internal"])
            if answer is not None:
                return answer
    return None


def _is_healthy(service: Service, ca_pem: bytes) -> bool:
    if service.process is None or not service.process.alive:
        return False
    from deploy.local.calls import is_healthy

    # Postgres and Redis have no such service: the supervisor saw them answer, and they live.
    return not service.internal or is_healthy(service.public, ca_pem)


def _forget_processes(folder: StackFolder, state: StackState) -> None:
    for service in state.services.values():
        service.process = None
    state.supervisor = None
    state.ready = False
    folder.save(state)
