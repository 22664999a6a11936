"""Two users' vaults, with all that must come through a fire, and what they do when it breaks out.

Kept true: what is not kept in files is set again after a fire, as the operator guide says, and what is, is never set
by anybody here again: a quota, the number of copies, and whose a vault is.
"""

import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from threading import Thread
from traceback import format_exc
from typing import Any, Self

from deploy.campaigns.devices.commands import Commands, Kind
from deploy.campaigns.devices.judging import Findings
from deploy.campaigns.devices.memory import Memory
from deploy.campaigns.devices.outages import Outages
from deploy.campaigns.devices.trees import Tree
from deploy.campaigns.devices.work import Shared, Work
from deploy.campaigns.fire.bare import FRESH_BYTES, Bare
from deploy.campaigns.fire.fires import DISKS, PATIENCE_SECONDS, Wrong, disks_of
from deploy.driver import Device, Operator
from deploy.local.folder import StackFolder

_LOCK_DAYS = "3"
_LOCKED = "locked"
_QUOTAS = {"single": "3G"}
_BARE = "bare"
# Whose each vault is, and how many copies it has and waits for.
_VAULTS = {"single": ("anna", 1, 1), _LOCKED: ("anna", 2, 1), "double": ("bert", 2, 2), _BARE: ("bert", 2, 1)}
_OURS = [name for name in _VAULTS if name != _BARE]
_SNAPSHOTS = 2  # of each vault before the first fire
_LIMIT = "512K"
_PRUNE_READS = "4M"
_HELD = 3  # docs/exit-codes.md
_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Vault:
    """One that a device of ours backs up to."""

    work: Work
    bucket: str

    @property
    def name(self) -> str:
        return self.work.shared.vault

    @property
    def is_locked(self) -> bool:
        return self.name == _LOCKED

    def back_up_slowly(self) -> None:
        """Something new, which takes half a minute."""
        self.work.tree.change()
        self.work.tree.freshen(FRESH_BYTES)
        self.work.back_up("--limit-upload", _LIMIT)

    def grow(self) -> None:
        """Snapshots of which a prune leaves one, and parts of the packs of others."""
        for _ in range(_SNAPSHOTS):
            self.work.tree.change()
            self.work.back_up()

    def prune(self) -> None:
        self.work.retain(
            Kind.PRUNE, *("retention", "--vault", self.name, "--keep-last", "1", "--yes", "--json"),
            *("--prune", "--max-unused", "0%", "--limit-upload", _LIMIT, "--limit-download", _PRUNE_READS),
        )  # fmt: skip


