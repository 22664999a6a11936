"""What the processes of an instance have together, and where they listen (worker.py, ports.py)."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest

from services.common.errors import StartError
from services.common.ports import reserved
from services.common.settings import ProcessSettings
from services.common.testing.server import Certificates, some_settings
from services.common.worker import STARTED_AS, ByteLocks, Worker, environment_of, make_shared, started_as, worker_of

_ROOT = Path(__file__).parents[3]
PLACE = (1 << 62) + 5  # beyond what is told apart


def elsewhere(shared: int, ask: str) -> str:
    """What another process finds out, whose `me` is the second of two workers."""
    ours, its = socket.socketpair()
    program = f"import os\nfrom services.common.worker import started_as\nme = started_as(os.environ)\n{ask}"
    with closing(ours), closing(its):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, **environment_of(1, 2, shared, its.fileno())},
            pass_fds=(shared, its.fileno()),
            cwd=_ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_process_alone_is_the_first_of_one() -> None:
    assert started_as({}) is None
    alone = Worker()
    assert (alone.is_first, alone.mark, list(alone.counts)) == (True, "", [0])
    assert alone.counts is not Worker().counts


@pytest.mark.parametrize("told", ["4", "[]", "[{}, 1, 2]", "[{}, null, 2, 3, 4]", "[{}, 1, 2, 9999, 9999]", "{"])
def test_what_only_a_process_of_ours_sets_is_refused_of_anybody_else(told: str) -> None:
    with pytest.raises(StartError, match=STARTED_AS):
        started_as({STARTED_AS: told.replace("{}", f'"{version("oort")}"')})


def test_a_worker_of_another_version_than_the_first_process_does_not_start() -> None:
    with pytest.raises(StartError, match=r"is installed, and the first process is 0\.0\.1: start it again"):
        started_as({STARTED_AS: '["0.0.1", 1, 2, 3, 4]'})


def test_what_one_worker_counts_all_see() -> None:
    shared = make_shared()
    first = worker_of(shared, 0, 2)
    first.counts[0] = 3
    assert elsewhere(shared, "me.counts[1] += 4; print(me.number, me.count, me.mark, sum(me.counts))") == "1 2 1- 7"
    assert list(first.counts) == [3, 4]
    os.close(shared)


@pytest.mark.parametrize(("ours", "theirs", "free"), [(True, True, False), (True, False, False), (False, False, True)])
def test_a_lock_holds_against_other_processes(*, ours: bool, theirs: bool, free: bool) -> None:
    shared = make_shared()
    locks = ByteLocks(shared)
    assert locks.take(PLACE, alone=ours)
    ask = f"print(me.locks.take({PLACE}, alone={theirs}), me.locks.take({PLACE} + 1, alone=True))"
    assert elsewhere(shared, ask) == f"{free} True"
    assert locks.take(PLACE + 1, alone=True), "the other process has ended, and its lock with it"
    locks.let_go(PLACE)
    assert elsewhere(shared, f"print(me.locks.take({PLACE}, alone=True))") == "True"
    with locks.held(0):
        assert elsewhere(shared, f"print(me.locks.take({PLACE}, alone=True))") == "True"
        waits = "import fcntl\nfcntl.lockf(me.locks._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 1 << 62)"
        with pytest.raises(AssertionError, match="BlockingIOError"):
            elsewhere(shared, waits)
    elsewhere(shared, waits)
    os.close(shared)


@pytest.fixture
def settings(installation: Certificates) -> ProcessSettings:
    return some_settings(ProcessSettings, "example", installation)


NAMES = ("public_listen", "internal_listen")


def listen(port: int, host: str, option: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family)
    made.setsockopt(socket.SOL_SOCKET, option, 1)
    try:
        made.bind((host.strip("[]"), port))
        made.listen()
    except BaseException:
        made.close()
        raise
    return made


def has_ipv6() -> bool:
    try:
        listen(0, "[::1]", socket.SO_REUSEADDR).close()
    except OSError:
        return False
    return True


@contextmanager
def reserved_at_last(wanted: ProcessSettings) -> Iterator[ProcessSettings]:
    """With a free port; one that is free on one address of a name may be taken on another one."""
    for _ in range(100):
        with ExitStack() as stack:
            try:
                held = stack.enter_context(reserved(wanted, NAMES))
            except StartError:
                continue
            yield held
            return
    raise AssertionError("no port is free")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost", *(["[::]", "[::1]"] if has_ipv6() else [])])
def test_reserved_ports_are_taken_by_who_shares_them_alone(settings: ProcessSettings, host: str) -> None:
    wanted = settings.model_copy(update={"public_listen": f"{host}:0"})
    with reserved_at_last(wanted) as held:
        assert held.share_port
        assert held.metrics_listen == settings.metrics_listen
        address, _, port = held.public_listen.rpartition(":")
        assert address == host
        with pytest.raises(OSError, match="in use"):
            listen(int(port), host, socket.SO_REUSEADDR)
        listen(int(port), host, socket.SO_REUSEPORT).close()
        with reserved(held, NAMES) as joined:  # as an operator may choose, for several instances
            assert joined.public_listen == held.public_listen
        alone = held.model_copy(update={"share_port": False})
        with pytest.raises(StartError, match=f"cannot listen on .*{port}: the port is taken"), reserved(alone, NAMES):
            pass


def test_what_an_earlier_run_has_left_on_a_port_does_not_take_it(settings: ProcessSettings) -> None:
    # Between an earlier run and the next one another test may come to the port.
    assert any(is_reserved_after_an_earlier_run(settings) for _ in range(20))


def is_reserved_after_an_earlier_run(settings: ProcessSettings) -> bool:
    with closing(listen(0, "127.0.0.1", socket.SO_REUSEADDR)) as earlier:
        port = earlier.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as caller:
            accepted, _ = earlier.accept()
            accepted.close()  # before its caller: this end is in TIME_WAIT then
            assert caller.recv(1) == b""
    wanted = settings.model_copy(update={"public_listen": f"127.0.0.1:{port}"})
    try:
        with reserved(wanted, NAMES) as held:
            return held.public_listen == wanted.public_listen
    except StartError:
        return False


def test_an_address_of_another_host_is_named(settings: ProcessSettings) -> None:
    wanted = settings.model_copy(update={"public_listen": "192.0.2.1:0"})
    with pytest.raises(StartError, match=r"192\.0\.2\.1:0: .*not of this host"), reserved(wanted, NAMES):
        pass


def test_ports_that_somebody_listens_on_are_not_reserved(settings: ProcessSettings) -> None:
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        with closing(listen(0, "127.0.0.1", option)) as other:
            taken = settings.model_copy(update={"internal_listen": f"127.0.0.1:{other.getsockname()[1]}"})
            with pytest.raises(StartError, match="the port is taken"), reserved(taken, NAMES):
                pass


def test_a_port_that_is_not_set_is_not_reserved(settings: ProcessSettings) -> None:
    with reserved(settings, ("cluster_server",)) as held:
        assert held == settings.model_copy(update={"share_port": True})
