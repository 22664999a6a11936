"""Contents of files, read by the blob and ahead of who reads on.

Kept true: what is held of blobs is bounded in bytes, whoever reads; no byte is given out whose blob does not have its
SHA-256; where a blob cannot be had, no more of a file is lost than what lies in it. Before one counts as lost the index
files are listed anew: whoever pruned meanwhile may have stored it elsewhere.
"""

import threading
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from client.mount.neighbours import MOST_BYTES, Beside, nothing
from client.restore.fetch import FETCHERS, Request, requests_of
from client.restore.readahead import NOWHERE, Content, fetched
from client.vault.blobs import ID_BYTES, BlobId, BlobKind
from client.vault.repository import Vault

if TYPE_CHECKING:
    from client.vault.index import Location
    from domain.names import ObjectName

BUDGET = 96 << 20  # bytes of opened blobs, and of those that are fetched
_AHEAD = (4 << 20, 16 << 20)  # bytes that are fetched ahead, at first and at most
_NEAR = 2 << 20  # the kernel's requests of one who reads on may come in another order
_AT_ONCE = 1024  # blobs that are looked for in the index together


class Lost(Exception):
    """A blob cannot be had; says why."""


@dataclass(slots=True)
class _Held:
    coming: "Future[Content]"
    size: int
    location: "Location"
    is_final: bool = False  # nothing is known of another place


