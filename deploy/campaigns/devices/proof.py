"""What must hold when nothing is killed any more, and all who worked have ended.

Kept true: every check is made, whatever those before it have found.
"""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from traceback import format_exc

from client.account.device import Device as Account
from client.account.home import Home
from client.account.opening import place_of
from deploy.campaigns.devices.commands import Kind
from deploy.campaigns.devices.judging import End
from deploy.campaigns.devices.work import Shared, Work
from deploy.driver import Operator
from deploy.local import stack
from deploy.tests.end_to_end.restic import Restic
from domain.names import CONFIG, SEAL, ObjectKind
from domain.sessions import Purpose

_PATIENCE_SECONDS = 180.0  # for what the stack puts right by itself
_PAUSE_SECONDS = 1.0
_TRACEBACK = "Traceback (most recent call last)"
_NAMED = 5  # of many things that are wrong
_COPIES = 2
_LISTED = (ObjectKind.PACK, ObjectKind.INDEX, ObjectKind.SNAPSHOT, ObjectKind.KEY)


@dataclass(slots=True)
class Proof:
    """Looks at one vault, at which these devices worked, and at its stack. `verified` says what holds."""

    operator: Operator
    works: Sequence[Work]
    shared: Shared
    target: Path
    verified: list[str] = field(default_factory=list)

    def of_stack(self) -> None:
        """Look at what has to come to rest."""
        self._expect("all copies are complete", self._copies, patience=_PATIENCE_SECONDS)
        self._expect("no session is open", self._sessions, patience=_PATIENCE_SECONDS)
        self._expect("killed commands have left no process", self._processes, patience=_PATIENCE_SECONDS)
        self._expect("no role has met what it does not know", self._logs)

    def of_vault(self) -> None:
        """Look at the vault as it was left, and once more after a prune that nobody disturbs."""
        self._expect("every committed snapshot that no retention removed is listed", self._lists)
        self._expect("each of them restores as its tree was", self._restores)
        self._clean("", self._restic)
        self._expect("a last prune finds nothing wrong", self._prune)
        self._clean(", after a last prune too", lambda: self._restic(tidy=True))

    def _clean(self, when: str, restic: Callable[[], str]) -> None:
        self._expect(f"both folders hold the live objects, byte for byte{when}", self._folders, _PATIENCE_SECONDS)
        self._expect(f"backup-tool check --read-data is clean{when}", self._check)
        self._expect(f"restic check --read-data is clean on both folders{when}", restic)

    def _expect(self, what: str, wrong: Callable[[], str], patience: float = 0.0) -> None:
        """Ask what is wrong, again until nothing is or patience is at its end."""
        end = time.monotonic() + patience
        try:
            while (found := wrong()) and time.monotonic() < end:
                time.sleep(_PAUSE_SECONDS)
        except Exception:  # noqa: BLE001 - told, and the campaign fails
            found = format_exc()
        if found:
            self.shared.findings.add(f"does not hold: {what}: {found}")
        else:
            self.verified.append(what)

    # What may be wrong; each answers nothing if all is well

    def _copies(self) -> str:
        status = stack.status(self.operator.data)
        return "" if status.all_well and status.copies_complete else str(status.to_json())

    def _sessions(self) -> str:
        said = self.operator.oort.ok("session", "list", "--json", "--data", str(self.operator.data)).json()
        return ", ".join(f"{one['purpose']} {one['id']}" for one in said)

    def _processes(self) -> str:
        return ", ".join(map(str, self.shared.commands.left_behind()))

    def _logs(self) -> str:
        logs = sorted((self.operator.data / "logs").iterdir())
        return ", ".join(log.name for log in logs if _TRACEBACK in log.read_text(errors="replace"))

    def _lists(self) -> str:
        return some(list(self.shared.memory.audit(self._listed())))

    def _listed(self) -> Mapping[str, str]:
        """The devices of all snapshots that the vault lists."""
        names = {str(root): name for name, root in self.shared.roots.items()}
        return {one["id"]: names[one["paths"][0]] for one in self.works[0].device.snapshots(self.shared.vault)}

    def _restores(self) -> str:
        """Restored by one device after the other. What comes back with other content is a finding by itself."""
        failed = []
        for number, (snapshot, owner) in enumerate(self._listed().items()):
            work = self.works[number % len(self.works)]
            if work.restore(snapshot, owner, self.target) is not End.DONE:
                failed.append(snapshot)
            shutil.rmtree(self.target, ignore_errors=True)
        return some(failed)

    def _folders(self) -> str:
        live = self._live()
        bodies = [files_below(folder) for folder in self._bucket()]
        wrong = [f"{len(bodies)} folders"] if len(bodies) != _COPIES else []
        for number, found in enumerate(bodies):
            wrong += [f"{name} is missing from folder {number}" for name in sorted(live - found.keys())]
            wrong += [f"{name} is still in folder {number}" for name in sorted(found.keys() - live)]
        for name in () if wrong else sorted(live):
            digests = {sha256(found[name].read_bytes()).hexdigest() for found in bodies}
            named = name.rpartition("/")[2]
            if len(digests) != 1 or ("/" in name and digests != {named}):
                wrong.append(f"{name} is {', '.join(digests)}")
        return some(wrong)

    def _live(self) -> set[str]:
        """The paths of all live objects, as a new session sees them."""
        with (
            Account(Home(self.works[0].device.home)) as account,
            place_of(account, self.shared.vault) as place,
            place.store.open(Purpose.READ) as session,
        ):
            listed = {info.name.path for kind in _LISTED for info in session.list(kind)}
        return listed | {CONFIG.path, SEAL.path}

    def _check(self) -> str:
        done = self.works[-1].device.tool.run("check", "--vault", self.shared.vault, "--read-data")
        return "" if done.code == 0 else f"{done.code}: {done.stdout}{done.stderr}"

    def _restic(self, *, tidy: bool = False) -> str:
        """As restic says; `tidy` means that there are no packs either which no index file lists."""
        password = self.works[0].device.recovery(self.shared.vault)["password"]
        wrong = []
        for folder in self._bucket():
            said = Restic(folder, password, "--no-lock").run("check", "--read-data")
            if "no errors were found" not in said or (tidy and "additional files" in said):
                wrong.append(said)
        return some(wrong)

    def _prune(self) -> str:
        run = self.works[-1].retain(
            Kind.PRUNE, *("retention", "--vault", self.shared.vault, "--keep-last", "2", "--yes", "--json"),
            *("--prune", "--max-unused", "0%"),
        )  # fmt: skip
        return "" if run.code == 0 else str(run)

    def _bucket(self) -> list[Path]:
        return self.operator.bucket_folders(self.works[0].device.recovery(self.shared.vault)["bucket"])


def files_below(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def some(wrong: list[str]) -> str:
    more = f"; {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
    return "; ".join(wrong[:_NAMED]) + more
