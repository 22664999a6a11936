"""The HTTPS port of restic's REST protocol, with the node's own certificate, in the loop of everything else."""

import asyncio
import ssl
from dataclasses import dataclass

from aiohttp import web

from services.common.errors import StartError
from services.common.settings import ProcessSettings, split_host_port
from services.storage.rest.handler import RestHandler

_IDLE_SECONDS = 90.0  # as long as restic keeps a connection that it does not use
_SHORTEST_SECONDS = 0.05
_READ_BYTES = 256 << 10


@dataclass(slots=True)
class RestListener:
    """A port that is listened on."""

    server: web.Server
    tcp: asyncio.Server

    async def drain(self, seconds: float) -> None:
        """Take no new requests, let those under way finish for `seconds`, then end them."""
        self.tcp.close()
        self.server.pre_shutdown()
        # To aiohttp no seconds are any number of them.
        await self.server.shutdown(max(seconds, _SHORTEST_SECONDS))


async def listen(settings: ProcessSettings, listen_on: str, handler: RestHandler) -> RestListener:
    """Serve at `listen_on`, host:port. Raises StartError when the port is taken."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    # As it came: what is packed in its transfer would not be what its name says.
    server = web.Server(
        handler, access_log=None, auto_decompress=False, keepalive_timeout=_IDLE_SECONDS, read_bufsize=_READ_BYTES
    )
    host, port = split_host_port(listen_on)
    try:
        tcp = await asyncio.get_running_loop().create_server(
            server, host, port, ssl=context, reuse_port=settings.share_port or None
        )
    except OSError as error:
        raise StartError(f"cannot listen on {listen_on} for restic (OORT_REST_LISTEN): {error.strerror}") from error
    return RestListener(server, tcp)