class Blobs:
    """The blobs read last, and those that are coming. Safe for several threads."""

    def __init__(self, vault: Vault, budget: int = BUDGET) -> None:
        self._vault = vault
        self._budget = budget
        self._lock = threading.Lock()
        self._held: OrderedDict[BlobId, _Held] = OrderedDict()
        self._size = self._under_way = 0
        self._pool = ThreadPoolExecutor(FETCHERS, "fetch")

    @property
    def under_way(self) -> int:
        """Bytes of blobs that are coming."""
        return self._under_way

    @property
    def held(self) -> int:
        """Bytes of blobs that are here or are coming."""
        return self._size

    def sizes(self, blobs: Sequence[BlobId]) -> Iterator[int | None]:
        """How many bytes each has; None for one that no index file lists. Raises StoreError."""
        for start in range(0, len(blobs), _AT_ONCE):
            for found in self._vault.index.find_one_of_each(BlobKind.DATA, blobs[start : start + _AT_ONCE]):
                yield None if found is None else found.entry.length_plain

    def get(self, blob: BlobId, beside: Beside = nothing) -> bytes:
        """Its content. If it must be fetched, what is wanted `beside` comes along, as far as its pack has it.

        Raises Lost, StoreError.
        """
        coming = self._coming(blob, beside)
        content = coming.result()
        if isinstance(content, str) and self._may_lie_elsewhere(blob, coming):
            content = self._coming(blob).result()
        if isinstance(content, str):
            raise Lost(content)
        return content

    def _may_lie_elsewhere(self, blob: BlobId, lost: "Future[Content]") -> bool:
        """Whether to ask once more for a blob that could not be had: lists the index files anew. Raises StoreError."""
        with self._lock:
            held = self._held.get(blob)
            if held is None or held.coming is not lost:
                return True  # another has looked meanwhile
            if held.is_final:
                return False
        self._vault.index.list_anew()
        is_final = self._vault.index.find(BlobKind.DATA, blob) in (None, held.location)
        with self._lock:
            held.is_final = is_final
            if not is_final and self._held.get(blob) is held:
                self._drop(blob)
        return not is_final

    def _coming(self, blob: BlobId, beside: Beside = nothing) -> "Future[Content]":
        """What brings a blob, or has brought it. Raises Lost."""
        while True:
            with self._lock:
                held = self._held.get(blob)
                if held is not None:
                    self._held.move_to_end(blob)
                    return held.coming
            asked = self._ask([blob, *self._with_room(beside)], in_pack_of=blob)
            own = [one for one in asked if blob in one[1]]
            try:
                for request, coming in asked:
                    if blob not in coming:
                        self._pool.submit(self._fetch, request, coming)
            finally:  # also when the mount is ending: others wait for it too
                for request, coming in own:
                    self._fetch(request, coming)
            if own:
                return own[0][1][blob]
            if self._vault.index.find(BlobKind.DATA, blob) is None:
                self._vault.index.list_anew()
                if self._vault.index.find(BlobKind.DATA, blob) is None:
                    raise Lost(f"no index file lists its blob {blob.hex()}")

    def fetch_ahead(self, blobs: Sequence[BlobId]) -> None:
        """Have blobs fetched beside what follows, unless much is being fetched already. Raises StoreError."""
        for request, coming in self._ask(self._with_room(lambda: blobs)):
            self._pool.submit(self._fetch, request, coming)

    def _with_room(self, wanted: Beside) -> Sequence[BlobId]:
        """What is wanted before anybody asks for it, unless much is being fetched already."""
        return () if self._under_way > self._budget // 2 else wanted()

    def forget_losses(self) -> None:
        """Look again for what could not be had: it may have been mended."""
        with self._lock:
            for blob, held in list(self._held.items()):
                if held.coming.done() and not isinstance(held.coming.result(), bytes):
                    self._drop(blob)

    def close(self, *, wait: bool = False) -> None:
        """No more is asked for; what is under way ends with the vault's session, unless it is waited for."""
        self._pool.shutdown(wait=wait)

    def _ask(
        self, blobs: Sequence[BlobId], *, in_pack_of: BlobId | None = None
    ) -> list[tuple[Request, dict[BlobId, "Future[Content]"]]]:
        """The requests for those that are not held, which somebody must carry out; raises StoreError.

        With `in_pack_of` only for those that lie in the pack of that blob, which is one of them, and of the others for
        the first `MOST_BYTES`: trees may say that they are fewer.
        """
        with self._lock:
            missing = [blob for blob in dict.fromkeys(blobs) if blob not in self._held]
        if not missing:
            return []
        locations: Sequence[Location | None] = self._vault.index.find_one_of_each(BlobKind.DATA, missing)
        if in_pack_of is not None:
            locations = _beside(in_pack_of, [found for found in locations if found is not None])
        wanted: dict[ObjectName, dict[BlobId, Location]] = {}
        coming: dict[BlobId, Future[Content]] = {}
        with self._lock:
            for location in locations:
                if location is not None and location.entry.id not in self._held:
                    blob, size = location.entry.id, location.entry.length_plain
                    coming[blob] = Future()
                    self._held[blob] = _Held(coming[blob], size, location)
                    self._size += size
                    self._under_way += size
                    wanted.setdefault(location.pack, {})[blob] = location
            self._make_room()
        return [
            (request, {entry.id: coming[entry.id] for entry, _ in request.blobs})
            for pack, places in wanted.items()
            for request in requests_of(pack, {location.entry: NOWHERE for location in places.values()})
        ]

    def _fetch(self, request: Request, coming: dict[BlobId, "Future[Content]"]) -> None:
        size = sum(entry.length_plain for entry, _ in request.blobs)
        try:
            found = fetched(self._vault, request)
        except Exception as error:  # noqa: BLE001 - whoever waits for a blob is told, and the next asks again
            with self._lock:
                self._under_way -= size
                for blob in coming:
                    self._drop(blob)
            for future in coming.values():
                future.set_exception(error)
            return
        with self._lock:  # what has come may be let go of by others at once
            self._under_way -= size
            for entry, content in found.items():
                coming[entry.id].set_result(content)

    def _drop(self, blob: BlobId) -> None:
        held = self._held.pop(blob, None)
        if held is not None:
            self._size -= held.size

    def _make_room(self) -> None:
        """Let go of the blobs that were used least lately; what is coming stays."""
        if self._size <= self._budget:
            return
        for blob, held in list(self._held.items()):
            if held.coming.done():
                self._drop(blob)
                if self._size <= self._budget:
                    return


