"""Three storage nodes: each is killed, one cut off, one's disk is full, another's bits are flipped, while devices work.

Three devices back up and restore, each on a vault of its own in two copies of which both must be whole before anything
counts as stored; each pair of nodes holds one vault. Ends with 0 only if every command ended as the documents say (a
backup may end with 7 while a disk is full, and nothing else may fail), what was acknowledged could be read all the
time, all copies were two again after each fault, and at the end nothing is lost, both copies of each vault are the
same, and every checker is content. What is drawn comes from the seed. It runs in a namespace, where it may mount disks.
"""

import argparse
import os
import secrets
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random
from threading import Event, Thread

import psutil

from clouds.testing.line import Line, a_line
from deploy.campaigns.devices.commands import Commands, Kind
from deploy.campaigns.devices.judging import Findings, say
from deploy.campaigns.devices.memory import Memory
from deploy.campaigns.devices.outages import Outages
from deploy.campaigns.devices.proof import Proof
from deploy.campaigns.devices.trees import Tree
from deploy.campaigns.devices.work import Shared, Work
from deploy.campaigns.nodes.disks import Disks
from deploy.campaigns.nodes.faults import STOPPED_SECONDS, Faults
from deploy.driver import Device, Operator
from deploy.local.cluster import Cluster
from deploy.local.folder import StackFolder
from deploy.local.ports import PortReservations
from deploy.local.postgres import by_port

