"""The encoded nodes of one folder until its tree is made, in little room.

Kept true: they come out in the order of their names, whatever order they came in, each once; of a large folder nearly
all are held compressed, and few of them are opened at a time.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

from client.vault.sealing import compress, decompress

_BLOCK = 4096  # nodes that are compressed together: 2 MB become a sixth, and 200,000 nodes 15 MB instead of 110


@dataclass(frozen=True, slots=True)
class _Block:
    """Sorted nodes, each with a length before it; `size` is their plain length together."""

    first: bytes
    size: int
    frame: bytes

    def nodes(self) -> Iterator[bytes]:
        body = decompress(self.frame, self.size, "nodes of a folder")
        at = 0
        while at < len(body):
            start = at + 4
            at = start + int.from_bytes(body[at:start], "little")
            yield body[start:at]


@dataclass(slots=True)
class NewNodes:
    """Each node is its name, a NUL, which comes before whatever else a longer name goes on with, and its encoding."""

    _open: list[bytes] = field(default_factory=list)
    _blocks: list[_Block] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self._open or self._blocks)

    def add(self, name: bytes, encoded: bytes) -> None:
        self._open.append(name + b"\0" + encoded)
        if len(self._open) >= _BLOCK:
            self._open.sort()
            body = b"".join(len(node).to_bytes(4, "little") + node for node in self._open)
            self._blocks.append(_Block(self._open[0], len(body), compress(body)))
            self._open.clear()

    def in_order(self) -> Iterator[tuple[bytes, bytes]]:
        """Names and encodings. Nothing is left here when all have been taken."""
        self._open.sort()
        waiting = sorted(self._blocks, key=lambda block: block.first, reverse=True)
        sources = [iter(self._open)]
        self._open, self._blocks = [], []
        present = [(node, number) for number, source in enumerate(sources) if (node := next(source, None)) is not None]
        while present or waiting:
            while waiting and (not present or waiting[-1].first <= present[0][0]):
                sources.append(waiting.pop().nodes())
                heapq.heappush(present, (next(sources[-1]), len(sources) - 1))
            node, number = present[0]
            following = next(sources[number], None)
            if following is None:
                heapq.heappop(present)
            else:
                heapq.heapreplace(present, (following, number))
            name, _, encoded = node.partition(b"\0")
            yield name, encoded
