"""What lies where in a stack's data folder, and what is known of its processes.

Kept true: the folder is for its owner alone (0700); a folder that holds something else is never written to;
`stack.json` and every secret are replaced whole, so a crash leaves the old or the new one.
"""

import fcntl
import json
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.local.errors import NoStack, NotAStack, StackError, StackIsBusy
from deploy.local.processes import ProcessId

_MARKER = "stack.json"
_VERSION = 1
_SETTING = re.compile("OORT_[A-Z0-9_]+=[^\0]*")  # a NUL would end the value
USUAL_NODES = 2  # storage nodes of a stack whose operator says nothing else, and of those of earlier releases


@dataclass(slots=True)
class Service:
    """One process of the stack; endpoints are host:port, `internal` and `metrics` empty for Postgres and Redis.

    `rest` is of storage nodes alone.
    """

    name: str
    role: str
    process: ProcessId | None = None
    public: str = ""
    internal: str = ""
    metrics: str = ""
    rest: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "role": self.role,
            "pid": self.process.pid if self.process else None,
            "started": self.process.started if self.process else None,
            "public": self.public,
            "internal": self.internal,
            "metrics": self.metrics,
            "rest": self.rest,
        }

    @classmethod
    def from_json(cls, name: str, value: dict[str, Any]) -> "Service":
        process = ProcessId.from_json(value) if value.get("pid") else None
        # A stack that an earlier release made has no `rest`.
        rest = value.get("rest", "")
        return cls(name, value["role"], process, value["public"], value["internal"], value["metrics"], rest)


@dataclass(slots=True)
class StackState:
    """`stack.json`: ports outlive the processes, so that the next `up` prefers them.

    `node_count` is how many storage nodes it is to have, `most_ready` the most that it has been up with; `nodes` are
    those that it has had ports for.
    """

    id: str
    node_count: int
    most_ready: int = 0
    supervisor: ProcessId | None = None
    ready: bool = False
    services: dict[str, Service] = field(default_factory=dict)

    @property
    def nodes(self) -> list[Service]:
        return [service for service in self.services.values() if service.role == "storage"]

    def to_json(self) -> dict[str, Any]:
        return {
            "version": _VERSION,
            "id": self.id,
            "nodes": self.node_count,
            "most_ready": self.most_ready,
            "supervisor": self.supervisor.to_json() if self.supervisor else None,
            "ready": self.ready,
            "services": {name: service.to_json() for name, service in self.services.items()},
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "StackState":
        supervisor = ProcessId.from_json(value["supervisor"]) if value["supervisor"] else None
        services = {name: Service.from_json(name, service) for name, service in value["services"].items()}
        # An earlier release leaves both numbers out, also where it has rewritten what a later one wrote.
        known = sum(service.role == "storage" for service in services.values())
        node_count = value.get("nodes", max(USUAL_NODES, known))
        most_ready = value.get("most_ready", known)
        return cls(value["id"], node_count, most_ready, supervisor, value["ready"], services)


@dataclass(frozen=True, slots=True)
class StackFolder:
    """A stack's data folder, absolute."""

    path: Path

    @property
    def exists(self) -> bool:
        """Whether it is still there, as this stack's. Raises PermissionError where one may not look."""
        return (self.path / _MARKER).is_file()

    @property
    def certificates(self) -> Path:
        return self.path / "certificates"

    @property
    def secrets(self) -> Path:
        return self.path / "secrets"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def env(self) -> Path:
        """Shell variables for clients and administrators, 0600."""
        return self.path / "env"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def settings_file(self, name: str) -> Path:
        """What the operator sets for one process alone: lines of OORT_NAME=VALUE. Mostly there is none."""
        return self.path / "settings" / name

    def settings_names(self) -> list[str]:
        """For which processes there is such a file. Raises StackError."""
        place = self.path / "settings"
        try:
            # What an editor keeps beside a file while it is open is hidden.
            return sorted(entry.name for entry in place.iterdir() if not entry.name.startswith("."))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StackError(detail=f"{place} cannot be read: {error.strerror}.") from None

    def settings(self, name: str) -> dict[str, str]:
        """What is set so. Raises StackError for a line that sets nothing, and where it cannot be read."""
        path = self.settings_file(name)
        try:
            lines = [line.strip() for line in path.read_text().splitlines()]
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise StackError(detail=f"{path} cannot be read: {error}.") from None
        found = {}
        for line in lines:
            if line and not line.startswith("#"):
                if not _SETTING.fullmatch(line):
                    raise StackError(detail=f"{path}: `{line}` is no setting: write lines of OORT_NAME=VALUE.")
                setting, _, value = line.partition("=")
                found[setting] = value
        return found

    def node(self, name: str) -> Path:
        """The disk of a storage node."""
        return self.path / "nodes" / name

    def holds_buckets(self, name: str) -> bool:
        """Whether anything lies on the disk of a storage node. Raises StackError when it cannot be read."""
        place = self.node(name) / "buckets"
        try:
            return any(place.iterdir())
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StackError(detail=f"{place} cannot be read: {error.strerror}.") from None

    @classmethod
    def create(cls, path: Path) -> "StackFolder":
        """Take a new or an empty folder, or one that is a stack's already. Raises NotAStack, StackError."""
        path = Path(os.path.abspath(path))  # noqa: PTH100 - a link to the folder stays the name that the operator chose
        folder = cls(path)
        try:
            if not path.exists():
                path.mkdir(mode=0o700, parents=True)
            if not path.is_dir():
                raise StackError(detail=f"{path} is not a folder: give another with --data.")
            if not (path / _MARKER).exists():
                if any(entry.name != _MARKER + ".new" for entry in path.iterdir()):
                    raise NotAStack(folder=path)
                folder.save(StackState(uuid.uuid4().hex, USUAL_NODES))
            path.chmod(0o700)
            for below in (folder.certificates, folder.secrets, folder.logs, path / "nodes", path / "leases"):
                below.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StackError(detail=f"{path} cannot be used: {error.strerror}. Give another with --data.") from None
        return folder

    @classmethod
    def find(cls, path: Path) -> "StackFolder":
        """The stack in a folder, running or not. Raises NoStack."""
        folder = cls(Path(os.path.abspath(path)))  # noqa: PTH100 - as above
        if not folder.exists:
            raise NoStack(folder=folder.path)
        return folder

    def load(self) -> StackState:
        """Raises StackError when the file was damaged by hand."""
        try:
            return StackState.from_json(json.loads((self.path / _MARKER).read_text()))
        except (ValueError, KeyError, TypeError):
            raise StackError(detail=f"{self.path / _MARKER} is damaged: remove it if no process of it runs.") from None
        except OSError as error:
            raise StackError(detail=f"{self.path / _MARKER} cannot be read: {error.strerror}.") from None

    def save(self, state: StackState) -> None:
        self.write(self.path / _MARKER, json.dumps(state.to_json(), indent=2) + "\n")

    def write(self, path: Path, text: str | bytes) -> None:
        """Replace a private file (0600) whole."""
        fresh = path.with_name(path.name + ".new")
        fresh.unlink(missing_ok=True)
        body = text.encode() if isinstance(text, str) else text
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)

    @property
    def is_held(self) -> bool:
        """Whether a supervisor lives."""
        try:
            with self.held():
                return False
        except StackIsBusy:
            return True

    @contextmanager
    def held(self) -> Iterator[None]:
        """Held by the supervisor as long as it lives; the kernel lets go of it when it dies. Raises StackIsBusy."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StackIsBusy(folder=self.path) from None
            yield
        finally:
            os.close(descriptor)
