"""The storage database is dropped under the nodes; the catalogue is made anew as docs/operator-guide.md says.

Kept true: between a drop and the end of the rescan that follows it, and only then, a command may end with 5.
"""

import contextlib
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import psutil

from deploy.campaigns.devices.judging import say
from deploy.campaigns.devices.outages import Outages
from deploy.driver import Operator, Outcome
from deploy.local import roles
from deploy.local.folder import StackFolder
from deploy.tests.catalogue import lose_the_storage_database, superuser

DISKS = {"node-a": 3, "node-b": 2}  # of each node
PATIENCE_SECONDS = 180.0  # for what the stack does by itself
_WORKERS = {"node-b": 2}
_LOOK_SECONDS = 0.05
_UNREACHABLE = 5  # docs/exit-codes.md
_TRACEBACK = "Traceback (most recent call last)"


class Wrong(Exception):
    """What does not hold."""


def disks_of(stack: StackFolder, node: str) -> list[Path]:
    first = stack.node(node)
    return [first, *(first.with_name(f"{node}-{number}") for number in range(2, DISKS[node] + 1))]


def prepare(stack: StackFolder) -> None:
    """Give the nodes of a stack that was not up yet their disks and workers."""
    for node in DISKS:
        folders = ":".join(str(disk.relative_to(stack.path)) for disk in disks_of(stack, node))
        file = stack.settings_file(node)
        file.parent.mkdir(mode=0o700, exist_ok=True)
        stack.write(file, f"OORT_DATA_DIRS={folders}\nOORT_WORKERS={_WORKERS.get(node, 1)}\n")


class Fires:
    """On the stack of an operator. `outages` gets the times in which there was no catalogue."""

    def __init__(self, operator: Operator, outages: Outages, random: Random) -> None:
        self._operator = operator
        self._outages = outages
        self._random = random
        self._stack = StackFolder.find(operator.data)
        self._is_lost = False

    def drop(self) -> None:
        """DROP DATABASE, whoever is connected to it."""
        if not self._is_lost:
            for node in DISKS:
                self._outages.begin(node, time.monotonic())
        self._is_lost = True
        lose_the_storage_database(self._stack)

    def make_anew(self, beside: Callable[[], None] = lambda: None) -> None:
        """Down and up again, which makes an empty database; `beside` is done to the disks while all is down."""
        self._operator.down()
        beside()
        self._operator.up("--restart-delay", "1")

    def rescan(self) -> int:
        """On all nodes. Answers how many objects were entered. Raises Wrong, also when anything was left out.

        Once more if a node did not answer, as the operator guide says: on a machine that is slow it may count as down.
        """
        began = time.monotonic()
        self._outages.begin_rescan(began)
        done = self._rescanned()
        while done.code == _UNREACHABLE and time.monotonic() < began + PATIENCE_SECONDS:
            say(f"The rescan ended with {done.code}, and is run once more: {done.stderr}")
            done = self._rescanned()
        self._outages.end_rescan(time.monotonic())
        if done.code != 0 or done.stderr:
            raise Wrong(f"the rescan ended with {done.code}: {done.stdout}{done.stderr}")
        found = done.json()
        if [one["node"] for one in found] != list(DISKS) or any(one["failed"] or one["left_out"] for one in found):
            raise Wrong(f"the rescan was not of all: {done.stdout}")
        if self._is_lost:
            for node in DISKS:
                self._outages.end(node, time.monotonic())
        self._is_lost = False
        return sum(one["entered_objects"] for one in found)

    def _rescanned(self) -> Outcome:
        return self._operator.oort.run("node", "rescan", "--json", "--data", str(self._operator.data))

    def drop_during_rescan(self) -> None:
        """The database is dropped again when a rescan has entered some of it. Raises Wrong when that is not told."""
        with self._held_rescan() as (rescan, let_go):
            self.drop()
            let_go()
            try:
                stdout, stderr = rescan.communicate(timeout=PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                raise Wrong(f"a rescan whose database was dropped has not ended in {PATIENCE_SECONDS:.0f} s") from None
        if rescan.returncode != _UNREACHABLE or _TRACEBACK in stderr:
            raise Wrong(f"a rescan whose database was dropped ended with {rescan.returncode}: {stdout}{stderr}")

    def kill_rescan(self) -> None:
        """SIGKILL when it has entered some."""
        with self._held_rescan() as (rescan, _):
            rescan.kill()

    @contextmanager
    def _held_rescan(self) -> "Iterator[tuple[subprocess.Popen[str], Callable[[], None]]]":
        """A rescan that has begun, and cannot end before the nodes are let go of: they are stopped. Raises Wrong."""
        line = self._operator.oort.line("node", "rescan", "--data", str(self._operator.data))
        first, *others = DISKS
        stopped: list[psutil.Process] = []

        def hold(node: str) -> None:
            for process in self._processes(node):
                process.send_signal(signal.SIGSTOP)
                stopped.append(process)

        def let_go() -> None:
            while stopped:
                with contextlib.suppress(psutil.NoSuchProcess):
                    stopped.pop().send_signal(signal.SIGCONT)

        pipe = subprocess.PIPE
        with contextlib.ExitStack() as last:
            last.callback(let_go)
            for node in others:
                hold(node)
            rescan = last.enter_context(
                subprocess.Popen(line, stdout=pipe, stderr=pipe, text=True, env=dict(self._operator.oort.env))
            )
            last.callback(rescan.kill)
            end = time.monotonic() + PATIENCE_SECONDS
            while not self._entered():
                if time.monotonic() > end or rescan.poll() is not None:
                    raise Wrong(f"{shlex.join(line)} has entered nothing, and ends with {rescan.poll()}")
                time.sleep(_LOOK_SECONDS)
            if self._random.random() < 0.5:  # noqa: PLR2004 - half of them in the middle of the first node's
                hold(first)
            yield rescan, let_go

    def _entered(self) -> bool:
        with superuser(self._stack, roles.DATABASES["storage"]) as catalogue:
            found = catalogue.execute("select exists (select 1 from objects)").fetchone()
        return bool(found and found[0])

    def _processes(self, node: str) -> list[psutil.Process]:
        """Of a node, all its workers. Raises Wrong."""
        known = self._stack.load().services[node].process
        first = known.find() if known is not None else None
        if first is None:
            raise Wrong(f"{node} does not run")
        return [first, *first.children(recursive=True)]
