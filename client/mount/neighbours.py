"""Small files that are read one after another: those that follow come with the one that must be fetched.

Kept true: nothing is asked for beside a file that is not one of a row, and beside another no more than some MiB; what
is remembered of folders does not grow with them.
"""

import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

from client.mount import kernel
from client.mount.listing import Listing
from client.vault.blobs import ID_BYTES, BlobId

Beside = Callable[[], Sequence[BlobId]]

MOST_BYTES = 4 << 20  # that come along: a request of a restore has as many
_FIRST_BYTES = 256 << 10  # as a row begins
_SMALL = 1 << 20  # a larger file is read ahead by itself
_STEP = 16  # from one file of a row to the next: what lies between may be no file, or be read by another thread
_LOOKED_AT = 1024  # entries
_FOLDERS = 64  # of which it is known what was opened last


def nothing() -> Sequence[BlobId]:
    return ()


class Neighbours:
    """What was opened last, by folder. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: OrderedDict[BlobId, int] = OrderedDict()  # the place of a file, by its folder's tree
        self._window = 0  # bytes that came along last, in the row that is read

    def opened(self, tree: BlobId, listing: Listing, place: int) -> Beside:
        """The file at a place of a folder is opened; answers what gives the blobs of those that follow it.

        That gives nothing if it is not one of a row: after another of its folder, or the first of it after such a one.
        """
        with self._lock:
            last = self._last.pop(tree, None)
            if last is None:
                is_next = self._window > 0 and not any(_is_file(listing, at) for at in range(place))
            else:
                is_next = 0 < place - last <= _STEP
            is_near = last is not None and abs(place - last) <= _STEP
            self._last[tree] = max(last, place) if last is not None and is_near else place
            if len(self._last) > _FOLDERS:
                self._last.popitem(last=False)
            if not is_next and not is_near:
                self._window = 0
        return partial(self._following, listing, place) if is_next else nothing

    def _following(self, listing: Listing, place: int) -> Sequence[BlobId]:
        with self._lock:
            self._window = min(max(2 * self._window, _FIRST_BYTES), MOST_BYTES)
            left = self._window
        blobs: list[BlobId] = []
        for at in range(place + 1, min(place + 1 + _LOOKED_AT, len(listing.names))):
            size = listing.sizes[at]
            if not _is_file(listing, at) or size > _SMALL:
                continue
            left -= size
            if left < 0:
                break
            content = listing.content[at]
            blobs += (content[first : first + ID_BYTES] for first in range(0, len(content), ID_BYTES))
        return blobs


def _is_file(listing: Listing, place: int) -> bool:
    return stat.S_ISREG(kernel.mode_of(listing.attributes[place]))
