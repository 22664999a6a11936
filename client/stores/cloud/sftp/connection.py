"""A login on a server of SFTP, for one event loop.

Kept true: it is made when it is first needed, and again when it was lost; nothing but the pinned host key is taken, and
nothing is looked for in the user's SSH settings, agent or keys.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import asyncssh

from client.stores.cloud.sftp.failures import BREAKS, ERRORS, read_failure
from client.stores.cloud.sftp.host_key import CHANGED, HostKey, offered
from client.stores.cloud.sftp.location import SftpLocation
from clouds.failures import Failure, Trouble

_ALIVE_SECONDS = 15  # without a word of the server, after which it is asked for one
_LOGIN_SECONDS = 30  # within which a server lets a user in, whatever the call that waits for it may take
_UNANSWERED = 3  # such questions, after which the connection is lost
# What costs a processor least (docs/decisions/sftp.md); else what asyncssh would take.
_CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"


@dataclass(slots=True)
class _Login:
    connection: asyncssh.SSHClientConnection
    client: asyncssh.SFTPClient
    calls: int = 0  # under way


class Connection:
    """Of one login at a time, beside those that were left and have calls under way."""

    def __init__(self, location: SftpLocation) -> None:
        self._location = location
        self._making = asyncio.Lock()
        self._login: _Login | None = None
        self._closed = False

    @asynccontextmanager
    async def login(self) -> AsyncIterator[asyncssh.SFTPClient]:
        """For one call the login, which may have to be made first. Raises Failure."""
        login = await self._made()
        login.calls += 1
        try:
            yield login.client
        finally:
            login.calls -= 1
            if login is not self._login and not login.calls:
                login.connection.abort()

    def leave(self, client: asyncssh.SFTPClient) -> None:
        """Have another login made for the calls to come; those under way by `client` may yet end well."""
        if self._login is not None and client is self._login.client:
            self._login = None

    async def close(self) -> None:
        self._closed = True
        login, self._login = self._login, None
        if login is not None:
            login.connection.abort()
            with suppress(*ERRORS):
                await login.connection.wait_closed()

    async def _made(self) -> _Login:
        async with self._making:
            if self._login is None or self._login.connection.is_closed():
                self._login = None
                try:
                    async with asyncio.timeout(_LOGIN_SECONDS):
                        self._login = await self._logged_in()
                except ERRORS as error:
                    raise read_failure(error) from None
            return self._login

    async def _logged_in(self) -> _Login:
        connection = await self._connected()
        try:
            return _Login(connection, await connection.start_sftp_client(path_errors="surrogateescape"))
        except BaseException:
            connection.abort()
            raise

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
            # A server without a key of the pinned kind breaks off before it says which it has, as a line may too.
            found = known.found or await self._instead()
            if found is None:
                raise
            raise Failure(Trouble.REFUSED, CHANGED.format(found=found, pinned=pinned)) from None

    async def _instead(self) -> HostKey | None:
        """The best key of a server that has not the pinned one; None if it has it, or says none."""
        best: HostKey | None = None
        with suppress(*ERRORS):
            async for key in offered(self._location, self._location.host_key.algorithms):
                if key == self._location.host_key:
                    return None
                best = best or key
        return best


class _Known(asyncssh.SSHClient):
    """Takes the pinned host key alone."""

    def __init__(self, pinned: HostKey) -> None:
        self._pinned = pinned
        self.found: HostKey | None = None

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:  # noqa: ARG002 - asyncssh's
        self.found = HostKey.of(key)
        return self.found == self._pinned
