"""How many bytes a second may go over a line, and when: one rate, or those of a week.

The grammar is that of rclone's --bwlimit (https://rclone.org/docs/, "Bandwidth limit"), with two differences: a rate
must say its unit, for 512 would be 512 KiB/s there and 512 bytes/s elsewhere, and whether it is for up or down is not
said within it. Moments are those of the clock on the wall, without a zone: an hour that a change of summer time skips
or repeats counts as any other.
"""

import re
from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime, timedelta

OFF = "off"
LEAST = 1 << 10  # bytes/s; at less a single pack of 16 MiB would take more than five hours
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = 24 * 3600
_WEEK = 7 * _DAY
_RATE = re.compile(r"(\d+(?:\.\d+)?)([kmg])", re.IGNORECASE)
_STEPS = {"k": 10, "m": 20, "g": 30}
_MOST_DIGITS = 12
_ENTRY = re.compile(r"(?:([a-z]{3})-)?(\d{1,2}):(\d{2}),(\S+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Timetable:
    """Rates by the week: each of `changes` has the second since Monday 00:00 from which its rate holds, ascending.

    A rate is in bytes a second; None is no limit. The last one of the week holds until the first.
    """

    changes: tuple[tuple[int, int | None], ...]

    @classmethod
    def parse(cls, text: str) -> "Timetable":
        """From `1M`, `off`, `08:00,512k 18:00,off` or `mon-08:00,512k sat-00:00,off`.

        An entry without a day is for every day. Raises ValueError with a line for a person.
        """
        words = text.split()
        if len(words) == 1 and "," not in words[0]:
            return cls(((0, _rate(words[0])),))
        changes: dict[int, int | None] = {}
        for word in words:
            seconds, rate = _entry(word)
            for second in seconds:
                if second in changes:
                    raise ValueError(f"{word!r} begins when another entry does: leave one out")
                changes[second] = rate
        if not changes:
            raise ValueError("a limit is a rate such as 1M, a timetable, or off")
        return cls(tuple(sorted(changes.items())))

    def rate_at(self, moment: datetime) -> int | None:
        """Bytes a second; None if there is no limit."""
        return self._from(_second_of_week(moment))[0]

    def seconds_for(self, size: int, start: datetime) -> float:
        """How long `size` bytes take that begin at `start`, at the rates of then and after."""
        left, taken, second = float(size), 0.0, _second_of_week(start)
        while True:
            rate, lasts = self._from(second)
            if rate is None or left <= rate * lasts:
                return taken + (left / rate if rate else 0)
            left -= rate * lasts
            taken += lasts
            second = (second + lasts) % _WEEK

    def _from(self, second: float) -> tuple[int | None, float]:
        """The rate at a second of the week, and for how many seconds it goes on; that of one rate always is a week."""
        after = bisect_right(self.changes, second, key=lambda change: change[0])
        until = self.changes[after % len(self.changes)][0]
        return self.changes[after - 1][1], (until - second) % _WEEK or _WEEK


def _second_of_week(moment: datetime) -> float:
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return moment.weekday() * _DAY + (moment - midnight) / timedelta(seconds=1)


def _entry(word: str) -> tuple[list[int], int | None]:
    """The seconds of the week at which it begins to hold, and its rate."""
    found = _ENTRY.fullmatch(word)
    if found is None:
        raise ValueError(f"{word!r} is no entry of a timetable: write 08:00,512k or mon-08:00,512k, and spaces between")
    day, hours, minutes = (found[1] or "").lower(), int(found[2]), int(found[3])
    if day and day not in _DAYS:
        raise ValueError(f"{found[1]!r} is no day: write one of {', '.join(_DAYS)}")
    if hours > 23 or minutes > 59:  # noqa: PLR2004 - of a day and of an hour
        raise ValueError(f"{word!r} has a time that no day has")
    days = [_DAYS.index(day)] if day else range(len(_DAYS))
    return [one * _DAY + hours * 3600 + minutes * 60 for one in days], _rate(found[4])


def _rate(word: str) -> int | None:
    if word.lower() == OFF:
        return None
    found = _RATE.fullmatch(word)
    if found is None or len(found[1]) > _MOST_DIGITS:
        raise ValueError(f"{word!r} is no rate: write a number of bytes a second with k, M or G, such as 512k, or off")
    rate = int(float(found[1]) * (1 << _STEPS[found[2].lower()]))
    if rate < LEAST:
        raise ValueError(f"{word!r} is too little to store anything: 1k is the least, and off lifts the limit")
    return rate
