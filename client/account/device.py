"""This device, logged in: what every command begins with."""

from collections.abc import Callable
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.account.connection import Connection
from client.account.device_login import connect, sealer_of
from client.account.home import Home
from client.account.seals import Sealer

if TYPE_CHECKING:
    from oort.auth.v1.jobs_pb2_grpc import JobServiceStub
    from oort.auth.v1.profiles_pb2_grpc import ProfileServiceStub

    from client.stores.limited import Line


class Device:
    """The account in a home, its keys, and a connection that is made when first needed. Raises NotLoggedIn."""

    def __init__(
        self, home: Home, limits: dict[str, str] | None = None, noted: Callable[[str], None] = lambda _: None
    ) -> None:
        """`limits` of its line, for this command, are by direction (client/account/limits.py).

        `noted` gets lines for a person, beside every result, from any thread.
        """
        self.home = home
        self.noted = noted
        self._given_limits = limits or {}
        self.account = home.account()

    @property
    def id(self) -> str:
        return str(self.account.device_id)

    @cached_property
    def line(self) -> "Line | None":
        """Its line, which all its vaults share; None if that has no limits. Raises UsageError."""
        from client.account.limits import limits_of
        from client.stores.limited import Line

        limits = limits_of(self.home, self._given_limits)
        return Line(limits) if limits else None

    @cached_property
    def sealer(self) -> Sealer:
        """Seals under K. Raises BrokenSeal."""
        return sealer_of(self.account)

    @cached_property
    def key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.account.device_key)

    @cached_property
    def connection(self) -> Connection:
        return connect(self.home)

    @cached_property
    def profiles(self) -> "ProfileServiceStub":
        from oort.auth.v1.profiles_pb2_grpc import ProfileServiceStub

        return ProfileServiceStub(self.connection.channel)

    @cached_property
    def jobs(self) -> "JobServiceStub":
        from oort.auth.v1.jobs_pb2_grpc import JobServiceStub

        return JobServiceStub(self.connection.channel)

    def close(self) -> None:
        if "connection" in self.__dict__:
            self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
