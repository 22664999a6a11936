"""What happens to storage nodes while devices work: one thing at a time, to one node.

Kept true: a fault is over, and the copies of all that was acknowledged are complete again, before the next begins; so
one of the two nodes that hold a vault is always whole.
"""

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from random import Random

from clouds.testing.line import Line
from deploy.campaigns.devices.commands import Kind
from deploy.campaigns.devices.judging import End, Findings, say
from deploy.campaigns.devices.outages import Outages
from deploy.campaigns.nodes.disks import Disks
from deploy.driver import Operator
from deploy.local import stack
from deploy.local.calls import is_healthy
from deploy.local.folder import Service, StackFolder

_PATIENCE_SECONDS = 180.0  # for what the stack puts right by itself
_LOOK_SECONDS = 0.25
_CUT_SECONDS = 8.0
STOPPED_SECONDS = 10.0
_FULL_SECONDS = 4.0  # at least
_FLIPPED_KINDS = {"data": 6, "index": 2, "snapshots": 2, "keys": 1}  # of so many objects a bit is flipped
_NOT_WHOLE = "a copy is not whole"  # as a node says it, with the object's name


@dataclass(frozen=True, slots=True)
class Fault:
    """`happen` does it to a node and undoes it, and answers what was seen. Raises Wrong."""

    what: str
    happen: Callable[[str], str]
    node: str


@dataclass(frozen=True, slots=True)
class Flipped:
    """An object of which one bit was flipped in one copy; `copies` are both, the flipped one first."""

    name: str  # kind and id
    copies: tuple[Path, Path]

    @property
    def is_healed(self) -> bool:
        wanted = self.name.rpartition("/")[2]
        return all(sha256(copy.read_bytes()).hexdigest() == wanted for copy in self.copies)


