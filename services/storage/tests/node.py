"""A storage node in a process of its own, without the lease that `python -m services.storage` needs first."""

import asyncio
import signal
import sys

from services.common import logs
from services.common.settings import load
from services.storage.settings import StorageSettings
from services.storage.tests.cluster import serving


async def _until_signal() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    settings = load(StorageSettings)
    logs.configure("error", role="storage", instance=settings.instance)
    async with serving(settings):
        sys.stdout.write("serving\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(_until_signal())
