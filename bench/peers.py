"""The programs that Oort is measured against, as their packages install them and as their manuals say to use them."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.contestant import Contestant, version_of
from bench.datasets.dataset import Tree
from bench.measure import NotMeasured
from bench.stores import can_serve_s3
from deploy.local.ports import LOOPBACK, free_port

_START_PATIENCE_SECONDS = 60.0
_STOP_PATIENCE_SECONDS = 10.0
_POLL_SECONDS = 0.02


class Restic(Contestant):
    """restic with its own settings, to a local folder or to the server at `url`."""

    def __init__(self, home: Path, url: str = "", servers: Sequence[int] = (), *, server_version: str = "") -> None:
        super().__init__(home)
        self.key = "restic-rest" if url else "restic-local"
        self.title = "restic to rclone serve restic" if url else "restic to a folder"
        self.version = version_of("restic", "version") + (f", rclone {server_version}" if url else "")
        self.repository = home / "repository"
        self._url = url
        self._servers = servers

    @property
    def env(self) -> Mapping[str, str]:
        repository = f"rest:{self._url}" if self._url else str(self.repository)
        return {**super().env, "RESTIC_PASSWORD": "bench", "RESTIC_REPOSITORY": repository}

    @property
    def servers(self) -> Sequence[int]:
        return self._servers

    def prepare(self) -> None:
        self.run(["restic", "init", "--repository-version", "2"])

    def backup_command(self, source: Path) -> list[str]:
        return ["restic", "backup", "--quiet", str(source)]

    def restore_command(self, target: Path) -> list[str]:
        return ["restic", "restore", "latest", "--quiet", "--target", str(target)]

    def stored(self) -> int:
        return Tree.of(self.repository).size


class Borg(Contestant):
    """borg to a local folder, with the compressor that restic and Oort use."""

    key = "borg"
    title = "borg to a folder"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.version = version_of("borg", "--version")
        self._archives = 0

    @property
    def env(self) -> Mapping[str, str]:
        return {**super().env, "BORG_PASSPHRASE": "bench", "BORG_REPO": str(self.home / "repository")}

    def prepare(self) -> None:
        self.run(["borg", "init", "--encryption", "repokey"])

    def backup_command(self, source: Path) -> list[str]:
        self._archives += 1
        return ["borg", "create", "--compression", "zstd,3", f"::{self._archives}", str(source)]

    def restore_command(self, target: Path) -> list[str]:
        # borg extracts into the working directory and has no option for another one.
        return ["sh", "-c", f'mkdir -p "$0" && cd "$0" && exec borg extract ::{self._archives}', str(target)]

    def stored(self) -> int:
        return Tree.of(self.home / "repository").size


@contextmanager
def peers(folder: Path) -> Iterator[list[Contestant]]:
    """Those that are on PATH, each with its server."""
    found: list[Contestant] = []
    with ExitStack() as serving:
        if shutil.which("restic") and can_serve_restic():
            home = folder / "restic-rest"
            url, pid = serving.enter_context(rclone(home / "repository", folder / "rclone"))
            found.append(Restic(home, url, [pid], server_version=version_of("rclone", "version")))
        if shutil.which("restic"):
            found.append(Restic(folder / "restic-local"))
        if shutil.which("borg"):
            found.append(Borg(folder / "borg"))
        yield found


def missing() -> list[str]:
    """A line for each peer that cannot take part."""
    lines = []
    if not shutil.which("restic"):
        lines.append("restic is not installed: it takes no part, and no target can be judged")
    elif not can_serve_restic():
        lines.append("rclone is not installed: restic takes no part with a server, and no target can be judged")
    if not can_serve_s3():
        lines.append("rclone 1.65 or newer is not installed (`make emulators`): nothing is measured on S3")
    if not shutil.which("borg"):
        lines.append("borg is not installed: it takes no part")
    return lines


def can_serve_restic() -> bool:
    """Whether rclone is there."""
    return shutil.which("rclone") is not None


@contextmanager
def rclone(repository: Path, home: Path) -> Iterator[tuple[str, int]]:
    """`rclone serve restic` on a loopback port; answers its address and pid. Raises NotMeasured."""
    home.mkdir(parents=True)
    log = home / "log"
    port = free_port()
    command = ["rclone", "serve", "restic", "--addr", f"{LOOPBACK}:{port}", str(repository)]
    env = {"HOME": str(home), "PATH": _path(), "RCLONE_CONFIG": str(home / "rclone.conf")}
    with log.open("wb") as output:
        server = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        _wait_until_open(port, server, log)
        yield f"http://{LOOPBACK}:{port}/", server.pid
    finally:
        server.terminate()
        try:
            server.wait(_STOP_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _path() -> str:
    rclone = shutil.which("rclone")
    return str(Path(rclone).parent) if rclone else ""


def _wait_until_open(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _START_PATIENCE_SECONDS
    while server.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
            return
        time.sleep(_POLL_SECONDS)
    raise NotMeasured(f"rclone does not serve on port {port}:\n{log.read_text(errors='replace')[-2_000:]}")