class Faults:
    """All that can happen to the nodes of a stack. `lines` lead to the node `cut_off`, and from it to its database."""

    def __init__(
        self,
        operator: Operator,
        disks: Disks,
        lines: tuple[Line, Line],
        cut_off: str,
        *,
        outages: Outages,
        findings: Findings,
        random: Random,
    ) -> None:
        self._operator = operator
        self._folder = StackFolder.find(operator.data)
        self._ca_pem = Path(operator.env["OORT_CA"]).read_bytes()
        self._disks = disks
        self._line, self._to_database = lines
        self._cut_off = cut_off
        self._outages = outages
        self._findings = findings
        self._random = random

    def round(self) -> None:
        """Each of them once, in any order: every node is killed, and one, whichever it is, suffers all else."""
        nodes = [node.name for node in self._folder.load().nodes]
        some = self._random.choice
        faults = [Fault(f"{node} is killed", self._kill, node) for node in nodes]
        faults += [
            Fault(f"{self._cut_off} is cut off: nobody reaches it, nor it the database", self._cut, self._cut_off),
            Fault(f"{(node := some(nodes))} is stopped, as if bytes were held", self._stop, node),
            Fault(f"the disk of {(node := some(nodes))} is full", self._fill, node),
            Fault(f"bits flip on the disk of {(node := some(nodes))}", self._flip, node),
        ]
        self._random.shuffle(faults)
        for fault in faults:
            self._one(fault)

    def _one(self, fault: Fault) -> None:
        try:
            said = fault.happen(fault.node)
            began = time.monotonic()
            self._wait(self._is_complete, "copies are missing")
        except Wrong as wrong:
            self._findings.add(f"does not hold: {fault.what}: {wrong}")
        else:
            seconds = time.monotonic() - began
            say(f"  holds: {fault.what}: {said}, and both copies of all are there {seconds:.1f} s later")

    def _kill(self, node: str) -> str:
        """SIGKILL; the stack starts it again."""
        before = self._service(node).process
        found = before.find() if before is not None else None
        if found is None:
            raise Wrong("it does not run")
        began = time.monotonic()
        found.kill()
        self._wait(lambda: self._service(node).process != before and self._is_healthy(node), "it does not come back")
        return f"it serves again after {time.monotonic() - began:.1f} s"

    def _stop(self, node: str) -> str:
        """SIGSTOP: its connections stay, and nothing comes, neither beats nor answers."""
        process = self._service(node).process
        found = process.find() if process is not None else None
        if found is None:
            raise Wrong("it does not run")
        found.send_signal(signal.SIGSTOP)
        try:
            time.sleep(STOPPED_SECONDS)
        finally:
            found.send_signal(signal.SIGCONT)
        self._wait(lambda: self._is_healthy(node), "it is not healthy")
        if self._service(node).process != process:
            raise Wrong("it ended over it")
        return f"it was back after {STOPPED_SECONDS:.0f} s"

    def _cut(self, node: str) -> str:
        """Connections to it and to its database break, and new ones are refused; the process lives."""
        lines = (self._line, self._to_database)
        before, process = [line.carried for line in lines], self._service(node).process
        for line in lines:
            line.cut()
        try:
            time.sleep(_CUT_SECONDS)
            live = self._operator.status()["nodes"][node]["live"]
        finally:
            for line in lines:
                line.mend()
        carried = [line.carried for line in lines]
        for line, so_far in zip(lines, carried, strict=True):
            self._wait(lambda line=line, so_far=so_far: line.carried > so_far, "a line carries nothing again")  # type: ignore[misc] # mypy infers no default
        if not all(before) or live:
            raise Wrong("the campaign's own fault: a line carried nothing before, or the node was not cut off")
        if self._service(node).process != process:
            raise Wrong("it ended over it")
        return f"it was back after {_CUT_SECONDS:.0f} s"

    def _fill(self, node: str) -> str:
        """Until a backup has met it."""
        met = self._refused_backups
        self._outages.begin_full_disk(time.monotonic())
        self._disks.fill(node)
        try:
            time.sleep(_FULL_SECONDS)
            self._wait(lambda: self._refused_backups > met, "no backup has met the full disk")
        finally:
            self._disks.enlarge(node)
            self._outages.end_full_disk(time.monotonic())
        return f"{self._refused_backups - met} backups ended with 7"

    def _flip(self, node: str) -> str:
        """One bit in each of some objects; then the nodes are asked to read all that they have."""
        flipped = list(self._flip_some(node))
        kinds = {one.name.partition("/")[0] for one in flipped}
        if kinds != _FLIPPED_KINDS.keys():
            raise Wrong(f"the campaign's own fault: only {sorted(kinds)} lie there to be flipped")
        log = self._folder.log(node)
        read = log.stat().st_size
        for one in flipped:
            flip_a_bit(one.copies[0], self._random)
        said = self._operator.oort.run("bucket", "scrub", "--all", "--json", "--data", str(self._operator.data))
        if said.code != 0:
            raise Wrong(f"the scrub ended with {said.code}: {said.stdout}{said.stderr}")
        with log.open("rb") as file:
            file.seek(read)
            told = [line for line in file.read().decode(errors="replace").splitlines() if _NOT_WHOLE in line]
        for one in flipped:
            if not any(f'"{one.name}"' in line for line in told):
                raise Wrong(f"nobody has reported {one.copies[0]}")
            self._wait(lambda one=one: one.is_healed, f"{one.copies[0]} is not healed")  # type: ignore[misc] # mypy infers no default
        return f"each of {len(flipped)} ({', '.join(sorted(kinds))}) was reported by name and healed"

    def _flip_some(self, node: str) -> Iterator[Flipped]:
        """Objects of all vaults on a node's disk that lie on another one too."""
        disk = self._folder.node(node) / "buckets"
        nodes = [self._folder.node(one.name) / "buckets" for one in self._folder.load().nodes]
        others = [other for other in nodes if other != disk]
        for kind, count in _FLIPPED_KINDS.items():
            there = sorted(path for path in disk.glob(f"*/{kind}/**/*") if path.is_file())
            self._random.shuffle(there)
            # What comes just now may not lie in both of its places yet.
            pairs = ((path, other / path.relative_to(disk)) for path in there for other in others)
            for pair in islice((pair for pair in pairs if pair[1].is_file()), count):
                yield Flipped(f"{kind}/{pair[0].name}", pair)

    # What is looked at

    @property
    def _refused_backups(self) -> int:
        return self._findings.ends[Kind.BACKUP, End.FULL]

    def _service(self, node: str) -> Service:
        return self._folder.load().services[node]

    def _is_healthy(self, node: str) -> bool:
        return is_healthy(self._service(node).public, self._ca_pem, seconds=1)

    def _is_complete(self) -> bool:
        found = stack.status(self._operator.data)
        return found.all_well and found.copies_complete

    def _wait(self, condition: Callable[[], bool], otherwise: str) -> None:
        """Raises Wrong."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while not condition():
            if time.monotonic() > end:
                raise Wrong(f"{otherwise} after {_PATIENCE_SECONDS:.0f} s")
            time.sleep(_LOOK_SECONDS)


class Wrong(Exception):
    """What does not hold."""


def flip_a_bit(path: Path, random: Random) -> None:
    """One bit, wherever it is, in place: size and times of a file that rots stay, and so does its name."""
    with path.open("r+b", buffering=0) as file:
        at = random.randrange(path.stat().st_size)
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1 << random.randrange(8)]))
