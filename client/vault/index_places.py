"""Places of blobs on their way into a table's tree, sorted, so that each page of the tree is written once a batch.

Kept true: memory is 40 bytes a blob. Ids are hashes, so a file's places fall on pages all over the tree: entered file
by file, each file would write most of the tree anew, and hold it in memory until it is committed.
"""

import struct
from bisect import bisect_left
from collections.abc import Iterator

from client.vault.blobs import ID_BYTES
from client.vault.index_files import ENTRY, IndexedPack

PLACE = struct.Struct(">II")  # number of a record, position in it
_SIZE = ID_BYTES + PLACE.size


class Places:
    """Collects places and gives them back in order, a part at a time."""

    def __init__(self) -> None:
        self._runs: list[bytes] = []  # each sorted
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add_run(self, packs: list[tuple[int, IndexedPack]]) -> None:
        """Add the blobs of packs, each given with the number of its record."""
        places = [
            pack.table[start : start + ID_BYTES] + PLACE.pack(number, position)
            for number, pack in packs
            for position, start in enumerate(range(0, len(pack.table), ENTRY.size))
        ]
        places.sort()
        self._runs.append(b"".join(places))
        self._count += len(places)

    def slices(self, parts: int) -> Iterator[list[tuple[bytes, bytes]]]:
        """Ids and packed places in ascending order, in `parts` lists of about the same length."""
        starts = [0] * len(self._runs)
        for part in range(1, parts + 1):
            bound = (part << 32) // parts  # of the first four bytes
            found: list[tuple[bytes, bytes]] = []
            for number, run in enumerate(self._runs):
                end = _first_from(run, bound)
                found += [
                    (run[at : at + ID_BYTES], run[at + ID_BYTES : at + _SIZE])
                    for at in range(starts[number], end, _SIZE)
                ]
                starts[number] = end
            found.sort()
            yield found


def _first_from(run: bytes, bound: int) -> int:
    """Where in a run the first place begins whose id is at least `bound`, a number made of four bytes."""
    return _SIZE * bisect_left(
        range(len(run) // _SIZE), bound, key=lambda at: int.from_bytes(run[at * _SIZE : at * _SIZE + 4])
    )
