"""The nodes of a cluster, from outside: which one is asked, and when another is.

Kept true: a call is repeated on the next node when a node is silent, dying or unable just now, or on the same when that
says after how long, and given up after `patience` seconds in which no node took it. Every call that goes through here
may be repeated: objects are named by their content and sessions by the client.
"""

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import grpc

from client.errors import OortError, ServerUnreachable, StoreError, UntrustedServer
from client.rpc import Metadata, Pacing, Refusal, explain_outage, read_refusal
from client.stores.node.access import AccessKeeper
from client.stores.node.stalls import Stalled
from client.stores.node.wire import Connection

T = TypeVar("T")
Action = Callable[[Connection, Metadata], T]

# Two, because one TLS connection keeps about one core of a node busy and several uploads run at once. The second is
# made when two bodies go at the same time, so that a short command makes one.
CONNECTIONS_TO_A_NODE = 2
_RENEWABLE = ("BAD_TOKEN", "NOT_SIGNED_IN")
_TRIES_WHEN_BROKEN = 3


class Refused(Exception):
    """A node has answered no, and another try would not change that."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class BadCopy(Exception):
    """This node's copy of an object is wrong: ask each other node once, then raise `error`."""

    def __init__(self, error: OortError) -> None:
        super().__init__(str(error))
        self.error = error


class Nodes:
    """Connections to the nodes that hold one bucket. May be used from several threads."""

    def __init__(self, place: str, ca_pem: bytes, ca_file: str, pacing: Pacing) -> None:
        self._place = place
        self._ca_pem = ca_pem
        self._ca_file = ca_file
        self._pacing = pacing
        self._lock = threading.Lock()
        self._lines: dict[str, list[_Line]] = {}
        self._favoured = ""

    def run(
        self, keeper: AccessKeeper, action: Action[T], patience: float | None = None, *, is_body: bool = False
    ) -> T:
        """Do `action` on a node; `is_body` says that it carries one, and keeps a connection busy.

        Raises Refused, the error of a BadCopy, StoreError when no node takes it.
        """
        attempts = _Attempts(self._pacing, self._pacing.patience if patience is None else patience)
        renewed = False
        while True:
            access = keeper.current()
            endpoint = self._choose(access.endpoints, attempts.tried)
            try:
                with self._line(endpoint, is_body=is_body) as connection:
                    result = action(connection, (("authorization", f"Bearer {access.token}"),))
            except BadCopy as bad:
                if not attempts.elsewhere(endpoint, access.endpoints):
                    raise bad.error from None
            except (Stalled, grpc.FutureCancelledError):
                self._next(attempts, endpoint, access.endpoints, "nothing moved on the connection")
            except grpc.RpcError as error:
                refusal = read_refusal(error)
                if refusal.reason in _RENEWABLE and not renewed:
                    renewed = True
                    _renew(keeper, access.token, attempts)
                elif refusal.retry_seconds is not None and attempts.wait(refusal.retry_seconds):
                    continue  # with this node: what it says holds for all
                elif attempts.may_pass(refusal):
                    self._next(attempts, endpoint, access.endpoints, refusal.message)
                else:
                    raise Refused(refusal) from error
            else:
                self._favoured = endpoint
                return result

    def prefer(self, endpoints: Sequence[str]) -> None:
        """Ask one of these from now on, as long as it answers, but none that has failed since it last did."""
        if self._favoured in endpoints:
            return
        with self._lock:
            sound = [end for end in endpoints if not any(line.failures for line in self._lines.get(end, ()))]
        if sound:
            self._favoured = self._any_of(sound)

    def close(self) -> None:
        with self._lock:
            lines = list(itertools.chain.from_iterable(self._lines.values()))
            self._lines.clear()
        for line in lines:
            line.connection.close()

    def _next(self, attempts: "_Attempts", endpoint: str, endpoints: Sequence[str], said: str) -> None:
        """Get ready for the next attempt, or raise StoreError; UntrustedServer at once."""
        if attempts.is_first:
            outage = explain_outage(endpoint, self._ca_pem, self._ca_file, said)
            if isinstance(outage, UntrustedServer):
                raise outage
        if attempts.go_on(endpoint, endpoints):
            return
        raise StoreError(place=self._place, detail=f"no storage node takes the call ({endpoint}: {said})")

    def _choose(self, endpoints: Sequence[str], tried: Sequence[str]) -> str:
        """The node that last answered or is preferred, unless it has just failed; else a random one: clients spread."""
        untried = [endpoint for endpoint in endpoints if endpoint not in tried]
        if not untried:
            raise StoreError(place=self._place, detail="the cluster has no storage node at the moment")
        if self._favoured in untried:
            return self._favoured
        return self._any_of(untried)

    def _any_of(self, endpoints: Sequence[str]) -> str:
        return endpoints[int(self._pacing.jitter() * len(endpoints)) % len(endpoints)]

    @contextmanager
    def _line(self, endpoint: str, *, is_body: bool) -> Iterator[Connection]:
        """The connection with the least to do, for one call."""
        with self._lock:
            lines = self._lines.setdefault(endpoint, [])
            is_free = any(not line.failures and not (is_body and line.bodies) for line in lines)
            if not is_free and len(lines) < CONNECTIONS_TO_A_NODE:
                line = _Line(Connection(endpoint, self._ca_pem))
                lines.append(line)
            else:
                line = min(lines, key=_Line.burden)
            line.bodies += is_body
        failures = line.failures + 1
        try:
            yield line.connection
            failures = 0
        finally:
            with self._lock:
                line.bodies -= is_body
                line.failures = failures


