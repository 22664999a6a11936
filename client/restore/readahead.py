"""Contents of blobs in the order in which they are asked for, fetched ahead of that.

Kept true: memory does not grow with what is read: what is held is some 24 MiB of opened blobs, and what the requests
for them bring. Neighbours in a pack come with one request, several requests at once. Who ends early does not wait for
them: what does not come soon is ended with the vault's session.
"""

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain

from client.errors import DamagedVault, ObjectMissing
from client.restore.fetch import FETCHERS, Request, opened_blob, requests_of
from client.restore.plan import Place
from client.vault.blobs import PackEntry
from client.vault.index import Location
from client.vault.repository import Vault
from domain.names import ObjectName

_BATCH = 8 << 20  # plain bytes, or one blob that is larger
_BATCH_ITEMS = 1024
_BATCHES = 3  # one that is given out and two that are fetched
_PATIENCE = 2.0  # seconds that requests get to end by themselves

Content = bytes | str
Found = dict[PackEntry, Content]
NOWHERE: Sequence[Place] = ()


@dataclass(slots=True)
class _Batch:
    """Some blobs in order, and the requests that bring them, by pack."""

    locations: list[Location] = field(default_factory=list)
    coming: dict[ObjectName, list[Future[Found]]] = field(default_factory=dict)
    size: int = 0
    items: int = 0

    @property
    def requests(self) -> Iterator[Future[Found]]:
        return chain.from_iterable(self.coming.values())

    @property
    def is_full(self) -> bool:
        return self.size >= _BATCH or self.items >= _BATCH_ITEMS


def contents(vault: Vault, locations: Iterable[Location | None]) -> Generator[Content, None, None]:
    """The content of each blob in order, or why it cannot be had; `locations` is drawn some 24 MiB ahead of that.

    None stands for what has no blob, gives nothing, and counts only for how far ahead is looked. Raises StoreError.
    Whoever does not take all closes it, and may lose the vault's session by that.
    """
    waiting: deque[_Batch] = deque()
    with ThreadPoolExecutor(FETCHERS, "fetch") as pool:
        try:
            for batch in _batches(locations):
                _request(vault, batch, pool)
                waiting.append(batch)
                if len(waiting) == _BATCHES:
                    yield from _given_out(waiting[0])
                    del waiting[0]
            while waiting:
                yield from _given_out(waiting[0])
                del waiting[0]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            _end(vault, [future for batch in waiting for future in batch.requests])


def _end(vault: Vault, requests: Sequence[Future[Found]]) -> None:
    """Have requests end: those that stand still, or wait for the device's line, end with the session."""
    begun = [future for future in requests if not future.cancelled()]  # `wait` takes no cancelled one for ended
    try:
        wait(begun, _PATIENCE)
    finally:  # also if a person is in a hurry
        if not all(future.done() for future in begun):
            vault.session.close()


def _batches(locations: Iterable[Location | None]) -> Iterator[_Batch]:
    batch = _Batch()
    for location in locations:
        batch.items += 1
        if location is not None:
            batch.locations.append(location)
            batch.size += location.entry.length_plain
        if batch.is_full:
            yield batch
            batch = _Batch()
    yield batch


def _request(vault: Vault, batch: _Batch, pool: ThreadPoolExecutor) -> None:
    wanted: dict[ObjectName, dict[PackEntry, Sequence[Place]]] = {}
    for pack, entry in batch.locations:
        wanted.setdefault(pack, {})[entry] = NOWHERE
    for pack, entries in wanted.items():
        batch.coming[pack] = [pool.submit(fetched, vault, request) for request in requests_of(pack, entries)]


def fetched(vault: Vault, request: Request) -> Found:
    """What a request brings: each of its blobs, or why it cannot be had. Raises StoreError."""
    body: memoryview | None = None
    with suppress(ObjectMissing, DamagedVault):  # each blob is looked for elsewhere
        body = memoryview(vault.session.get(request.pack, request.start, request.length))
    return {entry: opened_blob(vault, request.pack, entry, request.part(body, entry)) for entry, _ in request.blobs}


def _given_out(batch: _Batch) -> Iterator[Content]:
    found: dict[ObjectName, Found] = {}
    for pack, requests in batch.coming.items():
        of_pack = found[pack] = {}
        for request in requests:
            of_pack.update(request.result())
    for pack, entry in batch.locations:
        yield found[pack][entry]
