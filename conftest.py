"""What tests share: one Postgres for a whole run, one Redis for each worker, and a certificate authority.

Kept true: everything starts on loopback with free ports in temporary folders, and nothing runs after the tests, even if
they were killed.
"""

import gc
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import settings

from client.account import passwords
from client.testing.stretching import RememberedArgon2id
from clouds.testing.emulators import EMULATORS, Absent, Emulator
from clouds.testing.ssh import SshServer, an_ssh_server
from deploy.local.certificates import CertificateAuthority
from deploy.local.ports import LOOPBACK, PortReservations, is_free
from deploy.local.postgres import PostgresServer
from deploy.local.processes import ProcessId
from deploy.local.redis import RedisServer

_PORTS_RESERVED = 100
_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
_MEMORY_BYTES = 8 << 30  # four times what the databases of four workers' modules may take, 10 MB each, and their log
# moto looks whether there is an object, then writes: of two conditional writes at once both would succeed.
_S3 = """
import threading
from moto import server

one_at_a_time = threading.Lock()
genuine = server.DomainDispatcherApplication.__call__

def answered(application, environ, start_response):
    if "HTTP_IF_NONE_MATCH" not in environ:
        return genuine(application, environ, start_response)
    with one_at_a_time:
        return genuine(application, environ, start_response)

server.DomainDispatcherApplication.__call__ = answered
server.main()
"""
_SERVER = pytest.StashKey[tuple[PostgresServer, ExitStack]]()

settings.register_profile("oort", deadline=None)  # a busy machine is no failure
settings.load_profile("oort")


@dataclass(frozen=True)
class Postgres:
    """The run's Postgres server. Tests make databases of their own on it."""

    superuser_dsn: str


@dataclass(frozen=True)
class Installation:
    """A certificate authority, as an operator's installation has it."""

    authority: CertificateAuthority

    @property
    def folder(self) -> Path:
        """Where `ca.pem` lies."""
        return self.authority.folder

    @property
    def ca(self) -> Path:
        return self.authority.ca

    def certificate(self, role: str, instance: str) -> tuple[Path, Path]:
        """Certificate and key of one instance, as files."""
        files = self.authority.certificate(role, instance, datetime.now(UTC))
        return files.certificate, files.key


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported to collect the tests is no garbage: looking for some among it takes a fifth of the time.

    Afterwards garbage is looked for, in every process of a run, but not among a million objects that stay to the end.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        tool = str(marker.args[0])
        if shutil.which(tool, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin") is not None:  # where sshd lies
            continue
        message = f"{tool} is not installed"
        if os.environ.get("OORT_TEST_REQUIRE") == "all":
            pytest.fail(f"{message}, and OORT_TEST_REQUIRE=all wants every test to run")
        pytest.skip(message)


@contextmanager
def _ending_with_us(process: ProcessId | None, folder: Path | None = None) -> Iterator[None]:
    """Ends a server when this process is gone, in whatever way: the kernel then closes the pipe. Removes its folder.

    That is waited for 60 seconds: a server of which nobody takes the end notice is there for good.
    """
    ended = 'n=600; while kill -0 "$1" && test $((n -= 1)) -gt 0; do sleep 0.1; done'
    script = f'read -r _; kill -INT "$1"; test -z "$2" || {{ {ended}; rm -rf "$2"; }}'
    command = ["sh", "-c", script, "sh", str(process.pid if process else 0), str(folder or "")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True) as watch:
        try:
            yield
        finally:
            watch.terminate()


def _in_memory() -> Path | None:
    """Where files are kept in memory, if there is plenty of it: a copy of a database costs half as much there."""
    plenty = psutil.virtual_memory().available >= _MEMORY_BYTES and _MEMORY.is_dir()
    if plenty and os.access(_MEMORY, os.W_OK | os.X_OK) and shutil.disk_usage(_MEMORY).free >= _MEMORY_BYTES // 2:
        return _MEMORY
    return None


def _server(config: pytest.Config) -> PostgresServer:
    """The Postgres of this run, started by whoever asks first in this process."""
    if _SERVER not in config.stash:
        with ExitStack() as starting:
            folder = Path(tempfile.mkdtemp(prefix="oort-test-postgres-", dir=_in_memory()))
            starting.callback(shutil.rmtree, folder)
            server = starting.enter_context(PostgresServer(folder, fast=True))
            starting.enter_context(_ending_with_us(server.process, folder))
            config.stash[_SERVER] = server, starting.pop_all()
    return config.stash[_SERVER][0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two workers more than processors: while some tests wait for the disk or for a stack to start, others run."""
    return (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1) + 2


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Under xdist, long tests come first, so that short ones are left for the workers to end together.

    It deals out the items in equal parts, the first of which has the tests that share a stack, so that one worker
    starts it; the others begin with the long tests, of which most start one of their own.
    """
    workers = int(getattr(config, "workerinput", {}).get("workercount", 1))
    if workers == 1:
        return
    by_length = sorted(items, key=lambda item: item.get_closest_marker("long") is None)
    sharing = [item for item in by_length if "stack" in getattr(item, "fixturenames", ())]
    others = [item for item in by_length if "stack" not in getattr(item, "fixturenames", ())]
    long = [item for item in others if item.get_closest_marker("long")]
    short = [*sharing, *others[len(long) :]]
    ordered: list[pytest.Item] = []
    for worker in range(workers):
        first = long[worker - 1 :: workers - 1] if worker else []
        size = (len(items) - len(ordered)) // (workers - worker)
        rest = max(size - len(first), 0)
        ordered += [*first, *short[:rest]]
        del short[:rest]
    items[:] = [*ordered, *short]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Under xdist the process that hands out the tests owns the server, so workers may come and go."""
    node.workerinput["postgres_dsn"] = _server(node.config).superuser_dsn


def pytest_unconfigure(config: pytest.Config) -> None:
    if _SERVER in config.stash:
        config.stash[_SERVER][1].close()
        del config.stash[_SERVER]


@pytest.fixture(scope="session", autouse=True)
def stretched_once() -> Iterator[None]:
    """In a worker, the same password with the same salt is stretched once, however many tests log in with it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "Argon2id", RememberedArgon2id)
        yield


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Postgres:
    given = getattr(request.config, "workerinput", {}).get("postgres_dsn")
    return Postgres(given or _server(request.config).superuser_dsn)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="oort-test-redis-"))
    try:
        with RedisServer(folder) as server, _ending_with_us(server.process):
            yield server.url
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def a_free_port() -> Iterator[Callable[[], int]]:
    """Chooses a port that no connection gets by chance, nor any other test or stack before it is listened on."""
    with closing(PortReservations()) as reservations:
        last = deque[int]()

        def choose() -> int:
            last.append(reservations.take())
            if len(last) > _PORTS_RESERVED:  # the first of them is listened on by now, or done with
                reservations.release(last.popleft())
            return last[-1]

        yield choose


