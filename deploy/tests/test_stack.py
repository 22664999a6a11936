"""The embedded stack: up, down, killed, and up again."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path

import psutil
import pytest

from client.errors import UsageError
from deploy.driver import Command, Operator
from deploy.local import orphans, roles
from deploy.local.folder import Service, StackFolder, StackState
from deploy.local.processes import ProcessId
from deploy.local.stack import _set_nodes
from deploy.local.stack import status as stack_of
from deploy.local.supervisor import Supervisor
from deploy.tests.ports import own_ports
from services.common.settings import ProcessSettings

PASSWORD = "seventeen-lanterns-over-the-harbour"
_BEAT = "OORT_NODE_BEAT_SECONDS"
SERVICES = {"postgres", "redis", "license", "auth", "node-a", "node-b", "branding", "cluster"}


Owned = dict[Path, tuple[int, int, int]]


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    """A stack that is not up yet, in a folder whose name has a space, below one that only its owner may enter.

    Whatever a test does to it: at the end nothing runs, and nothing outside has changed its mode or owner.
    """
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "neighbour").mkdir(mode=0o751)
    operator = Operator(private / "the stack")
    before = modes_and_owners(outside=operator.data)
    yield operator
    if operator.data.exists():
        operator.oort.run("stack", "down", "--data", str(operator.data))
    assert living(operator.data) == []
    assert modes_and_owners(outside=operator.data) == before


def modes_and_owners(outside: Path) -> Owned:
    """Of the folders beside and above one."""
    statuses = {path: path.stat() for path in (outside.parent / "neighbour", *outside.parents)}
    return {path: (status.st_mode, status.st_uid, status.st_gid) for path, status in statuses.items()}


def living(folder: Path) -> list[str]:
    """Every process that runs in a folder or below, whoever started it."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {' '.join(process.cmdline())}")
        except psutil.Error:
            continue
    return found


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.1)


def removed(folder: Path) -> bool:
    """What runs in it may make and remove files meanwhile."""
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def kill(pid: int) -> None:
    found = ProcessId.of(pid)
    assert found is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not found.alive)


def users(operator: Operator) -> set[str]:
    listed = operator.oort.ok("user", "list", "--json", "--data", str(operator.data)).json()
    return {user["username"] for user in listed}


def supervisor(operator: Operator) -> int:
    process = StackFolder.find(operator.data).load().supervisor
    assert process is not None
    return process.pid


@pytest.fixture
def kept_ports(operator: Operator) -> Iterator[None]:
    """Of a stack that takes the same ones each time."""
    with own_ports(StackFolder.create(operator.data)):
        yield


@pytest.mark.long
@pytest.mark.usefixtures("kept_ports")
def test_whatever_was_killed_or_taken_down_and_up_find_all_data(operator: Operator) -> None:
    """One test, since several would start a stack twice each."""
    operator.up()
    all_is_well_and_private(operator)
    operator.add_user("alice", PASSWORD)
    env, addresses = operator.env, public(operator)
    down_stops_what_a_killed_supervisor_has_left(operator)

    operator.up()
    assert users(operator) == {"admin", "alice"}
    assert operator.env == env
    again = operator.oort.ok("stack", "up", "--data", str(operator.data), "--detach")
    assert "running already" in again.stdout
    as_many = operator.oort.ok("stack", "up", "--data", str(operator.data), "--detach", "--nodes", "2")
    assert "running already" in as_many.stdout
    more = operator.oort.run("stack", "up", "--data", str(operator.data), "--detach", "--nodes", "3")
    assert (more.code, len(more.stderr.splitlines())) == (2, 1)
    assert "is running, with 2 storage nodes: take it down" in more.stderr
    services = operator.status()["services"]
    kill(supervisor(operator))
    kill(services["postgres"]["pid"])
    kill(services["auth"]["pid"])

    with ended_in_the_foreground_by(signal.SIGTERM, operator):
        assert users(operator) == {"admin", "alice"}
        assert (operator.env, public(operator)) == (env, addresses)
    operator.down()
    ports_that_are_taken_are_replaced_and_written_down(operator, addresses)


def all_is_well_and_private(operator: Operator) -> None:
    status = operator.status()
    assert status["running"]
    assert set(status["services"]) == SERVICES
    assert all(service["healthy"] for service in status["services"].values())
    assert status["copies_complete"]
    assert status["missing_copies"] == 0
    assert all(Path(node["data"]).is_dir() for node in status["nodes"].values())
    assert stat.S_IMODE((operator.data / "env").stat().st_mode) == 0o600
    assert stat.S_IMODE(operator.data.stat().st_mode) == 0o700


def public(operator: Operator) -> dict[str, str]:
    """Where each process of the stack listens."""
    return {name: service["public"] for name, service in operator.status()["services"].items()}


def down_stops_what_a_killed_supervisor_has_left(operator: Operator) -> None:
    kill(supervisor(operator))
    status = operator.oort.run("stack", "status", "--data", str(operator.data))
    assert status.code == 1
    assert len(living(operator.data)) >= len(SERVICES)
    operator.down()
    assert living(operator.data) == []
    down = operator.status()
    assert not down["running"]
    assert down["missing_copies"] is None


