"""A job as it is kept in the home until auth has heard all of it.

Kept true: the record is written before the work begins and when it ends, so a job whose process died, or that auth
could not be told of, is reported by a later command with its true times. A lock that the process holds tells a
running job from a dead one.
"""

import base64
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass, field
from io import BufferedWriter
from typing import Any

from client.account.home import Home
from client.errors import OortError
from domain.jobs import JobStatus


@dataclass(slots=True)
class LogEntry:
    """A line of a job's log; `time_ns` nanoseconds since 1970, `severity` the number of oort.auth.v1.Severity."""

    time_ns: int
    severity: int
    sealed: bytes


@dataclass(slots=True)
class JobCounts:
    """What servers may know of a job: counts and sizes (oort.auth.v1.Counts)."""

    files: int = 0
    folders: int = 0
    bytes: int = 0
    uploaded_bytes: int = 0
    downloaded_bytes: int = 0
    total_files: int = 0
    total_bytes: int = 0
    warnings: int = 0


@dataclass(slots=True)
class VaultEnd:
    """What became of one vault of a job: a snapshot, or why there is none, sealed under K."""

    vault_id: str
    status: int = JobStatus.RUNNING_ACTIVE
    snapshot: str = ""
    sealed_error: bytes = b""


@dataclass(slots=True)
class JobRecord:
    """One job; times in nanoseconds since 1970, `ended_ns` 0 while it runs.

    `vaults` are those of a backup, as given. `prune`: a retention that also frees what no snapshot needs; with
    `freed_nothing` all that was to go stays.
    """

    id: str
    kind: int
    vault_id: str
    item_id: str
    started_ns: int
    client_version: str
    status: int = JobStatus.RUNNING_ACTIVE
    ended_ns: int = 0
    snapshot: str = ""
    counts: JobCounts = field(default_factory=JobCounts)
    lines: list[LogEntry] = field(default_factory=list)
    sent_lines: int = 0
    prune: bool = False
    freed_nothing: bool = False
    vaults: list[VaultEnd] = field(default_factory=list)

    def end(self, status: int, ended_ns: int) -> None:
        """It has ended, and so have the vaults that nothing else is known of."""
        self.status, self.ended_ns = status, ended_ns
        for vault in self.vaults:
            if vault.status == JobStatus.RUNNING_ACTIVE:
                vault.status = status

    def to_json(self) -> bytes:
        fields = asdict(self)
        fields["lines"] = [[line.time_ns, line.severity, base64.b64encode(line.sealed).decode()] for line in self.lines]
        fields["vaults"] = [
            [vault.vault_id, vault.status, vault.snapshot, base64.b64encode(vault.sealed_error).decode()]
            for vault in self.vaults
        ]
        return json.dumps(fields).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "JobRecord":
        """Read what `to_json` wrote. Raises ValueError."""
        try:
            fields: dict[str, Any] = json.loads(text)
            fields["counts"] = JobCounts(**fields["counts"])
            fields["lines"] = [
                LogEntry(time_ns, severity, base64.b64decode(sealed)) for time_ns, severity, sealed in fields["lines"]
            ]
            fields["vaults"] = [
                VaultEnd(vault_id, status, snapshot, base64.b64decode(sealed))
                for vault_id, status, snapshot, sealed in fields.get("vaults", ())
            ]
            record = cls(**fields)
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"no record of a job: {error}") from None
        if not record.is_sound():
            raise ValueError("a field of a job's record is of another kind")
        return record

    def is_sound(self) -> bool:
        """Whether every field is what a message to auth can carry."""
        texts = [self.id, self.vault_id, self.item_id, self.client_version, self.snapshot]
        texts += [text for vault in self.vaults for text in (vault.vault_id, vault.snapshot)]
        enums = (self.kind, self.status, self.sent_lines, *(line.severity for line in self.lines))
        enums += tuple(vault.status for vault in self.vaults)
        numbers = (self.started_ns, self.ended_ns, *(line.time_ns for line in self.lines), *astuple(self.counts))
        return (
            all(isinstance(text, str) and _is_utf8(text) for text in texts)
            and all(type(number) is int and 0 <= number < 1 << 31 for number in enums)
            and all(type(number) is int and 0 <= number < 1 << 63 for number in numbers)
            and type(self.prune) is bool
            and type(self.freed_nothing) is bool
        )


class JobShelf:
    """The records of one device's jobs, in `jobs/DEVICE/` of the home."""

    def __init__(self, home: Home, device_id: str) -> None:
        self._home = home
        self._folder = f"jobs/{device_id}"

    def hold(self, job_id: str) -> BufferedWriter:
        """Take the lock of a job that this process runs; close it when the record is at rest."""
        self._home.subfolder(self._home.folder / self._folder)
        file = self._open_lock(job_id)
        fcntl.flock(file, fcntl.LOCK_EX)
        return file

    def keep(self, record: JobRecord) -> None:
        self._home.write(f"{self._folder}/{record.id}.json", record.to_json())

    def drop(self, job_id: str) -> None:
        self._home.forget(f"{self._folder}/{job_id}.json", f"{self._folder}/{job_id}.lock")

    def at_rest(self) -> Iterator[tuple[JobRecord, BufferedWriter]]:
        """Records of jobs that no process runs any more, each with its lock taken: close it.

        One that never ended is marked as abandoned, at the time of its last record.
        """
        folder = self._home.folder / self._folder
        for path in sorted(folder.glob("*.json")):
            try:
                lock = self._open_lock(path.stem)
            except OSError:
                continue  # a home that cannot be written now: another time
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                record = JobRecord.from_json(path.read_bytes())
                if not record.ended_ns:
                    record.end(JobStatus.ABANDONED, path.stat().st_mtime_ns)
            except (OSError, ValueError):
                lock.close()  # another process has it, or has just reported it; damaged records wait for a person
                continue
            yield record, lock

    def _open_lock(self, job_id: str) -> BufferedWriter:
        path = self._home.folder / self._folder / f"{job_id}.lock"
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600), "wb")


def keep_or_skip(shelf: JobShelf, record: JobRecord) -> OortError | None:
    """Write a record; why not, if the home cannot be written, which does not stop the work itself."""
    try:
        shelf.keep(record)
    except OortError as error:
        return error
    return None


def _is_utf8(text: str) -> bool:
    return text == text.encode(errors="ignore").decode()
