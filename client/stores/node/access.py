"""Vault tokens as a store uses them: fetched when needed, renewed well before they end.

Kept true: while a token still counts, an auth role that cannot be reached stops nothing.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from client.errors import OortError
from domain.sessions import Scope
from domain.tokens import LIFETIME_SECONDS

# Renewed at 60 % of its life; if that fails, not asked again for half a minute.
_RENEW_AFTER = LIFETIME_SECONDS * 0.6
_ASK_AGAIN_AFTER = 30.0


@dataclass(frozen=True, slots=True)
class VaultAccess:
    """A token for one bucket, the nodes' public listeners (host:port), and the scopes that it has, by name."""

    token: str
    endpoints: tuple[str, ...]
    scopes: frozenset[str]


# Asks the auth role for a token with these scopes. Raises OortError.
AccessSource = Callable[[Sequence[Scope]], VaultAccess]


class AccessKeeper:
    """The present token for one set of scopes. May be used from several threads."""

    def __init__(self, source: AccessSource, scopes: Sequence[Scope], monotonic: Callable[[], float]) -> None:
        self._source = source
        self._scopes = tuple(scopes)
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._access: VaultAccess | None = None
        # By the local running clock: the wall clocks of laptops and servers differ.
        self._renew_at = 0.0

    def current(self) -> VaultAccess:
        """A token that should count. Raises OortError when there is none and none can be had."""
        with self._lock:
            if self._access is None:
                return self._fetch()
            if self._monotonic() >= self._renew_at:
                try:
                    return self._fetch()
                except OortError:
                    # The present one counts for some minutes yet; when it does not, the node says so and
                    # `renew` speaks.
                    self._renew_at = self._monotonic() + _ASK_AGAIN_AFTER
            return self._access

    def renew(self, refused: str) -> VaultAccess:
        """A token other than the one that a node refused. Raises OortError."""
        with self._lock:
            if self._access is not None and self._access.token != refused:
                return self._access
            return self._fetch()

    def _fetch(self) -> VaultAccess:
        self._access = self._source(self._scopes)
        self._renew_at = self._monotonic() + _RENEW_AFTER
        return self._access
