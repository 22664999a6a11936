from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from client.errors import ServerUnreachable
from client.stores.node.access import AccessKeeper, VaultAccess
from domain.sessions import Scope
from domain.tokens import LIFETIME_SECONDS


@dataclass
class Auth:
    """Gives tokens numbered from 1, unless it is down."""

    given: int = 0
    is_down: bool = False
    now: float = 1000.0
    asked: list[Sequence[Scope]] = field(default_factory=list)

    def issue(self, scopes: Sequence[Scope]) -> VaultAccess:
        self.asked.append(scopes)
        if self.is_down:
            raise ServerUnreachable(server="auth", reason="it is down")
        self.given += 1
        return VaultAccess(f"token {self.given}", ("node:1",), frozenset(Scope))

    def keeper(self) -> AccessKeeper:
        return AccessKeeper(self.issue, [Scope.READ], lambda: self.now)


def test_a_token_is_used_until_it_is_due_for_renewal() -> None:
    auth = Auth()
    keeper = auth.keeper()
    assert keeper.current().token == "token 1"
    auth.now += LIFETIME_SECONDS / 2
    assert keeper.current().token == "token 1"
    auth.now += LIFETIME_SECONDS / 4
    assert keeper.current().token == "token 2"
    assert auth.asked == [(Scope.READ,)] * 2


def test_while_auth_is_down_the_present_token_goes_on_and_auth_is_asked_seldom() -> None:
    auth = Auth()
    keeper = auth.keeper()
    keeper.current()
    auth.is_down = True
    auth.now += LIFETIME_SECONDS * 0.7
    for _ in range(10):
        assert keeper.current().token == "token 1"
    assert len(auth.asked) == 2
    auth.now += 31
    assert keeper.current().token == "token 1"
    assert len(auth.asked) == 3


def test_without_any_token_an_outage_is_an_error() -> None:
    with pytest.raises(ServerUnreachable):
        Auth(is_down=True).keeper().current()


def test_a_refused_token_is_replaced_once_for_all_threads_that_were_refused() -> None:
    auth = Auth()
    keeper = auth.keeper()
    refused = keeper.current().token
    assert keeper.renew(refused).token == "token 2"
    assert keeper.renew(refused).token == "token 2"
