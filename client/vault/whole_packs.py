"""Packs fetched whole, for blobs that did not open when they were read by their range.

Kept true: what comes from here has the SHA-256 of the pack's name, in whichever copy it was found (a whole `get` of
StoreSession is verified); a range of a pack has no name to be verified against, so a bad copy shows only here.
"""

import threading
from collections import OrderedDict

from client.errors import DamagedVault
from client.stores.abc import StoreSession
from domain.names import ObjectName

_KEPT_BYTES = 40 << 20  # two packs of the usual size, for the neighbours of a blob in a bad copy
_FAILED = 1000


class WholePacks:
    """The packs fetched whole last. Safe for several threads; one fetches at a time."""

    def __init__(self, session: StoreSession) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._bodies: OrderedDict[ObjectName, bytes] = OrderedDict()
        self._failed: OrderedDict[ObjectName, DamagedVault] = OrderedDict()

    def get(self, pack: ObjectName) -> bytes:
        """The bytes of a pack. Raises DamagedVault if no copy of it is whole, ObjectMissing, StoreError."""
        with self._lock:
            body = self._bodies.get(pack)
            if body is not None:
                self._bodies.move_to_end(pack)
                return body
            if pack in self._failed:
                raise self._failed[pack]
            try:
                body = self._session.get(pack)
            except DamagedVault as error:
                self._failed[pack] = error
                if len(self._failed) > _FAILED:
                    self._failed.popitem(last=False)
                raise
            self._keep(pack, body)
            return body

    def _keep(self, pack: ObjectName, body: bytes) -> None:
        self._bodies[pack] = body
        while len(self._bodies) > 1 and sum(map(len, self._bodies.values())) > _KEPT_BYTES:
            self._bodies.popitem(last=False)
