"""Rate limits around the calls of the public listener; the nodes and operators on the internal one have none."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from services.common.addresses import address_of_peer
from services.common.errors import NotSignedIn
from services.common.identity import bearer
from services.common.interceptors import AroundCalls, Context
from services.storage.access.gate import Gate
from services.storage.access.rates import Kind, Rates
from services.storage.errors import BadToken, ExpiredToken

_LIMITED = "/oort.storage."
_BEATS = frozenset(f"/oort.storage.v1.SessionService/{name}" for name in ("Beat", "End"))


class LimitCalls(AroundCalls):
    """Counts each call of the storage role, before anything of it is read, and lets health and reflection alone."""

    def __init__(self, rates: Rates, gate: Gate) -> None:
        self._rates = rates
        self._gate = gate

    @asynccontextmanager
    async def around(self, method: str, context: Context) -> AsyncIterator[None]:
        if method.startswith(_LIMITED):
            kind = Kind.BEAT if method in _BEATS else Kind.CALL
            await self._rates.take(self._device(context), address_of_peer(context.peer()), kind)
        yield

    def _device(self, context: Context) -> UUID | None:
        """Who calls; None for who shows nothing good, which the call itself says."""
        try:
            return self._gate.read(bearer(context)).device
        except ExpiredToken as expired:
            # No stranger's: who only has to ask for a new one must hear so whatever strangers do.
            return expired.device
        except (NotSignedIn, BadToken):
            return None