@dataclass(slots=True)
class _Line:
    """A connection, the bodies on their way on it, and its failures since a call succeeded."""

    connection: Connection
    bodies: int = 0
    failures: int = 0

    def burden(self) -> int:
        return self.bodies + self.failures


def _renew(keeper: AccessKeeper, refused: str, attempts: "_Attempts") -> None:
    """Get another token, waiting while auth cannot be reached. Raises OortError."""
    while True:
        try:
            keeper.renew(refused)
        except ServerUnreachable:
            if not attempts.wait():
                raise
        else:
            return


class _Attempts:
    """One call's attempts: which nodes have failed in this round, and since when."""

    def __init__(self, pacing: Pacing, patience: float) -> None:
        self._pacing = pacing
        self._patience = patience
        self._first_failure: float | None = None
        self._rounds = 0
        self._broken = 0
        self.tried: list[str] = []

    @property
    def is_first(self) -> bool:
        return self._first_failure is None

    def may_pass(self, refusal: Refusal) -> bool:
        """True for what another attempt may cure; a node that breaks on the call gets it a few times only."""
        if refusal.is_outage:
            return True
        if refusal.reason in ("", "INTERNAL"):
            self._broken += 1
            return self._broken < _TRIES_WHEN_BROKEN
        return False

    def elsewhere(self, endpoint: str, endpoints: Sequence[str]) -> bool:
        """Note a wrong answer; False when every node has given one."""
        self.tried.append(endpoint)
        return any(other not in self.tried for other in endpoints)

    def go_on(self, endpoint: str, endpoints: Sequence[str]) -> bool:
        """Note an outage, wait if all nodes have failed in this round; False when patience is at its end."""
        if self._first_failure is None:
            self._first_failure = self._pacing.monotonic()
        if self.elsewhere(endpoint, endpoints):
            return True
        self.tried.clear()
        return self.wait()

    def wait(self, told: float | None = None) -> bool:
        """Pause before another round, for as long as a node has told if one has; False when patience is at its end."""
        now = self._pacing.monotonic()
        if self._first_failure is None:
            self._first_failure = now
        if now - self._first_failure >= self._patience:
            return False
        self._rounds += 1
        if told is not None:
            self._pacing.pause_for(told, self._rounds)
        else:
            self._pacing.pause(self._rounds)
        return True
