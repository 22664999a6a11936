"""`oort session list` and `oort session end` on a running stack."""

from pathlib import Path
from secrets import token_hex

import pytest

from client.account.device import Device as Account
from client.account.home import Home
from client.account.opening import place_of
from client.account.vaults import Vaults
from client.errors import SessionOver
from deploy.driver import Operator
from deploy.tests.end_to_end.conftest import a_device
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


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("end", "00000000-0000-0000-0000-000000000000"), 6, "session"),
        (("end", "no-id"), 2, "session_id"),
        (("list", "--vault", "no-id"), 2, "vault_id"),
    ],
)
def test_what_is_no_session_is_one_clear_line(
    stack: Operator, arguments: tuple[str, ...], code: int, said: str
) -> None:
    refused = stack.oort.run("session", *arguments, "--data", str(stack.data))
    assert refused.code == code
    assert said in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