class Vaults:
    """All of them. `works` are the devices' own, `bare` is the restic's."""

    def __init__(self, operator: Operator, findings: Findings, outages: Outages, folder: Path, seed: int) -> None:
        self._operator = operator
        self._findings = findings
        self._data = ("--data", str(operator.data))
        self._stack = StackFolder.find(operator.data)
        self._folder = folder
        self._seed = seed
        self._outages = outages
        devices = {}
        for user in ("anna", "bert"):
            password = secrets.token_urlsafe(18)
            operator.add_user(user, password)
            devices[user] = Device(folder / user)
            devices[user].log_in(operator, user, password)
        for name, (user, copies, ack_copies) in _VAULTS.items():
            operator.add_template(name, copies, ack_copies)
            devices[user].request_vault(name, name)
        with ThreadPoolExecutor() as pool:
            bare = pool.submit(self._a_bare_one, devices[_VAULTS[_BARE][0]])
            self.all = list(pool.map(lambda name: self._a_vault(name, devices[_VAULTS[name][0]]), _OURS))
            self.bare = bare.result()
        self.rows = self.listed()

    def _a_vault(self, name: str, device: Device) -> Vault:
        """With some snapshots; with a waste basket, or a lock. Raises Wrong."""
        tree = Tree(self._folder / name / "tree", Random(f"{self._seed}/{name}/tree"), f"{self._seed}/contents")
        shared = Shared(name, {}, Commands(), Memory(), self._findings, self._outages, {name: tree.root})
        random = Random(f"{self._seed}/{name}")
        work = Work(name, device, tree, random, shared, self._folder / name / "restored")
        vault = Vault(work, device.recovery(name)["bucket"])
        if name in _QUOTAS:
            self._operator.oort.ok("bucket", "quota", vault.bucket, _QUOTAS[name], *self._data)
        for _ in range(_SNAPSHOTS):
            work.back_up()
            work.tree.change()
        if vault.is_locked:
            self._lock(vault)
            if wrong := self._is_held(vault):
                raise Wrong(wrong)
        else:
            vault.prune()
            if not shared.memory.gone or not self._basket(vault)["objects"]:
                raise Wrong(f"the campaign's own fault: nothing was removed from {name}")
        return vault

    def _a_bare_one(self, device: Device) -> Bare:
        tree = Tree(self._folder / _BARE / "tree", Random(f"{self._seed}/{_BARE}/tree"), f"{self._seed}/contents")
        bare = Bare(device, _BARE, tree, self._folder / _BARE / "restored")
        bare.back_up()
        return bare

    def lock(self) -> None:
        """As an operator does it after a fire."""
        for vault in self.all:
            if vault.is_locked:
                self._lock(vault)

    def is_held(self) -> str:
        """That a retention of what is under lock removes nothing; what is wrong, or nothing."""
        return "; ".join(wrong for vault in self.all if vault.is_locked and (wrong := self._is_held(vault)))

    def braked(self) -> str:
        """The names of those that nothing may be removed from."""
        return ", ".join(vault.name for vault in self.all if self._basket(vault)["braked"])

    def listed(self) -> list[tuple[object, ...]]:
        """What the catalogue says that each bucket is, but not what is in it."""
        rows = self._operator.oort.ok("bucket", "list", "--json", *self._data).json()
        said = ("id", "tenant", "user", "copies", "ack_copies", "quota_bytes", "lost_objects")
        return sorted((*tuple(row[one] for one in said), tuple(sorted(row["nodes"]))) for row in rows)

    def _lock(self, vault: Vault) -> None:
        self._operator.oort.ok("bucket", "lock", vault.bucket, "--days", _LOCK_DAYS, *self._data)

    def _is_held(self, vault: Vault) -> str:
        rule = ("retention", "--vault", vault.name, "--keep-last", "1", "--yes", "--json")
        done = vault.work.device.tool.run(*rule)
        is_held = done.code == _HELD and not done.summary()["removed"]
        return "" if is_held else f"a retention of {vault.name} ended with {done.code}: {done.stdout}{done.stderr}"

    def _basket(self, vault: Vault) -> dict[str, Any]:
        found: dict[str, Any] = self._operator.oort.ok("bucket", "basket", vault.bucket, "--json", *self._data).json()
        return found

    def packs(self, node: str, bucket: str) -> list[Path]:
        """Where a node has them."""
        disks = disks_of(self._stack, node)
        return sorted(pack for disk in disks for pack in (disk / "buckets" / bucket).glob("data/??/*"))

    def stored(self, bucket: str) -> set[str]:
        """The names of all packs that any node has."""
        return {pack.name for node in DISKS for pack in self.packs(node, bucket)}

    # What they do when a fire breaks out

    def start(self, *, prune: bool) -> "Running":
        """Everybody works: all back up, or those that may prune instead; a restic backs up beside them."""
        if prune:
            with ThreadPoolExecutor() as pool:
                list(pool.map(Vault.grow, (vault for vault in self.all if not vault.is_locked)))
        does = [
            Task(vault.bucket, Kind.PRUNE, self._thread(vault.prune))
            if prune and not vault.is_locked
            else Task(vault.bucket, Kind.BACKUP, self._thread(vault.back_up_slowly))
            for vault in self.all
        ]
        return Running(self, does, Kind.PRUNE if prune else Kind.BACKUP)

    def idle(self) -> "Running":
        return Running(self, [], None)

    def _thread(self, action: Callable[[], object]) -> Thread:
        return Thread(target=self._told, args=(action,))

    def _told(self, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception:  # noqa: BLE001 - told, and the campaign fails
            self._findings.add(format_exc())


@dataclass(frozen=True, slots=True)
class Task:
    """What one does with a bucket."""

    bucket: str
    kind: Kind
    thread: Thread


class Running:
    """What runs when a fire breaks out, if `kind` is given: some of these. Nothing runs any more at its end."""

    def __init__(self, vaults: Vaults, tasks: Sequence[Task], kind: Kind | None) -> None:
        self._vaults = vaults
        self._tasks = tasks
        self._kind = kind
        self._gone: Mapping[str, Collection[str]] = {one.name: one.work.shared.memory.gone for one in vaults.all}
        self._before = {task.bucket: vaults.stored(task.bucket) for task in tasks}
        self._restic = vaults.bare.start() if tasks else None

    def __enter__(self) -> Self:
        for task in self._tasks:
            task.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._restic is not None:
            self._restic.kill()
            self._restic.wait()
        self.join_devices()

    @property
    def count(self) -> int:
        """How many still run."""
        return sum(task.thread.is_alive() for task in self._tasks)

    @property
    def is_met(self) -> bool:
        """Whether something of the kind that is to be met still runs."""
        return self._kind is None or any(task.thread.is_alive() for task in self._tasks if task.kind is self._kind)

    @property
    def restic_runs(self) -> bool:
        return self._restic is not None and self._restic.poll() is None

    def wait_until_all_store(self) -> None:
        """Or have ended, or do not come so far in a time: what each has to send takes half a minute from then on."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not self._all_store() and time.monotonic() < end:
            time.sleep(_LOOK_SECONDS)

    def _all_store(self) -> bool:
        try:
            all_store = all(
                not task.thread.is_alive() or bool(self._vaults.stored(task.bucket) - self._before[task.bucket])
                for task in self._tasks
            )
        except FileNotFoundError:  # a folder went while it was looked at
            return False
        return all_store and (not self.restic_runs or self._vaults.bare.has_begun)

    def join_devices(self) -> None:
        for task in self._tasks:
            task.thread.join()

    def interrupt_restic(self) -> None:
        if self._restic is not None:
            self._vaults.bare.interrupt(self._restic)

    def join(self) -> None:
        """All end, the restic because it was interrupted."""
        self.join_devices()
        if self._restic is not None:
            self._vaults.bare.end(self._restic)

    def come_back(self) -> None:
        """The fire is over: all that was in the waste baskets at the start is live again."""
        for vault in self._vaults.all:
            vault.work.shared.memory.come_back(self._gone[vault.name])