_MINUTES = 5.0
_NODES = ("node-a", "node-b", "node-c")
_TEMPLATE = "both"
_KINDS = {Kind.BACKUP: 55, Kind.RESTORE: 45}
_RESTART_DELAY = "1"
_LOOK_SECONDS = 0.25
_PATIENCE_SECONDS = 180.0  # for what the nodes say of their disks
# A disk is full when nothing more goes onto it; one who is stopped is given up by whoever waits, and counts as down.
_NODE_SETTINGS = {
    "LOW_WATER_BYTES": "0",
    "NODE_BEAT_SECONDS": "0.5",
    "NODE_SILENT_SECONDS": str(STOPPED_SECONDS / 2),
    "COPY_STALL_SECONDS": str(STOPPED_SECONDS / 2),
}
# Removed is removed, and a scrub reads as fast as it can.
_SETTINGS = {"OORT_BASKET_DAYS": "0", "OORT_REAP_SECONDS": "1", "OORT_SCRUB_BYTES_PER_SECOND": str(1 << 30)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make campaign-nodes", description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=_MINUTES, help=f"after which no round of faults begins (default {_MINUTES:g})"
    )
    parser.add_argument("--seed", type=int, help="of all that is drawn (default: another each time)")
    arguments = parser.parse_args()
    seed = secrets.randbelow(1 << 32) if arguments.seed is None else arguments.seed
    folder = Path(tempfile.mkdtemp(prefix="oort-campaign-nodes-"))
    say(f"{arguments.minutes:g} minutes with seed {seed}")
    stack = StackFolder.create(folder / "stack")
    with (
        Disks({name: stack.node(name) for name in _NODES}) as disks,
        closing(PortReservations()) as ports,
        a_line(ports.take) as line,
        a_line(ports.take) as to_database,
    ):
        findings = _on_stack(stack, disks, (line, to_database), arguments.minutes, seed)
        if findings:
            disks.copy_to(folder / "disks")
    if findings:
        say(f"{len(findings)} findings with seed {seed}; the stack's data and logs, disks and homes: {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


def _on_stack(stack: StackFolder, disks: Disks, lines: tuple[Line, Line], minutes: float, seed: int) -> Findings:
    """Bring the stack up, with one node that is reached by way of one line, and its database by way of the other."""
    cut_off = Random(f"{seed}/line").choice(_NODES)
    line, to_database = lines
    ways = {listener: line.to(f"{cut_off} {listener}") for listener in ("public", "internal")}
    stack.settings_file(cut_off).parent.mkdir(mode=0o700)
    for name in _NODES:
        settings = dict(_NODE_SETTINGS)
        if name == cut_off:
            settings |= {f"{listener.upper()}_ENDPOINT": way for listener, way in ways.items()}
        rows = [f"OORT_{setting}={value}\n" for setting, value in settings.items()]
        stack.write(stack.settings_file(name), "".join(rows))
    operator = Operator(stack.path, os.environ | _SETTINGS)
    with ExitStack() as last:
        last.callback(operator.down)
        operator.up("--nodes", str(len(_NODES)), "--restart-delay", _RESTART_DELAY)
        for listener in ways:
            line.lead(f"{cut_off} {listener}", operator.status()["nodes"][cut_off][listener])
        _lead_to_database(operator, stack, cut_off, to_database)
        operator.add_template(_TEMPLATE, copies=2, ack_copies=2)
        findings, outages = Findings(), Outages(len(_NODES))
        works = _works(operator, disks, findings, outages, seed)
        faults = Faults(
            operator, disks, lines, cut_off, outages=outages, findings=findings, random=Random(f"{seed}/faults")
        )
        _work(works, faults, minutes * 60)
        _prove(operator, works, findings)
    return findings


def _lead_to_database(operator: Operator, stack: StackFolder, node: str, line: Line) -> None:
    """Let a node reach its database by way of a line from now on; the stack has chosen where that is."""
    services = operator.status()["services"]
    port = int(line.to(services["postgres"]["public"]).rpartition(":")[2])
    told = psutil.Process(services[node]["pid"]).environ()
    rows = [
        f"{setting}={by_port(told[setting], port)}\n"
        for setting in ("OORT_DATABASE_URL", "OORT_DATABASE_OWNER_URL", "OORT_DATABASE_WORKER_URL")
    ]
    file = stack.settings_file(node)
    stack.write(file, file.read_text() + "".join(rows))
    operator.oort.ok("stack", "restart", node, "--data", str(operator.data))


def _works(operator: Operator, disks: Disks, findings: Findings, outages: Outages, seed: int) -> list[Work]:
    """A device for each pair of nodes, with a vault that lies on these."""
    password = secrets.token_urlsafe(18)
    operator.add_user("anna", password)
    works = []
    for number, left_out in enumerate(_NODES, 1):
        name, vault = f"device-{number}", f"vault-{number}"
        home = operator.data.parent / name
        device = Device(home / "home")
        device.log_in(operator, "anna", password)
        disks.prefer_others(left_out)
        _wait_for_room(operator, left_out)
        device.request_vault(vault, _TEMPLATE)
        tree = Tree(home / "tree", Random(f"{seed}/{name}/tree"), f"{seed}/contents")
        shared = Shared(vault, _KINDS, Commands(), Memory(), findings, outages, {name: tree.root})
        works.append(Work(name, device, tree, Random(f"{seed}/{name}"), shared, home / "restored"))
    buckets = operator.oort.ok("bucket", "list", "--json", "--data", str(operator.data)).json()
    pairs = {tuple(bucket["nodes"]) for bucket in buckets}
    if len(pairs) != len(_NODES):
        findings.add(f"the campaign's own fault: the vaults lie on {pairs}")
    return works


def _wait_for_room(operator: Operator, left_out: str) -> None:
    """Until each node has said how much room it has, and `left_out` the least by far."""
    end = time.monotonic() + _PATIENCE_SECONDS
    with Cluster.of_stack(operator.data) as cluster:
        while time.monotonic() < end:
            room = {node.id: node.free_bytes for node in cluster.heartbeats() if node.live}
            if room.keys() == set(_NODES) and room.pop(left_out) * 3 / 2 < min(room.values()):
                return
            time.sleep(_LOOK_SECONDS)
    raise AssertionError(f"the nodes do not say within {_PATIENCE_SECONDS:.0f} s how much room they have")


def _work(works: list[Work], faults: Faults, seconds: float) -> None:
    """Let everybody work until the last round of faults is over; none comes before each vault has a snapshot."""
    stop = Event()
    threads = [Thread(target=one.run, args=(stop,), name=one.name) for one in works]
    for thread in threads:
        thread.start()
    try:
        while any(
            thread.is_alive() and not one.shared.memory.there() for one, thread in zip(works, threads, strict=True)
        ):
            time.sleep(_LOOK_SECONDS)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            faults.round()
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _prove(operator: Operator, works: list[Work], findings: Findings) -> None:
    """Look at each vault, all of them at once, when everything has come to rest."""
    committed = sum(work.shared.memory.counts[0] for work in works)
    during = sum(work.shared.restored for work in works)
    proofs = [Proof(operator, [work], work.shared, work.target) for work in works]
    proofs[0].of_stack()
    threads = [Thread(target=proof.of_vault, name=proof.shared.vault) for proof in proofs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    say(findings.table())
    say(
        f"{committed} snapshots were committed; {during} restores were compared with their trees during the faults, and"
        f" {sum(work.shared.restored for work in works) - during} at the end."
    )
    for what in dict.fromkeys(line for proof in proofs for line in proof.verified):
        vaults = [proof.shared.vault for proof in proofs if what in proof.verified]
        say(f"  holds: {what}" + (f" ({', '.join(vaults)})" if len(vaults) > 1 else ""))


if __name__ == "__main__":
    sys.exit(main())
