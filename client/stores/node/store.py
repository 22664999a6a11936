"""NodeStore: one bucket of the storage role as an ObjectStore."""

import secrets
import threading
import time
from collections.abc import Callable
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from oort.storage.v1 import sessions_pb2

from client.errors import AppendOnly
from client.rpc import Metadata, Pacing
from client.stores.node.access import AccessKeeper, AccessSource
from client.stores.node.nodes import Nodes, Refused
from client.stores.node.refusals import translate
from client.stores.node.session import CALL_SECONDS, NodeSession
from client.stores.node.stalls import StallWatch
from client.stores.node.wire import Connection
from domain.ids import uuid7
from domain.names import ObjectName
from domain.sessions import NEEDED_SCOPE, Purpose, Scope, opening_statement

PATIENCE_SECONDS = 120.0  # without any node that takes a call
_SCOPES = (Scope.READ, Scope.APPEND, Scope.DELETE)
STALL_SECONDS = 90.0  # without a frame on a stream: 12 KB/s is slow, less is dead


class NodeStore:
    """A bucket, reached with tokens of the auth role and sessions signed by this device's key.

    Args:
        bucket: its id.
        purpose: what it is opened for in the end, if not to read: one token does for that and what comes before.
        place: how messages call it.
        source: asks the auth role for a token.
        device_key: signs the opening of sessions; the tokens name its public half.
        ca_pem: certificates that the nodes' own must be signed by.
        ca_file: where they were read, for messages.
        pacing: patience and pauses.
        stall_seconds: after how long without a frame a stream is given up and repeated.
        wall_ms: milliseconds since 1970, for ids.
    """

    needs_locks = False

    def __init__(
        self,
        *,
        bucket: UUID,
        place: str,
        source: AccessSource,
        device_key: Ed25519PrivateKey,
        ca_pem: bytes,
        ca_file: str,
        purpose: Purpose = Purpose.READ,
        pacing: Pacing | None = None,
        stall_seconds: float = STALL_SECONDS,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        pacing = pacing or Pacing(PATIENCE_SECONDS)
        self._bucket = bucket
        self._place = place
        self._source = source
        self._device_key = device_key
        self._monotonic = pacing.monotonic
        self._wall_ms = wall_ms
        self._purpose = purpose
        self._beside: list[threading.Thread] = []
        self._keepers: dict[Scope, AccessKeeper] = {}
        self.nodes = Nodes(place, ca_pem, ca_file, pacing)
        self.stalls = StallWatch(stall_seconds, pacing.monotonic)

    @property
    def place(self) -> str:
        return self._place

    def allows(self, purpose: Purpose) -> bool:
        return NEEDED_SCOPE[purpose] in self._keeper_for(purpose).current().scopes

    def open(self, purpose: Purpose, parent: ObjectName | None = None) -> NodeSession:
        if purpose is Purpose.RETENTION and not self.allows(purpose):
            raise AppendOnly(place=self._place)
        session_id = str(uuid7(self._wall_ms(), secrets.token_bytes(10)))
        parent_id = parent.id if parent else ""
        statement = opening_statement(session_id, str(self._bucket), purpose, parent_id)
        request = sessions_pb2.OpenRequest(
            session_id=session_id,
            purpose=purpose.value,
            parent=parent_id,
            device_signature=self._device_key.sign(statement),
        )
        keeper = self._keeper_for(purpose)

        def action(connection: Connection, metadata: Metadata) -> sessions_pb2.OpenResponse:
            return connection.sessions.Open(request, timeout=CALL_SECONDS, metadata=metadata)

        try:
            opened = self.nodes.run(keeper, action)
        except Refused as refused:
            raise translate(refused.refusal, self._place, parent=parent_id) from None
        # A node that does not hold the bucket takes each body and sends it on: twice the work, and twice the way.
        known = keeper.current().endpoints
        self.nodes.prefer([home for home in opened.homes if home in known])
        beat_seconds = opened.beat_interval.ToNanoseconds() / 1e9
        return NodeSession(
            self, keeper, session_id, purpose, beat_seconds, lost=opened.lost, has_more_lost=opened.more_lost
        )

    def beside(self, work: Callable[[], None]) -> None:
        """Do what nothing waits for in a thread of its own; only `close` does."""
        thread = threading.Thread(target=work, name="oort-beside", daemon=True)
        self._beside.append(thread)
        thread.start()

    def close(self) -> None:
        for thread in self._beside:
            thread.join()
        self.stalls.close()
        self.nodes.close()

    def _keeper_for(self, purpose: Purpose) -> AccessKeeper:
        """One token for each kind of work: who appends may read, who deletes may do both."""
        scope = max(NEEDED_SCOPE[purpose], NEEDED_SCOPE[self._purpose], key=_SCOPES.index)
        keeper = self._keepers.get(scope)
        if keeper is None:
            scopes = _SCOPES[: _SCOPES.index(scope) + 1]
            keeper = self._keepers[scope] = AccessKeeper(self._source, scopes, self._monotonic)
        return keeper
