"""The network goes away in the middle: for half a minute, and for good.

A clock that runs faster while the line is cut keeps tests short; whatever else takes long has the time that it needs.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from client.cli.program import run
from client.restore.compare import differences
from client.rpc import Pacing
from client.stores.node import NodeStore, VaultAccess
from client.stores.node.store import PATIENCE_SECONDS
from clouds.testing.line import Line, a_line
from deploy.driver import Device, Operator
from deploy.tests.end_to_end.conftest import a_user
from deploy.tests.end_to_end.trees import MIB, incompressible, restored
from domain.sessions import Scope

SIZE = 48 * MIB
LOST_SECONDS = 30
# In flight, and so perhaps sent again: two packs, each with what the queue of its stream holds.
SENT_AGAIN = 40 * MIB


@dataclass
class Caller:
    """Runs commands of one home in this process, over a line that can be cut."""

    home: Path
    line: Line
    capture: pytest.CaptureFixture[str]
    times: float = 10.0  # as fast as the clock on the wall, while the line is cut

    def __call__(self, *arguments: str) -> tuple[int, dict[str, Any], str]:
        """Exit code, the last document on standard output, and standard error."""
        code = run(["--home", str(self.home), *arguments, "--vault", "main", "--json"])
        output, errors = self.capture.readouterr()
        return code, json.loads(output.splitlines()[-1]) if output else {}, errors

    def store(self, source: Callable[[Sequence[Scope]], VaultAccess], **others: Any) -> NodeStore:
        """A node store as the program makes it, but for the way there and the pace of its clock."""

        def on_line(scopes: Sequence[Scope]) -> VaultAccess:
            access = source(scopes)
            return VaultAccess(access.token, tuple(map(self.line.to, access.endpoints)), access.scopes)

        pacing = Pacing(
            PATIENCE_SECONDS,
            monotonic=lambda: time.monotonic() + (self.times - 1) * self.line.seconds_cut,
            sleep=lambda seconds: time.sleep(seconds / (self.times if self.line.is_cut.is_set() else 1)),
        )
        return NodeStore(source=on_line, pacing=pacing, **others)


@pytest.fixture
def caller(
    stack: Operator,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    a_free_port: Callable[[], int],
) -> Iterator[Caller]:
    name, password = a_user(stack)
    device = Device(tmp_path / "home")
    with a_line(a_free_port) as line:
        server = line.to(stack.env["OORT_AUTH"])
        options = ("--server", server, "--ca", stack.env["OORT_CA"], "--username", name, "--password-stdin")
        device.tool.ok("login", *options, stdin=password)
        device.request_vault("main")
        caller = Caller(device.home, line, capsys)
        monkeypatch.setattr("client.stores.node.NodeStore", caller.store)
        yield caller


def test_backup_and_restore_go_on_after_half_a_minute_without_a_network(caller: Caller, tmp_path: Path) -> None:
    source = incompressible(tmp_path / "source/file", SIZE // MIB, seed=71).parent
    caller.line.cut_after(SIZE // 3, LOST_SECONDS / caller.times)
    code, summary, errors = caller("backup", str(source))
    assert (code, errors) == (0, "")
    assert summary["uploaded_bytes"] - summary["stored_bytes"] <= SENT_AGAIN

    assert caller.line.cuts == 1
    before = caller.line.carried
    caller.line.cut_after(SIZE // 3, LOST_SECONDS / caller.times)
    code, summary, errors = caller("restore", "latest", "--target", str(tmp_path / "target"))
    assert (code, errors) == (0, "")
    assert caller.line.cuts == 2
    assert caller.line.carried - before <= SIZE + SENT_AGAIN
    assert not list(differences(source, restored(tmp_path / "target", source)))
    jobs = run(["--home", str(caller.home), "jobs", "--json"])
    assert jobs == 0
    assert [job["status"] for job in json.loads(caller.capture.readouterr().out)] == [5000, 5000]


def test_a_network_that_does_not_come_back_ends_in_one_line_and_the_same_command_goes_on_later(
    caller: Caller, tmp_path: Path
) -> None:
    caller.times = 100.0
    source = incompressible(tmp_path / "source/file", SIZE // MIB, seed=72).parent
    (source / "small").write_text("small")
    for arguments in (("backup", str(source)), ("restore", "latest", "--target", str(tmp_path / "target"))):
        before = caller.line.carried
        caller.line.cut_after(SIZE // 3, None)
        began = time.monotonic()
        code, _, errors = caller(*arguments)
        assert time.monotonic() - began < PATIENCE_SECONDS
        assert caller.line.is_cut.is_set()
        (line,) = errors.splitlines()
        assert code == json.loads(line)["exit_code"] == 5
        assert "storage" in json.loads(line)["message"]
        # What there is of a file waits under another name for the same command to be run again.
        assert not list((tmp_path / "target").rglob("file"))
        caller.line.mend()
        code, _, errors = caller(*arguments)
        assert (code, errors) == (0, "")
        assert caller.line.carried - before <= SIZE + SENT_AGAIN
    assert not list(tmp_path.rglob(".oort-*"))
    assert not list(differences(source, restored(tmp_path / "target", source)))


def test_a_vault_whose_network_does_not_come_back_leaves_another_complete(caller: Caller, tmp_path: Path) -> None:
    caller.times = 100.0
    source = incompressible(tmp_path / "source/file", SIZE // MIB, seed=73).parent
    assert run(["--home", str(caller.home), "vault", "add", "--local", str(tmp_path / "disk"), "--name", "disk"]) == 0
    caller.capture.readouterr()
    caller.line.cut_after(SIZE // 3, None)

    code, summary, _ = caller("backup", str(source), "--vault", "disk")

    assert caller.line.is_cut.is_set()
    disk, main = summary["vaults"]
    assert (code, disk["vault"], main["vault"], main["snapshot"], main["exit_code"]) == (3, "disk", "main", None, 5)
    assert summary["snapshot"] == disk["snapshot"]
    caller.line.mend()
    assert run(["--home", str(caller.home), "check", "--vault", "disk", "--read-data"]) == 0
    target = ("restore", "latest", "--target", str(tmp_path / "target"), "--vault", "disk")
    assert run(["--home", str(caller.home), *target]) == 0
    assert not list(differences(source, restored(tmp_path / "target", source)))
    caller.capture.readouterr()
    assert caller("backup", str(source), "--vault", "disk")[0] == 0
    assert caller("check", "--read-data")[0] == 0
    assert run(["--home", str(caller.home), "jobs", "--json"]) == 0
    jobs = json.loads(caller.capture.readouterr().out)
    assert [job["status"] for job in jobs if job["kind_name"] == "backup"] == [5000, 7001]
