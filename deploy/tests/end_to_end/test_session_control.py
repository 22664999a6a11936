"""`oort session list` and `oort session end` on a running stack."""

import json
import os
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import IO

import pytest

from client.account.device import Device as Account
from client.account.home import Home
from client.account.opening import place_of
from client.account.vaults import Vaults
from client.errors import SessionOver
from deploy.administrator import Administrator, Target
from deploy.driver import Device, Operator
from deploy.tests.end_to_end.conftest import a_device
from deploy.tests.end_to_end.trees import MIB
from domain.jobs import JobStatus
from domain.names import ObjectKind
from domain.sessions import Purpose


def test_an_operator_sees_the_open_sessions_and_ends_one(stack: Operator, tmp_path: Path) -> None:
    data = ("--data", str(stack.data))
    a_device(stack, tmp_path / "home")
    name = f"vault-{token_hex(4)}"
    with Account(Home(tmp_path / "home")) as account:
        vault = Vaults(account).request(name, "default")
        with place_of(account, name) as place, place.store.open(Purpose.READ) as session:
            listed = stack.oort.ok("session", "list", "--vault", str(vault.id), "--json", *data).json()
            assert [(one["vault"], one["purpose"], one["holds_objects"]) for one in listed] == [(name, "read", 0)]
            shown = stack.oort.ok("session", "list", *data).stdout
            assert name in shown
            assert "holds_bytes" in shown.splitlines()[0]
            ended = stack.oort.ok("session", "end", listed[0]["id"], *data)
            assert ended.stdout == f"Session {listed[0]['id']} is over.\n"
            with pytest.raises(SessionOver):
                list(session.list(ObjectKind.SNAPSHOT))
            assert stack.oort.ok("session", "list", "--vault", str(vault.id), "--json", *data).json() == []


def test_a_stream_whose_session_is_ended_leaves_no_snapshot_and_the_next_backup_goes_on(
    stack: Operator, device: Device
) -> None:
    """It comes once, so it cannot be gone on with in another session, as files are."""
    options = ("--stdin", "--stdin-filename", "/dump", "--vault", "main", "--json")
    with (
        Administrator.sign_in(Target.find(stack.data)) as administrator,
        subprocess.Popen(
            device.tool.line("backup", *options), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process,
    ):
        feeding = threading.Thread(target=feed, args=(process.stdin,))
        feeding.start()
        assert process.stdout
        assert process.stderr
        told = map(json.loads, process.stdout)
        assert any(event["type"] == "progress" and event["uploaded_bytes"] for event in told)
        listed, _ = administrator.sessions(device.recovery("main")["bucket"])
        (session,) = [one.id for one in listed if one.purpose == "backup"]
        administrator.end_session(session)
        assert all(event["type"] == "progress" for event in told)
        (said,) = map(json.loads, process.stderr)
        feeding.join()
    assert (process.returncode, said["exit_code"], said["error"]) == (5, 5, "SessionOver")
    assert device.snapshots("main") == []
    assert device.tool.ok("jobs", "--json").json()[0]["status"] == JobStatus.ERROR
    device.tool.ok("backup", *options, stdin="all of it")
    device.tool.ok("check", "--vault", "main", "--read-data")


def feed(stream: IO[bytes]) -> None:
    """Write until nobody reads any more, and close it, which writes once more."""
    with suppress(BrokenPipeError), stream:
        while True:
            stream.write(os.urandom(MIB))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("end", "00000000-0000-0000-0000-000000000000"), 6, "session"),
        (("end", "no-id"), 2, "`oort session list`"),
        (("list", "--vault", "no-id"), 2, "`oort bucket list`"),
    ],
)
def test_what_is_no_session_is_one_clear_line(
    stack: Operator, arguments: tuple[str, ...], code: int, said: str
) -> None:
    refused = stack.oort.run("session", *arguments, "--data", str(stack.data))
    assert refused.code == code
    assert said in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
