"""Two users' vaults, with all that must come through a fire, and what they do when it breaks out.

Kept true: what is not kept in files is set again after a fire, as the operator guide says, and what is, is never set
by anybody here again: a quota, the number of copies, and whose a vault is.
"""

import secrets
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from threading import Thread
from traceback import format_exc
from typing import Any

from deploy.campaigns.devices.commands import Commands, Kind
from deploy.campaigns.devices.judging import Findings
from deploy.campaigns.devices.memory import Memory
from deploy.campaigns.devices.outages import Outages
from deploy.campaigns.devices.trees import Tree
from deploy.campaigns.devices.work import Shared, Work
from deploy.campaigns.fire.bare import FRESH_BYTES, Bare
from deploy.campaigns.fire.fires import PATIENCE_SECONDS, Wrong
from deploy.driver import Device, Operator

_LOCK_DAYS = "3"
_LOCKED = "locked"
_QUOTAS = {"single": "3G"}
_BARE = "bare"
# Whose each vault is, and how many copies it has and waits for.
_VAULTS = {"single": ("anna", 1, 1), _LOCKED: ("anna", 2, 1), "double": ("bert", 2, 2), _BARE: ("bert", 2, 1)}
_OURS = [name for name in _VAULTS if name != _BARE]
_SNAPSHOTS = 2  # of each vault before the first fire
_LIMIT = "4M"
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
        """Something new, which takes some seconds."""
        self.work.tree.change()
        self.work.tree.freshen(FRESH_BYTES)
        self.work.back_up("--limit-upload", _LIMIT)

    def prune(self) -> None:
        self.work.retain(
            Kind.PRUNE, *("retention", "--vault", self.name, "--keep-last", "1", "--yes", "--json"),
            *("--prune", "--max-unused", "0%", "--limit-upload", _LIMIT, "--limit-download", _LIMIT),
        )  # fmt: skip


class Vaults:
    """All of them. `works` are the devices' own, `bare` is the restic's."""

    def __init__(self, operator: Operator, findings: Findings, outages: Outages, folder: Path, seed: int) -> None:
        self._operator = operator
        self._findings = findings
        self._data = ("--data", str(operator.data))
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

    # What they do when a fire breaks out

    def start(self, *, prune: bool) -> "Running":
        """Everybody works: all back up, or those that may prune instead; a restic backs up beside them."""
        gone = {vault.name: vault.work.shared.memory.gone for vault in self.all}
        does = [vault.prune if prune and not vault.is_locked else vault.back_up_slowly for vault in self.all]
        return Running(self, [Thread(target=self._told, args=(one,)) for one in does], gone)

    def _told(self, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception:  # noqa: BLE001 - told, and the campaign fails
            self._findings.add(format_exc())

    def idle(self) -> "Running":
        gone = {vault.name: vault.work.shared.memory.gone for vault in self.all}
        return Running(self, [], gone)

    def arriving(self) -> set[str]:
        """The names of those of which something comes to a node just now."""
        return {one.name for one in self.all if any(self._operator.data.glob(f"nodes/*/incoming/{one.bucket}/*"))}


class Running:
    """What runs when a fire breaks out. `gone` was removed before, of each vault."""

    def __init__(self, vaults: Vaults, threads: list[Thread], gone: Mapping[str, Collection[str]]) -> None:
        self._vaults = vaults
        self._threads = threads
        self._gone = gone
        self._restic = vaults.bare.start() if threads else None
        for thread in threads:
            thread.start()
        self._wait_until_all_store()

    @property
    def count(self) -> int:
        """How many still run."""
        return sum(thread.is_alive() for thread in self._threads)

    def _wait_until_all_store(self) -> None:
        """Or have ended: what each has to send takes some seconds from then on."""
        seen: set[str] = set()
        end = time.monotonic() + PATIENCE_SECONDS
        names = {one.name: thread for one, thread in zip(self._vaults.all, self._threads, strict=False)}
        while any(name not in seen and thread.is_alive() for name, thread in names.items()):
            if time.monotonic() > end:
                raise Wrong(f"nothing has come to a node in {PATIENCE_SECONDS:.0f} s")
            seen |= self._vaults.arriving()
            time.sleep(_LOOK_SECONDS)

    def join_devices(self) -> None:
        for thread in self._threads:
            thread.join()

    def join(self) -> None:
        """When the fire is over: all that was in the waste baskets is live again."""
        self.join_devices()
        if self._restic is not None:
            self._vaults.bare.end(self._restic)
        for vault in self._vaults.all:
            vault.work.shared.memory.come_back(self._gone[vault.name])
