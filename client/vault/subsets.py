"""Which packs a check reads when it does not read all: restic's three ways of saying it.

Kept true: a share or an amount is a random sample, which the same seed draws again from the same packs; of `n/t` the
t parts are always the same and have no pack in common, so that t checks read all. Memory is 16 bytes a pack, while it
is drawn.
"""

import re
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

from client.vault.pack_sizes import PackSizes
from client.vault.ranks import last_within
from domain.names import ObjectName

MOST_PARTS = 256  # parts go by the first byte of a pack's id, as restic's do
_PART = re.compile(r"(\d+)/(\d+)")
_SHARE = re.compile(r"(\d+(?:\.\d+)?)%")
_RANK_BYTES = 8

Reads = Callable[[ObjectName], bool]


@dataclass(frozen=True, slots=True)
class Part:
    """Part `number` of `parts`, from 1 on."""

    number: int
    parts: int

    def chosen(self, _sizes: PackSizes) -> Reads:
        return lambda pack: int(pack.id[:2], 16) % self.parts == self.number - 1


@dataclass(frozen=True, slots=True)
class Sample:
    """A random sample: `share` of all packs (0 to 1), or packs of `size` bytes together; at least one pack."""

    seed: str
    share: float = 0.0
    size: int = 0

    def chosen(self, sizes: PackSizes) -> Reads:
        ranks = array("Q", (self._rank(pack) for pack, _ in sizes.all()))
        if not ranks:
            return lambda _: False
        if self.size:
            last = last_within(ranks, array("Q", (size for _, size in sizes.all())), self.size)
        else:
            last = last_within(ranks, array("B", [1]) * len(ranks), int(len(ranks) * self.share))
        return lambda pack: self._rank(bytes.fromhex(pack.id)) <= last

    def _rank(self, pack: bytes) -> int:
        return int.from_bytes(blake2b(pack, digest_size=_RANK_BYTES, key=self.seed.encode()[:64]).digest())


Subset = Part | Sample


def subset_of(text: str, seed: str, size_of: Callable[[str], int]) -> Subset:
    """What `5%`, `1/7` or a size such as `2G` says. Raises ValueError, and whatever `size_of` does."""
    if part := _PART.fullmatch(text):
        number, parts = map(int, part.groups())
        if not 1 <= number <= parts <= MOST_PARTS:
            raise ValueError(f"there is no part {number} of {parts}: of at most {MOST_PARTS} parts, the first is 1")
        return Part(number, parts)
    if share := _SHARE.fullmatch(text):
        percent = float(share[1])
        if not 0 < percent <= 100:  # noqa: PLR2004 - per cent
            raise ValueError(f"{text} is no share: it is above 0 % and at most 100 %")
        return Sample(seed, share=percent / 100)
    size = size_of(text)
    if not size:
        raise ValueError("a subset of no bytes reads nothing")
    return Sample(seed, size=size)
