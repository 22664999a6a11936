"""One fire after the other, and what must hold after each.

Kept true: after a fire every check is made, whatever those before it have found, and the next one finds all at rest.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import partial
from itertools import cycle
from pathlib import Path
from random import Random
from threading import Thread
from traceback import format_exc

from deploy.campaigns.devices.commands import Kind
from deploy.campaigns.devices.judging import End, Findings, say
from deploy.campaigns.devices.outages import Outages
from deploy.campaigns.fire.afterwards import Afterwards
from deploy.campaigns.fire.fires import DISKS, PATIENCE_SECONDS, Fires, disks_of
from deploy.campaigns.fire.vaults import Running, Vaults
from deploy.driver import Operator
from deploy.local.folder import StackFolder

_LATE_SECONDS = (0.0, 1.0)  # after something has come of everybody
_LOOK_SECONDS = 0.25


class Moment(StrEnum):
    """When a fire breaks out."""

    BACKUPS = "while backups run"
    PRUNES = "while prunes run"
    IDLE = "while nobody works"
    RESCAN = "while backups run, then during the rescan, and a rescan is killed"
    ALONE = "while backups run, and nobody comes before all have ended"


class Campaign:
    """Fires on a stack that is up, with vaults of its own."""

    def __init__(self, operator: Operator, folder: Path, findings: Findings, seed: int) -> None:
        self._operator = operator
        self._stack = StackFolder.find(operator.data)
        self._findings = findings
        self._random = Random(f"{seed}/fires")
        outages = Outages(len(DISKS))
        self._fires = Fires(operator, outages, Random(f"{seed}/rescans"))
        self._vaults = Vaults(operator, findings, outages, folder, seed)
        self._holds: Counter[str] = Counter()

    def run(self, seconds: float, first: Moment) -> None:
        """At least one fire, in the moment `first`, and each that begins within so many seconds.

        Raises Wrong, CommandFailed.
        """
        end = time.monotonic() + seconds
        fires = 0
        for moment in self._moments(first):
            if fires and time.monotonic() > end:
                break
            self._fire(moment)
            fires += 1
        say(self._findings.table())
        acknowledged = sum(one.work.shared.memory.counts[0] for one in self._vaults.all)
        restored = sum(one.work.shared.restored for one in self._vaults.all)
        say(
            f"{fires} fires; {acknowledged} snapshots were acknowledged, and {self._vaults.bare.snapshots} to restic;"
            f" {restored} restores were compared with their trees."
        )
        for what, times in self._holds.items():
            say(f"  holds: {what} ({times} times)")

    def _moments(self, first: Moment) -> Iterator[Moment]:
        """Then all others, and all, in another order each time."""
        others = [moment for moment in Moment if moment is not first]
        yield first
        while True:
            self._random.shuffle(others)
            yield from others
            others = list(Moment)

    def _fire(self, moment: Moment) -> None:
        """A fire in a moment that was not met is one more, and breaks out all the same when it is missed again."""
        for is_last in (False, True):
            is_idle = moment is Moment.IDLE
            with self._vaults.idle() if is_idle else self._vaults.start(prune=moment is Moment.PRUNES) as running:
                running.wait_until_all_store()
                if not is_idle:
                    time.sleep(self._random.uniform(*_LATE_SECONDS))
                if not running.is_met:
                    say(f"All that a fire {moment.value} was to meet had ended before.")
                if running.is_met or is_last:
                    self._break_out(moment, running)
                    return
                running.interrupt_restic()
                running.join()

    def _break_out(self, moment: Moment, running: Running) -> None:
        began, refused = time.monotonic(), self._refused
        met = f"{running.count} commands{' and a restic' * running.restic_runs} ran"
        self._fires.drop()
        if moment is Moment.ALONE:
            running.join_devices()
        self._fires.make_anew(self._harm_disks)
        running.interrupt_restic()
        if moment is Moment.RESCAN:
            self._expect("a rescan whose database is dropped says so", _done(self._fires.drop_during_rescan))
            self._fires.make_anew()
            self._expect("a rescan that was killed is run again", _done(self._fires.kill_rescan))
        entered = self._fires.rescan()
        running.join()
        running.come_back()
        refused = self._refused - refused
        seconds = time.monotonic() - began
        say(f"Fire {moment.value}: {met}, {refused} ended with 5; {entered:,} objects were entered")
        self._look()
        say(f"  put out after {seconds:.0f} s, and looked at in {time.monotonic() - began - seconds:.0f} s more")

    @property
    def _refused(self) -> int:
        return sum(self._findings.ends[kind, End.OUTAGE] for kind in Kind)

    def _harm_disks(self) -> None:
        """One of two copies of some pack is lost as well, and some files lie on another disk of their node now.

        What is on one node alone lies on all its disks then: nobody else has what a rescan of a disk would leave out.
        """
        for vault in self._vaults.all:
            folders = {node: self._vaults.packs(node, vault.bucket) for node in DISKS}
            in_all = set.intersection(*({pack.name for pack in packs} for packs in folders.values()))
            doomed = [pack for packs in folders.values() for pack in packs if pack.name in in_all]
            if doomed:
                self._random.choice(doomed).unlink()
            for node, packs in folders.items():
                disks = disks_of(self._stack, node)
                number = len(packs) // 3 if all(folders.values()) else len(packs)
                first = self._random.randrange(len(disks))
                for pack, disk in zip(self._random.sample(packs, number), cycle(disks[first:] + disks[:first])):
                    here = next(one for one in disks if pack.is_relative_to(one))
                    there = disk / pack.relative_to(here)
                    if pack.exists() and not there.exists():
                        there.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                        pack.rename(there)

    def _look(self) -> None:
        """As the operator guide goes on; and what is then to be seen."""
        vaults, data = self._vaults, ("--data", str(self._operator.data))
        proofs = [Afterwards(self._operator, [one.work], one.work.shared, one.work.target) for one in vaults.all]
        proofs[0].of_stack()
        self._expect("each bucket has its owner, quota, copies and nodes again", self._rows)
        self._expect("no brake holds a bucket any more", vaults.braked)
        vaults.lock()
        scrub = partial(self._operator.oort.ok, "bucket", "scrub", "--all", *data)
        self._expect("oort bucket scrub --all finds all copies whole", _done(scrub))
        threads = [Thread(target=proof.of_vault, name=proof.shared.vault) for proof in proofs]
        for thread in threads:
            thread.start()
        self._expect(
            "restic check --read-data is clean, its snapshots are there, and the newest restores", vaults.bare.prove
        )
        self._expect("restic backs up again", _done(vaults.bare.back_up))
        for thread in threads:
            thread.join()
        self._expect("a lock that was set again holds", vaults.is_held)
        self._expect("another rescan enters nothing", lambda: str(self._fires.rescan() or ""))
        for proof in proofs:
            self._holds.update(proof.verified)

    def _rows(self) -> str:
        found, end = self._vaults.listed(), time.monotonic() + PATIENCE_SECONDS
        while found != self._vaults.rows and time.monotonic() < end:
            time.sleep(_LOOK_SECONDS)
            found = self._vaults.listed()
        return "" if found == self._vaults.rows else f"{found} in place of {self._vaults.rows}"

    def _expect(self, what: str, wrong: Callable[[], str]) -> None:
        try:
            found = wrong()
        except Exception:  # noqa: BLE001 - told, and the campaign fails
            found = format_exc()
        if found:
            self._findings.add(f"does not hold: {what}: {found}")
        else:
            self._holds[what] += 1


def _done(action: Callable[[], object]) -> Callable[[], str]:
    """What raises where something is wrong, as a question."""

    def ask() -> str:
        action()
        return ""

    return ask