@pytest.fixture(scope="session")
def s3_endpoint(a_free_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of S3 (moto's), as a URL. It takes any key; its objects are in its memory."""
    port = a_free_port()
    log = tmp_path_factory.mktemp("s3") / "log"
    command = [sys.executable, "-c", _S3, "--host", LOOPBACK, "--port", str(port)]
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as server:
        try:
            with _ending_with_us(ProcessId.of(server.pid)):
                while is_free(port):
                    assert server.poll() is None, log.read_text()
                    time.sleep(0.02)
                yield f"http://{LOOPBACK}:{port}"
        finally:
            server.kill()


@pytest.fixture
def s3_bucket(s3_endpoint: str) -> str:
    """A new bucket, as ENDPOINT/BUCKET."""
    address = f"{s3_endpoint}/bucket-{secrets.token_hex(4)}"
    with urllib.request.urlopen(urllib.request.Request(address, method="PUT"), timeout=60) as answer:  # noqa: S310 - http
        assert answer.status == HTTPStatus.OK
    return address


@pytest.fixture(scope="session", params=EMULATORS, ids=lambda emulator: emulator.__name__)
def emulator(
    request: pytest.FixtureRequest, a_free_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Emulator]:
    """Each of the stores that a campaign starts; skipped, with the reason, where one is not installed."""
    try:
        with (
            request.param(tmp_path_factory.mktemp("emulator"), a_free_port) as emulator,
            _ending_with_us(ProcessId.of(emulator.pid)),
        ):
            yield emulator
    except Absent as absent:
        pytest.skip(str(absent))


@pytest.fixture
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """A server of SFTP (OpenSSH's) that lets the user of the tests into every folder of theirs."""
    with an_ssh_server(tmp_path_factory.mktemp("ssh")) as server:
        yield server


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    folder = tmp_path_factory.mktemp("installation")
    return Installation(CertificateAuthority.open(folder, datetime.now(UTC)))
