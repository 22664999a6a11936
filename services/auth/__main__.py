import gc

if __name__ == "__main__":
    gc.disable()  # what a start makes is no garbage; process.main has it on again when the role serves

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import files
from pathlib import Path

from redis.asyncio import Redis

from services.auth.settings import AuthSettings
from services.auth.storage import Storage
from services.auth.tokens import TokenSigner
from services.auth.wiring import Foundation, build
from services.common.errors import StartError
from services.common.process import Parts, Role, Runtime, main
from services.common.rpc import internal_channel

_PEPPER_BYTES = 32
_REDIS_SECONDS = 5.0


@asynccontextmanager
async def wire(runtime: Runtime[AuthSettings]) -> AsyncIterator[Parts]:
    """Redis, the storage clusters' channels, and the services on top."""
    settings = runtime.settings
    if settings.redis_url is None:
        raise StartError("OORT_REDIS_URL is not set: login sessions are kept in Redis", 2)
    pepper = read_pepper(settings.pepper)
    signer = TokenSigner.from_file(settings.token_key)
    redis = Redis.from_url(settings.redis_url, socket_timeout=_REDIS_SECONDS, socket_connect_timeout=_REDIS_SECONDS)
    storage = Storage(runtime.db, runtime.clock, partial(internal_channel, settings), settings.storage_seconds)
    try:
        auth = build(Foundation(runtime.db, redis, runtime.clock, pepper, signer, storage))
        yield Parts(auth.public, auth.internal, [auth.forget_attempts])
    finally:
        await storage.close()
        await redis.aclose()


def read_pepper(path: Path) -> bytes:
    """Raises StartError."""
    pepper = path.read_bytes()
    if len(pepper) != _PEPPER_BYTES:
        raise StartError(f"OORT_PEPPER {path} has {len(pepper)} bytes: it must have {_PEPPER_BYTES} random ones", 2)
    return pepper


ROLE = Role("auth", AuthSettings, files("services.auth") / "migrations", wire)

if __name__ == "__main__":
    sys.exit(main(ROLE))
