"""Where the time of one backup or restore goes, by function, in the client and in the storage nodes.

Kept true: what is counted is time on a processor. The kernel says what each thread has used; py-spy looks 100 times a
second at what those that run are doing, and each thread's time is shared out by that. Threads that never run Python
(gRPC's, for TLS and the network) belong to no function, and stand in a line of their own.
"""

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench.comparison import Say, read, work_folder
from bench.datasets.dataset import Dataset
from bench.measure import NotMeasured, Watch, family, processor_seconds
from bench.oort import Oort, running_stack
from client.cli.console import plural

_RATE = 100
_NODES = ("node-a", "node-b")
_SHOWN = 25
_LOOK_SECONDS = 0.05
_THREAD = re.compile(r"thread \((\d+)\)")
_PY_SPY = Path(sys.executable).parent / "py-spy"


@dataclass(frozen=True, slots=True)
class Function:
    """Seconds on a processor, in the function itself and with all that it called; `name` has file and line."""

    name: str
    own: float
    whole: float


@dataclass(frozen=True, slots=True)
class End:
    """One process: all its processor seconds, those within Python's functions, and its costliest functions."""

    name: str
    cpu: float
    python: float
    functions: list[Function]


@dataclass(frozen=True, slots=True)
class Profile:
    """`seconds` is wall time, with the profiler at work."""

    title: str
    seconds: float
    ends: list[End]

    def save(self, path: Path) -> None:
        path.write_text(json.dumps({"kind": "profile"} | asdict(self), indent=1) + "\n")

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Profile":
        ends = [End(**{**end, "functions": [Function(**each) for each in end["functions"]]}) for end in value["ends"]]
        return cls(value["title"], value["seconds"], ends)

    def lines(self) -> Iterator[str]:
        """As plain text."""
        yield f"{self.title}: {self.seconds:.1f} s with the profiler at work"
        for end in self.ends:
            yield ""
            yield f"{end.name}: {end.cpu:.2f} processor seconds"
            if not end.functions:
                continue
            yield f"{'own s':>8} {'whole s':>8}  function"
            for function in end.functions:
                yield f"{function.own:8.2f} {function.whole:8.2f}  {function.name}"
            others = end.python - sum(function.own for function in end.functions)
            yield f"{others:8.2f} {'':8}  all other functions"
            yield f"{max(0.0, end.cpu - end.python):8.2f} {'':8}  threads outside Python: gRPC, TLS"


def profile(dataset: Dataset, work: str, *, scale: float, place: Path | None, say: Say) -> Profile:
    """One backup, or one restore after a backup, to one copy. Raises NotMeasured."""
    with work_folder(place) as folder:
        source = dataset.place(folder, scale)
        tree = read(source)
        title = f"{work} of {dataset.name}, {plural(tree.files, 'file')}, {tree.size / 1e6:,.0f} MB"
        say(title)
        with running_stack(folder) as operator:
            oort = Oort(folder / "oort", operator, copies=1)
            oort.prepare()
            command = oort.backup_command(source)
            if work == "restore":
                oort.run(command)
                command = oort.restore_command(folder / "restored")
            services = {name: service["pid"] for name, service in operator.status()["services"].items()}
            before = {name: processor_seconds([pid]) for name, pid in services.items()}
            with ExitStack() as spying:
                spied = {name: spying.enter_context(_spy(services[name], folder / name)) for name in _NODES}

                def on_start(pid: int) -> None:
                    spied["client"] = spying.enter_context(_spy(pid, folder / "client"))

                run = oort.run(command, on_start)
            used = {name: processor_seconds([pid]) - before[name] for name, pid in services.items()}
        ends = [_end("client", run.client_cpu, spied["client"])]
        ends += [_end(name, used.pop(name), spied[name]) for name in _NODES]
        ends += [End(name, cpu, 0.0, []) for name, cpu in used.items() if cpu > 1 / _RATE]
        return Profile(title, run.seconds, ends)


@contextmanager
def profiled(title: str, name: str, pid: int, stacks: Path, tell: Callable[[Profile], None]) -> Iterator[None]:
    """Profile a process until this is left; then `tell` is given what was seen. Raises NotMeasured."""
    before, began = processor_seconds([pid]), time.perf_counter()
    with _spy(pid, stacks) as spied:
        yield
    used, seconds = processor_seconds([pid]) - before, time.perf_counter() - began
    tell(Profile(title, seconds, [_end(name, used, spied)]))


@dataclass(slots=True)
class _Spied:
    """One process under py-spy: the stacks that it saw, and what the kernel says of each thread."""

    pid: int
    stacks: Path
    threads: dict[int, float] = field(default_factory=dict)  # processor seconds by thread id

    def look(self) -> None:
        for process in family(self.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                self.threads |= {thread.id: thread.user_time + thread.system_time for thread in process.threads()}


@contextmanager
def _spy(pid: int, stacks: Path) -> Iterator[_Spied]:
    """Look at a process until it ends or this is left; then the stacks are whole. Raises NotMeasured."""
    options = ("--rate", str(_RATE), "--nonblocking", "--subprocesses", "--threads", "--function")
    command = [str(_PY_SPY), "record", "--pid", str(pid), *options, "--format", "raw", "--output", str(stacks)]
    spied = _Spied(pid, stacks)
    spied.look()
    before = dict(spied.threads)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as spy:
        try:
            with Watch(spied.look, _LOOK_SECONDS):
                yield spied
        finally:
            spy.send_signal(signal.SIGINT)
            _, said = spy.communicate()
    for thread, used in before.items():
        spied.threads[thread] -= used
    if spy.returncode != 0:
        raise NotMeasured(f"py-spy cannot look into process {pid} (root may, see ptrace(2)): {said.strip()[-500:]}")


def _end(name: str, cpu: float, spied: _Spied) -> End:
    """Each thread's processor seconds, as the kernel says, shared out among what it was seen to do."""
    seen: list[tuple[int, list[str], int]] = []
    for line in spied.stacks.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        if found := _THREAD.search(stack):
            seen.append((int(found[1]), stack[found.end() :].split(";")[1:], int(count)))
    looks: Counter[int] = Counter()
    for thread, _, times in seen:
        looks[thread] += times
    own: dict[str, float] = defaultdict(float)
    whole: dict[str, float] = defaultdict(float)
    for thread, frames, times in seen:
        seconds = spied.threads.get(thread, 0.0) * times / looks[thread]
        own[frames[-1] if frames else "starting"] += seconds
        for frame in dict.fromkeys(frames):
            whole[frame] += seconds
    costly = sorted(own, key=lambda function: own[function], reverse=True)[:_SHOWN]
    functions = [Function(function, own[function], whole[function]) for function in costly]
    return End(name, cpu, sum(own.values()), [each for each in functions if each.own >= 1 / _RATE])
