"""Opens what a storage node keeps its files on, as its settings name it: disks, stores, and threads for both."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial

from services.common.process import Runtime
from services.storage.settings import StorageSettings
from services.storage.upkeep.work import every
from services.storage.volumes import mounted
from services.storage.volumes.disk import Disk
from services.storage.volumes.threads import DiskThreads, StoreThreads

_THREADS_OF_A_STORE = 16  # of each kind: they wait for it, and need no processor


def open_disks(runtime: Runtime[StorageSettings], stack: AsyncExitStack) -> list[Disk]:
    """The first worker sees to it that all are mounted; the others open those that it has, be they away by now.

    Closed with the `stack`. Raises StartError.
    """
    settings, worker = runtime.settings, runtime.worker
    if worker.is_first:
        mounted.require_mounted(settings.data_dirs, settings.gone_disks)
    opened: list[Disk] = []
    for number, folder in enumerate(settings.data_dirs):
        lent = None if worker.is_first else worker.lent[2 * number : 2 * number + 2]
        disk = Disk(folder, settings.instance, settings.low_water_bytes, worker, lent)
        stack.callback(disk.close)
        opened.append(disk)
    if worker.is_first:
        mounted.note({disk.folder: disk.id for disk in opened}, settings.gone_disks)
    return opened


def disk_threads(stack: AsyncExitStack, name: str, count: int) -> DiskThreads:
    return DiskThreads(stack.enter_context(ThreadPoolExecutor(count, thread_name_prefix=name)))


async def open_stores(
    runtime: Runtime[StorageSettings], stack: AsyncExitStack
) -> tuple[list[StoreThreads], list[Callable[[], Awaitable[None]]]]:
    """The stores, and a job for each, which claims it when it was away. Closed with the `stack`. Raises StartError."""
    settings, beat = runtime.settings, runtime.settings.node_beat_seconds
    if not settings.data_stores or settings.spool_dir is None or settings.store_key_file is None:
        return [], []
    from services.storage.volumes.remote.address import StoreAddress
    from services.storage.volumes.remote.keys import StoreKey
    from services.storage.volumes.remote.spool import Spool
    from services.storage.volumes.remote.store import Store
    from services.storage.volumes.remote.volume import RemoteVolume

    node = settings.instance
    addresses = [StoreAddress.parse(url) for url in settings.data_stores]
    keys = {scheme: StoreKey.read(settings.store_key_file, scheme) for scheme in {one.scheme for one in addresses}}
    spool = Spool(settings.spool_dir, node, settings.low_water_bytes)
    stack.callback(spool.close)
    opened = []
    claims: list[Callable[[], Awaitable[None]]] = []
    for address in addresses:
        asking, sending = (disk_threads(stack, kind, _THREADS_OF_A_STORE) for kind in ("ask", "send"))
        store = Store(address, keys[address.scheme], node)
        stack.callback(store.close)  # before its threads, which wait for it
        open_one = partial(RemoteVolume, store, spool, node, settings.store_room_bytes, cluster=settings.cluster_name)
        volume = await asyncio.to_thread(open_one)
        opened.append(StoreThreads(volume, asking, sending))
        claims.append(partial(every, runtime.clock, beat, "claim a store", partial(asking.run, volume.claim)))
    return opened, claims