def ports_that_are_taken_are_replaced_and_written_down(operator: Operator, before: dict[str, str]) -> None:
    with socket.socket() as auth, socket.socket() as postgres:
        for listener, name in ((auth, "auth"), (postgres, "postgres")):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            host, port = before[name].split(":")
            listener.bind((host, int(port)))
            listener.listen()
        with ended_in_the_foreground_by(signal.SIGINT, operator):
            now = public(operator)
            assert {name for name, at in now.items() if at != before[name]} == {"auth", "postgres"}
            assert operator.env["OORT_AUTH"] == now["auth"]
            assert users(operator) == {"admin", "alice"}


@contextmanager
def ended_in_the_foreground_by(number: signal.Signals, operator: Operator) -> Iterator[None]:
    """The stack is up meanwhile; then a signal stops everything."""
    command = operator.oort.line("stack", "up", "--data", str(operator.data))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stack:
        try:
            assert stack.stdout is not None
            assert any("Ctrl-C stops it" in line for line in stack.stdout)
            yield
        finally:
            stack.send_signal(number)
            stack.communicate(timeout=120)
        assert stack.returncode == 0
    assert living(operator.data) == []


@pytest.mark.long
def test_a_stack_of_three_nodes_stays_one_and_what_dies_is_started_again(operator: Operator) -> None:
    folder = StackFolder.create(operator.data)
    folder.settings_file("node-c").parent.mkdir()
    folder.settings_file("node-c").write_text(f"# one of its own\n\n{_BEAT}=0.75\n")
    operator.up("--restart-delay", "0.1", "--nodes", "3")
    status = operator.status()
    assert list(status["nodes"]) == ["node-a", "node-b", "node-c"]
    wait_until(lambda: all(node["live"] for node in stack_of(operator.data).nodes.values()))
    beats = [psutil.Process(status["services"][name]["pid"]).environ().get(_BEAT) for name in status["nodes"]]
    assert beats == [None, None, "0.75"]
    for name in ("node-c", "redis", "postgres"):
        before = operator.status()["services"][name]["pid"]
        kill(before)
        wait_until(lambda name=name, before=before: _is_new(operator, name, before))  # type: ignore[misc]
    assert users(operator) == {"admin"}
    operator.down()
    fewer = operator.oort.run("stack", "up", "--data", str(operator.data), "--detach", "--nodes", "2")
    assert (fewer.code, len(fewer.stderr.splitlines())) == (2, 1)
    assert "has 3 storage nodes" in fewer.stderr
    assert folder.load().node_count == 3


def test_nodes_that_never_came_up_are_taken_away_again_and_those_that_hold_something_are_not(tmp_path: Path) -> None:
    folder = StackFolder.create(tmp_path / "stack")
    state = folder.load()
    state.node_count, state.most_ready = 5, 2
    state.services |= {node.name: Service(node.name, "storage") for node in roles.nodes(5)}
    folder.save(state)
    (folder.node("node-d") / "buckets" / "one").mkdir(parents=True)
    (folder.node("node-e") / "buckets").mkdir(parents=True)
    with pytest.raises(UsageError, match="has 4 storage nodes"):
        _set_nodes(folder, 3)
    _set_nodes(folder, 4)
    assert [node.name for node in folder.load().nodes] == ["node-a", "node-b", "node-c", "node-d"]
    (folder.node("node-d") / "buckets" / "one").rmdir()
    with pytest.raises(UsageError, match="has 2 storage nodes"):
        _set_nodes(folder, 1)
    _set_nodes(folder, 2)
    state = folder.load()
    assert (state.node_count, len(state.nodes)) == (2, 2)


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_what_an_earlier_release_has_rewritten_keeps_its_nodes(count: int) -> None:
    state = StackState("id", count, count)
    state.services |= {node.name: Service(node.name, "storage") for node in roles.nodes(count)}
    written = state.to_json()
    del written["nodes"], written["most_ready"]
    found = StackState.from_json(written)
    assert (found.node_count, found.most_ready) == (max(count, 2), count)


