"""A login on a server of SFTP, for one event loop.

Kept true: it is made when it is first needed, and again when it was lost; nothing but the pinned host key is taken, and
nothing is looked for in the user's SSH settings, agent or keys.
"""

import asyncio
from contextlib import suppress

import asyncssh

from client.stores.cloud.sftp.failures import BREAKS, ERRORS, read_failure
from client.stores.cloud.sftp.host_key import CHANGED, HostKey, offered
from client.stores.cloud.sftp.location import SftpLocation
from clouds.failures import Failure, Trouble

_ALIVE_SECONDS = 15  # without a word of the server, after which it is asked for one
_UNANSWERED = 3  # such questions, after which the connection is lost
# What costs a processor least (docs/decisions/sftp.md); else what asyncssh would take.
_CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"


class Connection:
    """Of one login at a time."""

    def __init__(self, location: SftpLocation) -> None:
        self._location = location
        self._making = asyncio.Lock()
        self._connection: asyncssh.SSHClientConnection | None = None
        self._client: asyncssh.SFTPClient | None = None
        self._closed = False

    async def client(self) -> asyncssh.SFTPClient:
        """The login, which may have to be made first. Raises Failure."""
        async with self._making:
            if self._client is None or self._connection is None or self._connection.is_closed():
                self._end()
                try:
                    self._connection = await self._connected()
                    self._client = await self._connection.start_sftp_client(path_errors="surrogateescape")
                except ERRORS as error:
                    self._end()
                    raise read_failure(error) from None
            return self._client

    def lost(self, client: asyncssh.SFTPClient) -> None:
        """Have another login made in place of that of `client`, unless that was done already."""
        if client is self._client:
            self._end()

    async def close(self) -> None:
        self._closed = True
        connection = self._connection
        self._end()
        if connection is not None:
            with suppress(*ERRORS):
                await connection.wait_closed()

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.abort()
        self._connection = self._client = None

    async def _connected(self) -> asyncssh.SSHClientConnection:
        if self._closed:
            raise Failure(Trouble.REFUSED, "it was closed")
        location, pinned = self._location, self._location.host_key
        known = _Known(pinned)
        secrets = location.secrets
        key = secrets.get("private_key")
        try:
            return await asyncssh.connect(
                location.host,
                location.port,
                username=location.user,
                password=secrets.get("password"),
                client_keys=[asyncssh.import_private_key(key)] if key else None,
                client_factory=lambda: known,
                known_hosts=([], [], []),  # so that the client is asked
                server_host_key_algs=pinned.algorithms,
                encryption_algs=_CIPHERS,
                compression_algs=None,
                keepalive_interval=_ALIVE_SECONDS,
                keepalive_count_max=_UNANSWERED,
                config=None,
                agent_path=None,
                gss_host=None,
            )
        except BREAKS:
            if known.found == pinned:
                raise
            # A server without a key of the pinned kind breaks off before it says which it has.
            found = known.found or await self._best_key()
            if found is None or found == pinned:
                raise
            raise Failure(Trouble.REFUSED, CHANGED.format(found=found, pinned=pinned)) from None

    async def _best_key(self) -> HostKey | None:
        with suppress(*ERRORS):
            async for key in offered(self._location):
                return key
        return None


class _Known(asyncssh.SSHClient):
    """Takes the pinned host key alone."""

    def __init__(self, pinned: HostKey) -> None:
        self._pinned = pinned
        self.found: HostKey | None = None

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:  # noqa: ARG002 - asyncssh's
        self.found = HostKey.of(key)
        return self.found == self._pinned
