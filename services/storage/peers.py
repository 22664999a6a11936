"""Channels to other nodes, of this cluster and of others, over mutual TLS."""

import grpc

from services.common.rpc import internal_channel
from services.storage.settings import StorageSettings

_SERVICE = "/oort.storage.v1.CopyService/"


def _as_is(message: bytes) -> bytes:
    return message


class Peers:
    """One channel for each node that was needed; a node that comes back is reached again by itself."""

    def __init__(self, settings: StorageSettings) -> None:
        self._settings = settings
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()

    def put_copy(self, endpoint: str) -> "grpc.aio.StreamStreamCall[bytes, bytes]":
        """CopyService.PutCopy with messages as bytes (frames.py)."""
        return self.channel(endpoint).stream_stream(_SERVICE + "PutCopy", _as_is, _as_is)()

    def get_copy(self, endpoint: str, request: bytes) -> "grpc.aio.UnaryStreamCall[bytes, bytes]":
        """CopyService.GetCopy with messages as bytes."""
        return self.channel(endpoint).unary_stream(_SERVICE + "GetCopy", _as_is, _as_is)(request)

    def channel(self, endpoint: str) -> grpc.aio.Channel:
        """To the internal listener at host:port."""
        channel = self._channels.get(endpoint)
        if channel is None:
            channel = self._channels[endpoint] = internal_channel(self._settings, endpoint)
        return channel
