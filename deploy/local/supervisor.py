"""The process that holds a stack: starts everything in order, restarts what dies, and stops everything in order.

Kept true: one supervisor a folder (a lock that the kernel lets go of); every process that it starts is in `stack.json`
and carries the stack's mark before anything else happens; nothing runs after `stop`. A role that dies is started again
after `restart_delay` seconds, so that the loss can be observed and a role that cannot start does not burn the machine;
SIGHUP starts what is down at once.
"""

import asyncio
import contextlib
import os
import shlex
import signal
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import FrameType
from typing import TYPE_CHECKING

from oort.auth.v1 import profiles_pb2

from deploy.local import orphans, roles, settings
from deploy.local.calls import Operator, is_healthy
from deploy.local.certificates import CertificateAuthority
from deploy.local.errors import ServerDidNotStart, StackError
from deploy.local.folder import Service, StackFolder, StackState
from deploy.local.ports import PortReservations, is_free
from deploy.local.postgres import PostgresServer
from deploy.local.processes import ProcessId, last_lines, spawn, stop
from deploy.local.redis import RedisServer
from deploy.local.secrets import InstallationSecrets, open_secrets
from services.common.provision import DatabasePasswords, DatabaseUrls, provision

if TYPE_CHECKING:
    from subprocess import Popen

    from deploy.local.background import Say

_START_PATIENCE_SECONDS = 120.0
_STOP_PATIENCE_SECONDS = 20.0
_WATCH_SECONDS = 0.25
_POLL_SECONDS = 0.1
_PORT_TRIES = 3
_COPIES = 2  # of vaults of the template that is there from the start, where there are nodes for them


class Stopped(Exception):
    """A signal came while the stack was starting."""


