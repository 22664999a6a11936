"""What one device does all the time: it changes its tree, backs up, restores, and runs retention.

Kept true: a tree does not change while it is backed up, so a snapshot must be what the tree was; whatever a command
says that it has done is remembered, and what one that was ended may have done as well.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from threading import Event
from traceback import format_exc

from client.restore.unfinished import MARKER
from deploy.campaigns.devices.commands import Commands, Kind, Run
from deploy.campaigns.devices.judging import End, Findings
from deploy.campaigns.devices.memory import Memory
from deploy.campaigns.devices.outages import Outages
from deploy.campaigns.devices.trees import Tree, differences, manifest
from deploy.driver import Device

_KEPT = (2, 4)  # snapshots of an item that a retention keeps
_UNUSED = ("0%", "5%", "30%")
_OWN_LATEST = 0.25
_LATEST = "latest"
_NAMED = 5  # differences of a tree


@dataclass(slots=True)
class Shared:
    """What the devices of a vault have in common; `restored` counts snapshots that were compared."""

    vault: str
    kinds: Mapping[Kind, int]  # what they do how often, of a hundred commands
    commands: Commands
    memory: Memory
    findings: Findings
    outages: Outages
    roots: dict[str, Path]  # of the trees, by device
    restored: int = 0

    def compare(self, snapshot: str, device: str, target: Path) -> None:
        """A restored snapshot with what is remembered of it."""
        there = target / self.roots[device].relative_to("/")
        found = manifest(there) if there.is_dir() else {}
        expected = self.memory.expected(snapshot, device)
        if found not in expected:
            wrong = list(differences(expected[0], found))[:_NAMED] if expected else ["no backup can have made it"]
            self.findings.add(f"snapshot {snapshot} of {device} came back with other content: {'; '.join(wrong)}")
        self.restored += 1


@dataclass(frozen=True, slots=True)
class Work:
    """The work of one device; it restores to `target`."""

    name: str
    device: Device
    tree: Tree
    random: Random
    shared: Shared
    target: Path

    def run(self, stop: Event) -> None:
        """Until `stop` is set; what goes wrong in the campaign itself is a finding as well."""
        try:
            self.back_up()
            while not stop.is_set():
                kinds = self.shared.kinds
                self._do(self.random.choices(list(kinds), list(kinds.values()))[0], stop)
        except Exception:  # noqa: BLE001 - told, and the campaign fails
            self.shared.findings.add(f"{self.name}: {format_exc()}")

    def _do(self, kind: Kind, stop: Event) -> None:
        match kind:
            case Kind.BACKUP:
                self.tree.change()
                self.back_up()
            case Kind.RESTORE:
                self._restore_one(stop)
            case _:
                self._retain(kind)

    def back_up(self, *options: str) -> Run:
        """Back the tree up as it is, and remember what the backup says."""
        before = manifest(self.tree.root)
        vault = ("--vault", self.shared.vault)
        run, end = self._run(Kind.BACKUP, "backup", str(self.tree.root), *vault, *options, "--json")
        if run.summary is not None:
            self.shared.memory.committed(run.summary["snapshot"], self.name, before)
        else:
            self.shared.memory.perhaps_committed(self.name, before)
        if end is End.DONE and manifest(self.tree.root) != before:
            self.shared.findings.add(f"{self.name}: the campaign's own fault: a tree has changed under its backup")
        return run

    def _restore_one(self, stop: Event) -> None:
        """Restore something that should be there; one that was killed is gone on with, in the same target."""
        memory = self.shared.memory
        there = memory.there()
        if not there:
            return
        wanted, owner = _LATEST, self.name
        if not memory.has_any_of(self.name) or self.random.random() >= _OWN_LATEST:
            wanted = self.random.choice(there)
            owner = memory.device_of(wanted)
        try:
            end = self.restore(wanted, owner, self.target)
            while end is End.KILLED and not stop.is_set():
                if self._is_complete():
                    # Killed when all was there already: nothing is left to go on with.
                    if wanted != _LATEST:
                        self.shared.compare(wanted, owner, self.target)
                    return
                end = self.restore(wanted, owner, self.target)
        finally:
            shutil.rmtree(self.target, ignore_errors=True)

    def _is_complete(self) -> bool:
        """Whether something was restored, and bears no mark of an unfinished restore any more."""
        there = [path.name for path in self.target.iterdir()] if self.target.is_dir() else []
        return bool(there) and os.fsdecode(MARKER) not in there

    def restore(self, wanted: str, owner: str, target: Path) -> End:
        """Restore a snapshot, and compare."""
        vault = ("--vault", self.shared.vault)
        run, end = self._run(Kind.RESTORE, "restore", wanted, "--target", str(target), *vault, "--json")
        if end is End.DONE and run.summary is not None:
            self.shared.compare(run.summary["snapshot"], owner, target)
        elif end is End.GONE:
            self.shared.memory.missed(wanted)
        return end

    def _retain(self, kind: Kind) -> None:
        keep = str(self.random.randint(*_KEPT))
        arguments = ["retention", "--vault", self.shared.vault, "--keep-last", keep, "--yes", "--json"]
        if kind is Kind.PRUNE:
            arguments += ["--prune", "--max-unused", self.random.choice(_UNUSED)]
        self.retain(kind, *arguments)

    def retain(self, kind: Kind, *arguments: str) -> Run:
        """Run a retention, and remember what it says."""
        run, _ = self._run(kind, *arguments)
        memory = self.shared.memory
        if run.summary is not None:
            memory.removed(run.summary["removed"])
        else:
            memory.perhaps_removed(one["id"] for item in run.events("item") for one in item["remove"])
        return run

    def _run(self, kind: Kind, *arguments: str) -> tuple[Run, End]:
        shared = self.shared
        run = shared.commands.run(kind, self.name, self.device, *arguments)
        return run, shared.findings.judge(run, shared.outages)
