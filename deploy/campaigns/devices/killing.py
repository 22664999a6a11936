"""Kills clients and nodes at random, and remembers when nodes were down.

Kept true: a node is killed only while all are up, either alone or together with the other, so that what no client can
help, both being down at once, is known. Whoever is killed gets SIGKILL; the stack's supervisor starts nodes again.
"""

import time
from collections import Counter
from pathlib import Path
from random import Random
from threading import Event
from typing import TYPE_CHECKING

from deploy.campaigns.devices.commands import Commands
from deploy.campaigns.devices.outages import Outages
from deploy.driver import Operator
from deploy.local.calls import is_healthy
from deploy.local.folder import StackFolder

if TYPE_CHECKING:
    from deploy.local.processes import ProcessId

_PAUSE = (0.3, 1.7)  # between two kills, of the time that a command takes: of three that run, one in five is killed
_LOOK_SECONDS = 0.25
_CLIENT, _NODE = 0.6, 0.9  # of the kills so many are of a client, and up to there of one node; else of both


class Killer:
    """Kills until `stop`. `kills` counts, by what was killed."""

    def __init__(self, operator: Operator, commands: Commands, random: Random) -> None:
        self.kills: Counter[str] = Counter()
        self._folder = StackFolder.find(operator.data)
        self._nodes = [node.name for node in self._folder.load().nodes]
        self.outages = Outages(len(self._nodes))
        self._ca_pem = Path(operator.env["OORT_CA"]).read_bytes()
        self._commands = commands
        self._random = random
        self._down: dict[str, ProcessId] = {}  # the processes that were killed, by node

    def run(self, stop: Event) -> None:
        """Until `stop` is set, and then until all nodes are up again."""
        due = self._next()
        while not stop.wait(_LOOK_SECONDS):
            self._look()
            if time.monotonic() >= due:
                self._strike()
                due = self._next()
        while self._down:
            time.sleep(_LOOK_SECONDS)
            self._look()

    def _next(self) -> float:
        return time.monotonic() + self._random.uniform(*_PAUSE) * self._commands.usual_seconds

    def _strike(self) -> None:
        chance = self._random.random()
        if chance < _CLIENT or self._down:
            kind = self._commands.kill_one(self._random)
            if kind is not None:
                self.kills["a client"] += 1
        elif chance < _NODE:
            name = self._random.choice(self._nodes)
            self._kill_nodes([name])
            self.kills[f"{name} alone"] += 1
        else:
            self._kill_nodes(self._nodes)
            self.kills["both nodes at once"] += 1

    def _kill_nodes(self, names: list[str]) -> None:
        services = self._folder.load().services
        for name in names:
            process = services[name].process
            found = process.find() if process is not None else None
            if process is not None and found is not None:
                self.outages.begin(name, time.monotonic())
                self._down[name] = process
                found.kill()

    def _look(self) -> None:
        """See which nodes are back."""
        if not self._down:
            return
        services = self._folder.load().services
        for name, killed in list(self._down.items()):
            service = services[name]
            if service.process != killed and is_healthy(service.public, self._ca_pem, seconds=1):
                self.outages.end(name, time.monotonic())
                del self._down[name]