def test_postgres_takes_all_connections_that_the_processes_of_most_nodes_may_have() -> None:
    app = ProcessSettings.model_fields["database_connections"].default
    for count in (1, 2, roles.MOST_NODES):
        assert roles.connections(count) > len(roles.instances(count)) * (app + app // 2 + 1)


def test_each_process_has_a_name_of_its_own_and_ports_that_no_other_prefers() -> None:
    most = roles.instances(roles.MOST_NODES)
    assert len({instance.name for instance in most}) == roles.MOST_NODES + 4
    ports = [port for instance in most for port in astuple(instance.ports) if port]
    ports += [roles.POSTGRES_PORT, roles.REDIS_PORT]
    assert len(ports) == len(set(ports))


def test_no_two_processes_get_the_same_port_however_often_they_choose(tmp_path: Path) -> None:
    folder = StackFolder.create(tmp_path / "stack")
    state = folder.load()
    state.node_count = roles.MOST_NODES
    # As a stack was left by a release in which node-g preferred what node-a has.
    state.services["node-g"] = Service("node-g", "storage", None, "127.0.0.1:8071")
    folder.save(state)
    supervisor = Supervisor(folder, restart_delay=1, say=print)
    for _ in range(2):
        for instance in roles.instances(roles.MOST_NODES):
            supervisor._choose_ports(instance)
        services = supervisor._state.services.values()
        endpoints = [at for one in services for at in (one.public, one.internal, one.metrics, one.rest) if at]
        assert len(endpoints) == len(set(endpoints)) == 4 * roles.MOST_NODES + 3 * 4
    supervisor._reservations.close()


def _is_new(operator: Operator, name: str, before: int) -> bool:
    """Asked in this process: a command each time would keep the processors from what is waited for."""
    service = stack_of(operator.data).to_json()["services"][name]
    return bool(service["healthy"]) and service["pid"] != before


def restarted_with(operator: Operator, setting: str) -> str:
    """What is said when node-b cannot be started anew with a setting."""
    file = StackFolder.find(operator.data).settings_file("node-b")
    file.parent.mkdir(exist_ok=True)
    file.write_text(setting + "\n")
    refused = operator.oort.run("stack", "restart", "node-b", "--data", str(operator.data))
    assert refused.code == 1
    return refused.stderr


@pytest.mark.long
def test_what_died_is_back_when_asked_for_and_a_removed_folder_ends_the_stack(operator: Operator) -> None:
    operator.up("--restart-delay", "3600")
    kill(operator.status()["services"]["node-b"]["pid"])
    status = operator.status()
    assert status["running"]
    assert not status["services"]["node-b"]["healthy"]
    operator.oort.ok("stack", "restart", "node-b", "--data", str(operator.data))
    assert operator.status()["services"]["node-b"]["healthy"]
    unknown = operator.oort.run("stack", "restart", "node-z", "--data", str(operator.data))
    assert unknown.code == 6
    assert "node-z" in unknown.stderr
    pid = operator.status()["services"]["node-b"]["pid"]
    assert "OORT_NO_SUCH" in restarted_with(operator, "OORT_NO_SUCH=1")
    assert operator.status()["services"]["node-b"]["pid"] == pid
    # The node itself says why it cannot, and is not waited for until something else happens.
    assert "OORT_SCRUB_DAYS" in restarted_with(operator, "OORT_SCRUB_DAYS=-1")
    wait_until(lambda: removed(operator.data))
    wait_until(lambda: living(operator.data.parent) == [])


@pytest.mark.long
def test_a_signal_while_it_starts_leaves_nothing(operator: Operator) -> None:
    command = operator.oort.line("stack", "up", "--data", str(operator.data), "--detach")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as stack:
        assert stack.stdout is not None
        assert "postgres is up" in stack.stdout.readline()
        stack.send_signal(signal.SIGINT)
        _, said = stack.communicate(timeout=120)
        assert stack.returncode == 130
        assert "Traceback" not in said
    assert living(operator.data) == []


def test_a_copy_of_the_folder_is_another_stack(stack: Operator, tmp_path: Path) -> None:
    copied = tmp_path / "copy"
    copied.mkdir()
    shutil.copy(stack.data / "stack.json", copied)
    folder = StackFolder.find(copied)
    assert orphans.find(folder, folder.load().id) == {}
    assert Operator(copied).oort.run("stack", "down", "--data", str(copied)).code == 0
    assert stack.status()["running"]


def test_a_folder_with_other_things_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear")
    refused = Command("oort").run("stack", "up", "--data", str(tmp_path), "--detach")
    assert refused.code == 2
    assert refused.stderr == f"oort: {tmp_path} is not empty and holds no stack: give an empty or a new folder.\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["letters.txt"]


@pytest.mark.parametrize("command", ["down", "status"])
def test_a_folder_without_a_stack_is_named(tmp_path: Path, command: str) -> None:
    refused = Command("oort").run("stack", command, "--data", str(tmp_path / "none"))
    assert refused.code == 1
    assert f"There is no stack in {tmp_path / 'none'}" in refused.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.needs("setpriv")
def test_a_normal_user_runs_a_stack_too() -> None:
    as_nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]
    oort = [sys.executable, "-m", "deploy.cli"]
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    # By another program, as the stack starts its own: the first one may keep what root may do.
    probe = subprocess.run([*as_nobody, "env", *oort, "--help"], env=env, cwd="/", capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip("another user may not read this checkout or its Python")
    folder = Path("/tmp") / f"oort-nobody-{os.getpid()}"  # noqa: S108 - where nobody may enter
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, 65534)
    try:
        for command in (["up", "--detach"], ["status"], ["down"]):
            done = subprocess.run(
                [*as_nobody, *oort, "stack", *command, "--data", str(folder)],
                env=env,
                cwd="/",
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
        assert living(folder) == []
    finally:
        shutil.rmtree(folder)