class Supervisor:
    """One running stack. Use `run`."""

    def __init__(self, folder: StackFolder, *, restart_delay: float, say: "Say") -> None:
        self._folder = folder
        self._restart_delay = restart_delay
        self._say = say
        self._state: StackState = folder.load()
        self._nodes = roles.nodes(self._state.node_count)
        self._leased = roles.leased(self._state.node_count)
        self._instances = roles.instances(self._state.node_count)
        self._now = datetime.now(UTC)
        self._authority = CertificateAuthority.open(folder.certificates, self._now)
        self._operator = Operator(self._authority, self._now)
        self._secrets: InstallationSecrets = open_secrets(folder)
        self._reservations = PortReservations()
        self._chosen: dict[str, tuple[int, ...]] = {}  # ports that are reserved for an instance
        self._children: dict[str, Popen[bytes]] = {}
        self._due: dict[str, float] = {}  # when what is down is started again, by the monotonic clock
        self._databases: dict[str, DatabaseUrls] = {}
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        further = settings.further_workers(folder, self._nodes)
        self._postgres = PostgresServer(
            folder.path / "postgres",
            log=folder.log("postgres"),
            settings={"max_connections": str(roles.connections(self._state.node_count, further))},
        )
        self._redis = RedisServer(folder.path / "redis", log=folder.log("redis"))

    def run(self, on_ready: Callable[[], None]) -> None:
        """Start, keep watch until SIGTERM or SIGINT, stop. Raises StackError when something does not start."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGHUP, self._on_hurry)
        try:
            self._start()
            on_ready()
            self._watch()
        except Stopped:
            self._say("stopping before everything has started")
        finally:
            self._stop()

    # Start

    def _start(self) -> None:
        self._state.supervisor = ProcessId.of(os.getpid())
        self._state.ready = False
        self._save()
        for name in orphans.stop_all(self._folder, self._state.id):
            self._say(f"stopped {name}, left by a stack that was killed")
        for instance in self._instances:
            self._choose_ports(instance)
        self._start_postgres()
        self._start_redis()
        self._provision()
        self._start_together([roles.LICENSE])
        self._operator.put_serial(self._internal(roles.LICENSE), self._secrets.serial)
        self._start_together(self._leased)
        self._operator.add_first_admin(self._internal(roles.AUTH), self._secrets)
        self._tell_auth_of_storage()
        self._write_env()
        self._state.most_ready = max(self._state.most_ready, self._state.node_count)
        self._state.ready = True
        self._save()

    def _start_postgres(self) -> None:
        self._postgres.port = self._server_port("postgres", roles.POSTGRES_PORT)
        self._postgres.start()
        self._enter("postgres", self._postgres.process, self._postgres.port)

    def _start_redis(self) -> None:
        self._redis.port = self._server_port("redis", roles.REDIS_PORT)
        self._redis.start()
        self._enter("redis", self._redis.process, self._redis.port)

    def _enter(self, name: str, process: ProcessId | None, port: int) -> None:
        self._state.services[name] = Service(name, name, process, roles.endpoint(port))
        self._save()
        self._say(f"{name} is up on {roles.endpoint(port)}")
        self._leave_if_asked()

    def _provision(self) -> None:
        passwords = DatabasePasswords(
            self._secrets.database_owner, self._secrets.database_app, self._secrets.database_worker
        )
        for role, database in roles.DATABASES.items():
            self._databases[role] = asyncio.run(provision(self._postgres.superuser_dsn, database, passwords))

    def _start_together(self, instances: Sequence[roles.Instance]) -> None:
        """Start roles that need not wait for each other; again with other ports when one was taken meanwhile."""
        for attempt in range(1, _PORT_TRIES + 1):
            for instance in instances:
                self._spawn(instance)
            try:
                for instance in instances:
                    self._wait_until_healthy(instance)
            except ServerDidNotStart:
                if attempt == _PORT_TRIES or not self._lost_a_port(instances):
                    raise
                self._stop_roles([instance.name for instance in instances])
                for instance in instances:
                    self._choose_ports(instance)
            else:
                return

    def _choose_ports(self, instance: roles.Instance) -> None:
        """Those it had, else the usual ones, else others: what another instance has got meanwhile stays with that."""
        for port in self._chosen.pop(instance.name, ()):
            self._reservations.release(port)
        former = self._state.services.get(instance.name)
        ports = {}
        for kind in ("public", "internal", "metrics", "rest"):
            usual = getattr(instance.ports, kind)
            if usual:
                before = getattr(former, kind) if former else ""
                preferred = int(before.rpartition(":")[2]) if before else usual
                ports[kind] = self._reservations.take(preferred)
        self._chosen[instance.name] = tuple(ports.values())
        endpoints = {kind: roles.endpoint(port) for kind, port in ports.items()}
        self._state.services[instance.name] = Service(instance.name, instance.role, None, **endpoints)

    def _lost_a_port(self, instances: Sequence[roles.Instance]) -> bool:
        """Whether one of these is dead and a port of it is someone else's."""
        for instance in instances:
            service = self._state.services[instance.name]
            if not (service.process and service.process.alive):
                endpoints = filter(None, (service.public, service.internal, service.metrics, service.rest))
                if not all(is_free(int(at.rpartition(":")[2])) for at in endpoints):
                    return True
        return False

    def _spawn(self, instance: roles.Instance) -> None:
        (self._folder.path / "leases" / instance.name).mkdir(mode=0o700, exist_ok=True)
        if instance.role == "storage":
            self._folder.node(instance.name).mkdir(mode=0o700, exist_ok=True)
        around = roles.Surroundings(
            self._folder,
            self._state.id,
            self._authority,
            self._secrets,
            self._databases,
            self._redis.url,
            self._state.services,
            self._now,
        )
        child = spawn(
            instance.command,
            log=self._folder.log(instance.name),
            env=roles.environment(instance, around, settings.chosen(self._folder, instance)),
            cwd=self._folder.path,
        )
        self._children[instance.name] = child
        self._state.services[instance.name].process = ProcessId.of(child.pid)
        self._save()

    def _wait_until_healthy(self, instance: roles.Instance) -> None:
        child, log = self._children[instance.name], self._folder.log(instance.name)
        ca_pem = self._authority.ca.read_bytes()
        service = self._state.services[instance.name]
        end = time.monotonic() + _START_PATIENCE_SECONDS
        while not is_healthy(service.public, ca_pem):
            if child.poll() is not None:
                raise ServerDidNotStart(
                    name=instance.name, detail=f"it ended with {child.returncode}, see {log}\n{last_lines(log)}"
                )
            if time.monotonic() > end:
                raise ServerDidNotStart(
                    name=instance.name,
                    detail=f"not healthy after {_START_PATIENCE_SECONDS:.0f} s, see {log}\n{last_lines(log)}",
                )
            self._stopping.wait(_POLL_SECONDS)
            self._leave_if_asked()
        self._say(f"{instance.name} is up on {service.public}")

    def _tell_auth_of_storage(self) -> None:
        copies = min(_COPIES, len(self._nodes))
        template = profiles_pb2.Template(
            name="default",
            description=f"{'one copy' if copies == 1 else 'two copies'} on this machine",
            cluster=roles.CLUSTER,
            copies=copies,
            ack_copies=1,
        )
        nodes = [self._internal(node) for node in self._nodes]
        self._operator.put_storage(self._internal(roles.AUTH), roles.CLUSTER, nodes, template)

    def _write_env(self) -> None:
        values = {
            "OORT_AUTH": self._state.services[roles.AUTH.name].public,
            "OORT_CA": str(self._authority.ca),
            "OORT_ADMIN_USER": "admin",
            "OORT_ADMIN_PASSWORD": self._secrets.admin_password,
        }
        lines = "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
        self._folder.write(self._folder.env, lines)

    # Watch

    def _watch(self) -> None:
        """Until a signal: start again what has died, when it is due."""
        while not self._stopping.wait(_WATCH_SECONDS):
            if not self._folder.exists:
                self._say(f"{self._folder.path} is gone: stopping")
                return
            for name, died in self._dead():
                if died and name not in self._due:
                    self._say(f"{name} has died: it is started again in {self._restart_delay:g} s")
                    self._due[name] = time.monotonic() + self._restart_delay
            hurry = self._hurry.is_set()
            self._hurry.clear()
            for name in [name for name, at in self._due.items() if hurry or at <= time.monotonic()]:
                del self._due[name]
                self._restart(name)

    def _dead(self) -> list[tuple[str, bool]]:
        states = [("postgres", not _alive(self._postgres.process)), ("redis", not _alive(self._redis.process))]
        return states + [(name, child.poll() is not None) for name, child in self._children.items()]

    def _restart(self, name: str) -> None:
        """A start that fails is tried again later: the watch finds it dead."""
        self._say(f"starting {name} again")
        try:
            if name == "postgres":
                self._postgres.start()
                self._enter(name, self._postgres.process, self._postgres.port)
            elif name == "redis":
                self._redis.stop()
                self._redis.start()
                self._enter(name, self._redis.process, self._redis.port)
            else:
                instance = next(instance for instance in self._instances if instance.name == name)
                self._now = datetime.now(UTC)
                self._spawn(instance)
        except (StackError, OSError) as error:
            self._say(str(error))
            self._due[name] = time.monotonic() + max(self._restart_delay, 1)

    # Stop

    def _stop(self) -> None:
        """End everything, in order, whatever goes wrong with one of them."""
        with contextlib.ExitStack() as last_to_first:
            last_to_first.callback(self._reservations.close)
            last_to_first.callback(self._forget_processes)
            last_to_first.callback(self._postgres.stop)
            last_to_first.callback(self._redis.stop)
            last_to_first.callback(self._stop_roles, [roles.LICENSE.name])
            last_to_first.callback(self._stop_roles, [instance.name for instance in self._leased])

    def _forget_processes(self) -> None:
        for service in self._state.services.values():
            service.process = None
        self._state.supervisor = None
        self._state.ready = False
        if self._folder.exists:
            self._save()

    def _stop_roles(self, names: Sequence[str]) -> None:
        """Ask all of them to drain at once, then wait for each."""
        children = {name: self._children.pop(name) for name in names if name in self._children}
        for child in children.values():
            if child.poll() is None:
                child.terminate()
        for name, child in children.items():
            process = self._state.services[name].process
            if process is not None and not stop(process, patience=_STOP_PATIENCE_SECONDS):
                self._say(f"{name} did not end in {_STOP_PATIENCE_SECONDS:.0f} s and was killed")
            child.wait()
            self._state.services[name].process = None
            self._due.pop(name, None)

    # Small things

    def _server_port(self, name: str, default: int) -> int:
        """The port of Postgres or Redis: the one it had, else the default, else a free one."""
        former = self._state.services.get(name)
        return self._reservations.take(int(former.public.rpartition(":")[2]) if former else default)

    def _internal(self, instance: roles.Instance) -> str:
        return self._state.services[instance.name].internal

    def _save(self) -> None:
        self._folder.save(self._state)

    def _leave_if_asked(self) -> None:
        if self._stopping.is_set():
            raise Stopped

    def _on_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping.set()

    def _on_hurry(self, _number: int, _frame: FrameType | None) -> None:
        self._hurry.set()


def _alive(process: ProcessId | None) -> bool:
    return process is not None and process.alive
