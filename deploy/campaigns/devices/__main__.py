"""Three devices of one user back up, restore and run retention on one bucket, while clients and nodes are killed.

Ends with 0 only if every command that was not killed ended as the documents say, every restore came back as its tree
was, and at the end nothing is lost, both copies are the same, and every checker is content. A run is drawn from its
seed, but for what the machine's timing decides. What made a finding is kept in the folder that is named.
"""

import argparse
import os
import secrets
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from random import Random
from threading import Event, Thread

from deploy.campaigns.devices.commands import Commands, Kind
from deploy.campaigns.devices.judging import Findings, say
from deploy.campaigns.devices.killing import Killer
from deploy.campaigns.devices.memory import Memory
from deploy.campaigns.devices.proof import Proof
from deploy.campaigns.devices.trees import Tree
from deploy.campaigns.devices.work import Shared, Work
from deploy.driver import Device, Operator

_MINUTES = 10.0
_DEVICES = 3
_VAULT = "shared"
_KINDS = {Kind.BACKUP: 45, Kind.RESTORE: 28, Kind.RETENTION: 6, Kind.PRUNE: 21}
_RESTART_DELAY = "2"
# Removed is removed, as soon as nobody sees it any more, and who was killed holds others up for seconds.
_SETTINGS = {"OORT_BASKET_DAYS": "0", "OORT_REAP_SECONDS": "1", "OORT_BEAT_SECONDS": "6"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make campaign-devices", description=__doc__)
    parser.add_argument("--minutes", type=float, default=_MINUTES, help=f"of killing (default {_MINUTES:.0f})")
    parser.add_argument("--seed", type=int, help="of all that is drawn (default: another each time)")
    arguments = parser.parse_args()
    seed = secrets.randbelow(1 << 32) if arguments.seed is None else arguments.seed
    folder = Path(tempfile.mkdtemp(prefix="oort-campaign-devices-"))
    say(f"{arguments.minutes:g} minutes with seed {seed}")
    with ExitStack() as last:
        operator = Operator(folder / "stack", os.environ | _SETTINGS)
        last.callback(operator.down)
        operator.up("--restart-delay", _RESTART_DELAY)
        findings = _campaign(operator, folder, arguments.minutes, seed)
    if findings:
        say(f"{len(findings)} findings with seed {seed}; the stack's data and logs, and the homes: {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


def _campaign(operator: Operator, folder: Path, minutes: float, seed: int) -> Findings:
    commands, findings, memory = Commands(), Findings(), Memory()
    killer = Killer(operator, commands, Random(f"{seed}/kills"))
    names = [f"device-{number}" for number in range(1, _DEVICES + 1)]
    roots = {name: folder / name / "tree" for name in names}
    shared = Shared(_VAULT, _KINDS, commands, memory, findings, killer.outages, roots)
    password = secrets.token_urlsafe(18)
    operator.add_user("anna", password)
    works = []
    for name in names:
        device = Device(folder / name / "home")
        device.log_in(operator, "anna", password)
        tree = Tree(roots[name], Random(f"{seed}/{name}/tree"), f"{seed}/contents")
        works.append(Work(name, device, tree, Random(f"{seed}/{name}"), shared, folder / name / "restored"))
    works[0].device.request_vault(_VAULT)

    _work(works, killer, minutes * 60)
    during = shared.restored
    proof = Proof(operator, works, shared, folder / "proof")
    proof.of_stack()
    proof.of_vault()
    say(findings.table())
    killed = ", ".join(f"{what} {count}" for what, count in sorted(killer.kills.items()))
    committed, removed = memory.counts
    say(f"Killed: {killed}.")
    say(
        f"{committed} snapshots were committed, and {removed} removed; {during} restores were compared with their "
        f"trees while others worked, and {shared.restored - during} at the end."
    )
    for line in proof.verified:
        say(f"  holds: {line}")
    return findings


def _work(works: list[Work], killer: Killer, seconds: float) -> None:
    """Let everybody work and the killer kill; nobody is killed any more while the last commands end."""
    kills, work = Event(), Event()
    killing = Thread(target=killer.run, args=(kills,), name="killer")
    threads = [Thread(target=one.run, args=(work,), name=one.name) for one in works]
    for thread in (killing, *threads):
        thread.start()
    try:
        time.sleep(seconds)
    finally:
        kills.set()
        killing.join()
        work.set()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    sys.exit(main())
