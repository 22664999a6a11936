"""A random sample of a snapshot's files, which the same seed draws again.

Kept true: every file has the same chance, whatever its size and place; of a number, exactly so many are drawn if there
are as many; of a share, about that part, and at least one. Memory grows neither with the snapshot, but for 8 bytes a
file where more than a thousand are asked for, nor with what is drawn.
"""

import heapq
import re
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice

from client.errors import DamagedVault, ObjectMissing
from client.vault.modes import NodeType
from client.vault.nodes import Node
from client.vault.ranks import last_within
from client.vault.repository import Vault
from client.vault.snapshots import Snapshot
from client.vault.trees import TreeReader
from client.vault.walk import Listed, subtree_of

_RANK_BYTES = 8
_ENDLESS = 1 << 8 * _RANK_BYTES
_FEW = 1000  # files that are held; of more, the trees are read twice
_SHARE = re.compile(r"(\d+(?:\.\d+)?)%")

Lost = Callable[[bytes, DamagedVault | ObjectMissing], None]


@dataclass(frozen=True, slots=True)
class FileSample:
    """So many files, or (if `count` is 0) so large a `share` of all, from above 0 to 1."""

    seed: str
    count: int = 0
    share: float = 0.0

    def draw(self, vault: Vault, snapshot: Snapshot, lost: Lost) -> Iterator[Listed]:
        """The drawn files, in the order in which they lie; `lost` is told of folders whose lists cannot be read.

        Raises StoreError.
        """
        ranked = self._ranked(vault, snapshot, lost)
        if not self.count:
            drawn = self._share(ranked)
        elif self.count <= _FEW:
            drawn = iter(sorted(heapq.nsmallest(self.count, ranked, key=_rank_of), key=_path_of))
        else:
            ranks = array("Q", (rank for rank, _ in ranked))
            last = last_within(ranks, array("B", [1]) * len(ranks), self.count) if ranks else 0
            again = self._ranked(vault, snapshot, lambda *_: None)
            drawn = islice((one for one in again if one[0] <= last), self.count)
        return (listed for _, listed in drawn)

    def _share(self, ranked: Iterator[tuple[int, Listed]]) -> Iterator[tuple[int, Listed]]:
        first: tuple[int, Listed] | None = None
        has_drawn = False
        for one in ranked:
            if one[0] < self.share * _ENDLESS:
                has_drawn = True
                yield one
            elif first is None or one[0] < first[0]:
                first = one
        if not has_drawn and first is not None:
            yield first

    def _ranked(self, vault: Vault, snapshot: Snapshot, lost: Lost) -> Iterator[tuple[int, Listed]]:
        for listed in files_of(vault, snapshot, lost):
            digest = blake2b(listed.path, digest_size=_RANK_BYTES, key=self.seed.encode()[:64])
            yield int.from_bytes(digest.digest()), listed


def sample_of(text: str, seed: str) -> FileSample:
    """What `100` or `2.5%` asks for. Raises ValueError."""
    if share := _SHARE.fullmatch(text):
        percent = float(share[1])
        if not 0 < percent <= 100:  # noqa: PLR2004 - per cent
            raise ValueError(f"{text} is no share: it is above 0 % and at most 100 %")
        return FileSample(seed, share=percent / 100)
    if not text.isdecimal() or not int(text):
        raise ValueError(f"{text!r} is neither a number of files nor a share such as 5%")
    return FileSample(seed, count=int(text))


def files_of(vault: Vault, snapshot: Snapshot, lost: Lost) -> Iterator[Listed]:
    """The regular files of a snapshot; `lost` is told of folders whose lists cannot be read. Raises StoreError."""
    trees = TreeReader(vault)
    root = Node(b"", NodeType.DIR, subtree=snapshot.tree)
    stack: list[tuple[bytes, Iterator[Node]]] = [(b"", iter([root]))]
    while stack:
        folder, nodes = stack[-1]
        node = _next(folder, nodes, lost)
        if node is None:
            stack.pop()
            continue
        path = folder + b"/" + node.name if node.name else b""
        if node.type is NodeType.FILE:
            yield Listed(path, node)
        subtree = subtree_of(node)
        if subtree is not None:
            try:
                stack.append((path, trees.nodes(subtree)))
            except (DamagedVault, ObjectMissing) as error:
                lost(path or b"/", error)


def _next(folder: bytes, nodes: Iterator[Node], lost: Lost) -> Node | None:
    """The next node of a folder, whose list may turn out to be no list halfway."""
    try:
        return next(nodes, None)
    except DamagedVault as error:
        lost(folder or b"/", error)
        return None


def _rank_of(ranked: tuple[int, Listed]) -> int:
    return ranked[0]


def _path_of(ranked: tuple[int, Listed]) -> bytes:
    return ranked[1].path
