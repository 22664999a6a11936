"""Times as Go writes them in JSON: RFC 3339 with nanoseconds, trailing zeros cut.

Kept true: in the program a time is a whole number of nanoseconds since 1970 in UTC, of any sign; years outside
0000 to 9999 are moved to the nearest of these years, as restic does, since RFC 3339 has no others.
"""

import re
from functools import lru_cache

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII
)
_CANONICAL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{0,8}[1-9])?(?:Z|[+-](?!00:00)\d\d:\d\d)", re.ASCII)
_DAY = 86_400
_EARLIEST = -719_528 * _DAY  # 0000-01-01
_LATEST = 2_932_897 * _DAY - 1  # 9999-12-31T23:59:59
_MONTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def format_time(ns: int) -> str:
    """`ns` nanoseconds since 1970 as Go writes the time in UTC."""
    seconds, fraction = divmod(ns, 1_000_000_000)
    seconds = min(max(seconds, _EARLIEST), _LATEST)
    day, second = divmod(seconds, _DAY)
    minute, second = divmod(second, 60)
    hour, minute = divmod(minute, 60)
    if not fraction:
        return f"{_date(day)}T{hour:02d}:{minute:02d}:{second:02d}Z"
    return f"{_date(day)}T{hour:02d}:{minute:02d}:{second:02d}." + f"{fraction:09d}".rstrip("0") + "Z"


@lru_cache(maxsize=4096)
def _date(day: int) -> str:
    """The civil date of a day since 1970 (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms")."""
    shifted = day + 719_468
    era, of_era = divmod(shifted, 146_097)
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    date = of_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9  # noqa: PLR2004 - the algorithm's year begins in March
    return f"{year + era * 400 + (month <= 2):04d}-{month:02d}-{date:02d}"  # noqa: PLR2004


@lru_cache(maxsize=4096)
def _day(year: int, month: int, date: int) -> int:
    """The inverse of `_date`. Raises ValueError for a date that does not exist."""
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= month <= 12 or not 1 <= date <= _MONTHS[month - 1] + (leap and month == 2):  # noqa: PLR2004
        raise ValueError("no such date")
    year -= month <= 2  # noqa: PLR2004
    era, of_era = divmod(year, 400)
    of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + date - 1  # noqa: PLR2004
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def parse_time(text: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time in any zone. Raises ValueError."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is no RFC 3339 time")
    year, month, date, hour, minute, second = map(int, match.group(1, 2, 3, 4, 5, 6))
    if hour > 23 or minute > 59 or second > 59:  # noqa: PLR2004
        raise ValueError(f"{text!r} is no time of day")
    seconds = _day(year, month, date) * _DAY + hour * 3600 + minute * 60 + second
    sign, zone_hour, zone_minute = match.group(8, 9, 10)
    if sign:
        if int(zone_hour) > 23 or int(zone_minute) > 59:  # noqa: PLR2004
            raise ValueError(f"{text!r} has no valid zone")
        seconds -= (int(zone_hour) * 3600 + int(zone_minute) * 60) * (-1 if sign == "-" else 1)
    return seconds * 1_000_000_000 + int((match.group(7) or "").ljust(9, "0"))


def is_canonical_time(text: str) -> bool:
    """Whether Go would have written the time exactly so."""
    return _CANONICAL.fullmatch(text) is not None
