"""The border in a random order: which ranks come before it, found without sorting them all.

Kept true: memory is that of the arrays that are given; of the ranks, one in thousands is looked at by itself.
"""

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from array import array

_DRAWERS = 1 << 12
_SHIFT = 64 - 12


def last_within(ranks: "array[int]", weights: "array[int]", limit: int) -> int:
    """The last rank, in their order, up to which the weights come to no more than the limit; else the first.

    There is at least one rank; each is a number of 64 bits and has a weight.
    """
    totals = [0] * _DRAWERS  # of the ranks that have the same first bits: one drawer alone is sorted
    for rank, weight in zip(ranks, weights, strict=True):
        totals[rank >> _SHIFT] += weight
    together = list(accumulate(totals))
    drawer = bisect_right(together, limit)
    if drawer == _DRAWERS:
        return max(ranks)
    room = limit - (together[drawer - 1] if drawer else 0)
    last = max((rank for rank in ranks if rank >> _SHIFT < drawer), default=None)
    for rank, weight in sorted(each for each in zip(ranks, weights, strict=True) if each[0] >> _SHIFT == drawer):
        room -= weight
        if room < 0 and last is not None:
            return last
        last = rank
        if room <= 0:
            return last
    raise AssertionError("this drawer has more than there is room for")