def _beside(blob: BlobId, found: "Sequence[Location]") -> "list[Location]":
    """Of what was found that which lies in the pack of a blob: itself, and `MOST_BYTES` of others at most."""
    packs = {one.pack for one in found if one.entry.id == blob}
    together, left = [], MOST_BYTES
    for one in found:
        if one.pack in packs:
            left -= 0 if one.entry.id == blob else one.entry.length_plain
            if left >= 0:
                together.append(one)
    return together


class OpenFile:
    """A file that is open: where in it each blob begins, and how it is being read. Safe for several threads."""

    def __init__(self, blobs: Blobs, ids: bytes, size: int, path: bytes, beside: Beside = nothing) -> None:
        """`ids` are those of its blobs one after another, `size` the bytes that its node tells.

        `beside` gives the blobs of files that are read after it. Raises StoreError.
        """
        self.path = path
        self._beside = beside
        self._blobs = blobs
        self._ids = ids
        self._lock = threading.Lock()
        self._end = 0  # of the last read
        self._window = 0
        self._asked = 0  # blobs before this one were asked for
        lengths = list(blobs.sizes(self._between(0, len(ids) // ID_BYTES)))
        self.starts, self._unknown = _starts(lengths, size)

    @property
    def size(self) -> int:
        """Bytes that its blobs have together, as far as that is known."""
        return self.starts[-1]

    def read(self, offset: int, size: int) -> list[memoryview]:
        """The bytes from `offset`, fewer than `size` only at the end. Raises Lost, StoreError."""
        end = min(offset + size, self.size)
        if offset >= end:
            return []
        first = bisect_right(self.starts, offset) - 1
        parts: list[memoryview] = []
        self._read_ahead(offset, end)
        for number in range(first, len(self.starts) - 1):
            start, after = self.starts[number], self.starts[number + 1]
            if start >= end:
                break
            if start == after:
                continue
            if number in self._unknown:
                raise Lost("index files do not list all of its blobs")
            content = self._blobs.get(self._id(number), nothing if offset else self._beside)
            if len(content) != after - start:
                raise Lost(f"its blob {self._id(number).hex()} has {len(content)} bytes and not {after - start}")
            parts.append(memoryview(content)[max(offset - start, 0) : end - start])
        return parts

    def _read_ahead(self, offset: int, end: int) -> None:
        """Fetch what follows, if it is being read from one end to the other."""
        with self._lock:
            reads_on = offset > 0 and abs(offset - self._end) <= _NEAR
            self._end = max(end, self._end) if reads_on else end
            if not reads_on:
                self._window = self._asked = 0
                return
            self._window = self._window or _AHEAD[0]
            following = bisect_right(self.starts, self._end - 1)
            begin = max(self._asked, following)
            if self.starts[min(begin, len(self.starts) - 1)] - self._end > self._window // 2:
                return
            stop = bisect_right(self.starts, self._end + self._window) - 1
            if stop <= begin:
                return
            self._asked = stop
            self._window = min(2 * self._window, _AHEAD[1])
        self._blobs.fetch_ahead(self._between(begin, stop))

    def _id(self, number: int) -> BlobId:
        return self._ids[number * ID_BYTES : (number + 1) * ID_BYTES]

    def _between(self, first: int, after: int) -> list[BlobId]:
        return [self._id(number) for number in range(first, after)]


def _starts(lengths: Sequence[int | None], size: int) -> tuple["array[int]", frozenset[int]]:
    """Where each blob begins, and after the last where the file ends; and the blobs of which only that is known.

    Of blobs that no index file lists the lengths are not known: what lies between the first and the last of them is
    lost, but not what follows, as the file's size is known.
    """
    missing = [number for number, length in enumerate(lengths) if length is None]
    before, after = (missing[0], missing[-1] + 1) if missing else (len(lengths), len(lengths))
    starts = array("Q", [0])
    for length in lengths[:before]:
        starts.append(starts[-1] + (length or 0))
    if missing:
        behind = sum(length or 0 for length in lengths[after:])
        gap_end = max(size - behind, starts[-1])
        starts.extend([starts[-1]] * (after - before - 1))
        for length in (gap_end - starts[-1], *lengths[after:]):
            starts.append(starts[-1] + (length or 0))
    return starts, frozenset(range(before, after))
