"""Stacks of their own, for tests that harm them, and devices."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from client.account.device import Device as Account
from client.account.home import Home
from client.account.login import Server, login
from client.account.vaults import Vaults
from deploy.administrator import Administrator, Target
from deploy.driver import Device, Operator
from deploy.local.folder import StackFolder
from deploy.tests.here import AdministeredHere, LookedAtHere
from deploy.tests.ports import own_ports

ADeviceFactory = Callable[[], Device]


@pytest.fixture(scope="session")
def stack(stack: Operator) -> Operator:
    """The shared one; what its operator does is done in this process."""
    return AdministeredHere(stack.data)


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Operator]:
    """A running stack for one test, which may do to it what it likes."""
    operator = AdministeredHere(tmp_path / "own-stack")
    # A node that a test kills stays dead until the test is over.
    with a_stack(operator, "--restart-delay", "3600"):
        yield operator


@contextmanager
def a_stack(operator: Operator, *options: str) -> Iterator[None]:
    """It is up meanwhile, on ports that nobody else chooses, also while a test has taken it down."""
    with ExitStack() as last:
        last.enter_context(own_ports(StackFolder.create(operator.data)))
        last.callback(operator.down)
        operator.up(*options)
        yield


@pytest.fixture
def device(stack: Operator, tmp_path: Path) -> Device:
    """A device of a new user with a vault named `main` on the shared stack."""
    return a_device(stack, tmp_path / "home")


def a_user(operator: Operator) -> tuple[str, str]:
    """A new user's name and password; added in this process, which loads once what a command loads each time."""
    name, password = f"user-{secrets.token_hex(4)}", secrets.token_urlsafe(18)
    with Administrator.sign_in(Target.find(operator.data)) as administrator:
        administrator.add_user(name, password, admin=False)
    return name, password


def a_device(operator: Operator, home: Path, vault: str = "main") -> Device:
    """A device of a new user with a vault on two nodes; logged in in this process too."""
    found = operator.env
    login(Home(home), Server(found["OORT_AUTH"], Path(found["OORT_CA"])), *a_user(operator))
    with Account(Home(home)) as account:
        Vaults(account).request(vault, "default")
    return LookedAtHere(home)
