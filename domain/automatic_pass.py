"""Whether a backup is followed by a retention pass: by the level, the time since the last one, and what there is to do.

Kept true: the numbers of levels, and the matrix, are those of the product that Oort replaces.
"""

from bisect import bisect_right
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, IntEnum

_GIB = 1 << 30
_STRONG_MEMORY = 8 * _GIB  # more than this
_WEAK_MEMORY = 2 * _GIB  # at most this
_STRONG_UPTIME = timedelta(days=7)
_STRONG_SIGNS = 2  # of three


class PassLevel(IntEnum):
    """`Auto retention` of a schedule."""

    AUTOMATIC = 0
    IMMEDIATE = 1
    MORE_OFTEN = 2
    LESS_OFTEN = 3


class PassNeed(Enum):
    """NONE: no pass; TRY: its failure is ignored; MUST: its failure is an error."""

    NONE = "none"
    TRY = "try"
    MUST = "must"


@dataclass(frozen=True, slots=True)
class Strength:
    """What a device says of itself; `memory` in bytes."""

    uptime: timedelta
    is_server: bool  # or Linux
    memory: int
    is_32_bit: bool = False

    @property
    def is_strong(self) -> bool:
        """Two of three signs: long up, a server, much memory; never with little memory."""
        memory = min(self.memory, _WEAK_MEMORY) if self.is_32_bit else self.memory
        if memory <= _WEAK_MEMORY:
            return False
        signs = (self.uptime > _STRONG_UPTIME, self.is_server, memory > _STRONG_MEMORY)
        return sum(signs) >= _STRONG_SIGNS


_N, _T, _M = PassNeed.NONE, PassNeed.TRY, PassNeed.MUST
_AGES = (timedelta(days=1), timedelta(days=14), timedelta(days=21))
_EXCESS = (3, 10, 50)  # snapshots that the rules do not keep
_MORE_OFTEN = ((_N, _T, _T, _M), (_N, _T, _M, _M), (_T, _T, _M, _M), (_M, _M, _M, _M))
_LESS_OFTEN = ((_N, _N, _N, _T), (_N, _N, _T, _M), (_N, _T, _T, _M), (_T, _M, _M, _M))


def pass_need(level: PassLevel, since_last: timedelta | None, excess: int) -> PassNeed:
    """What follows a backup, by a level that is not AUTOMATIC; `since_last` is None if there never was a pass.

    A pass is all of it, over the whole vault: snapshots removed by the rules, and what none needs freed. One that
    failed, was of one item, or freed nothing leaves the work to be done, and does not put the next one off.
    `excess` is how many snapshots are over the policy.
    """
    if level is PassLevel.AUTOMATIC:
        raise ValueError("choose the level first")
    if level is PassLevel.IMMEDIATE:
        return PassNeed.MUST
    age = len(_AGES) if since_last is None else bisect_right(_AGES, since_last)
    matrix = _MORE_OFTEN if level is PassLevel.MORE_OFTEN else _LESS_OFTEN
    return matrix[age][bisect_right(_EXCESS, excess)]


def chosen_level(level: PassLevel, devices: int, strength: Strength) -> PassLevel:
    """The level in force: AUTOMATIC is MORE_OFTEN for an account's only device and for a strong one."""
    if level is not PassLevel.AUTOMATIC:
        return level
    return PassLevel.MORE_OFTEN if devices <= 1 or strength.is_strong else PassLevel.LESS_OFTEN
