"""Times as Go writes them in JSON: RFC 3339 with nanoseconds, trailing zeros cut.

Kept true: in the program a time is a whole number of nanoseconds since 1970 in UTC, of any sign; years outside
0000 to 9999 are moved to the nearest of these years, as restic does, since RFC 3339 has no others.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache

_CLOCK = r"(?:[01]\d|2[0-3]):[0-5]\d"
_RFC3339 = re.compile(rf"\d{{4}}-\d\d-\d\dT{_CLOCK}:[0-5]\d(?:\.(\d{{1,9}})\d*)?(?:Z|([+-]{_CLOCK}))", re.ASCII)
_CANONICAL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{0,8}[1-9])?(?:Z|[+-](?!00:00)\d\d:\d\d)", re.ASCII)
_SECOND = len("1970-01-01T00:00:00")
_SCALES: list[int] = [10 ** (9 - digits) for digits in range(10)]  # nanoseconds in the last of so many digits
_DAY = 86_400
_EARLIEST = -719_528 * _DAY  # 0000-01-01
_LATEST = 2_932_897 * _DAY - 1  # 9999-12-31T23:59:59
_FOUR_CENTURIES = 146_097 * _DAY
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a zone would only cost time: all is UTC


def format_time(ns: int) -> str:
    """`ns` nanoseconds since 1970 as Go writes the time in UTC."""
    seconds, fraction = divmod(ns, 1_000_000_000)
    if not fraction:
        return f"{_second(seconds)}Z"
    return f"{_second(seconds)}.{fraction:09d}".rstrip("0") + "Z"


@lru_cache(maxsize=4096)  # files that came together have times together
def _second(seconds: int) -> str:
    seconds = min(max(seconds, _EARLIEST), _LATEST)
    day, second = divmod(seconds, _DAY)
    minute, second = divmod(second, 60)
    hour, minute = divmod(minute, 60)
    return f"{_date(day)}T{hour:02d}:{minute:02d}:{second:02d}"


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


def parse_time(text: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time in any zone. Raises ValueError."""
    second, point, fraction = text[:_SECOND], text[_SECOND : _SECOND + 1], text[_SECOND + 1 : -1]
    if point == "." and text[-1] == "Z" and len(fraction) < len(_SCALES) and fraction.isascii() and fraction.isdigit():
        try:  # as nearly all are, in half the time
            return _whole_second(second) + int(fraction) * _SCALES[len(fraction)]
        except ValueError:
            pass  # what is wrong is said of the whole text
    return _parse(text)


@lru_cache(maxsize=4096)  # as with _second
def _whole_second(text: str) -> int:
    return _parse(text + "Z")


def _parse(text: str) -> int:
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is no RFC 3339 time")
    fraction, zone = match.groups()
    has_year = not text.startswith("0000")  # datetime has no year 0, but 0400 is like it
    seconds = _seconds(text[:19]) if has_year else _seconds("0400" + text[4:19]) - _FOUR_CENTURIES
    if zone:
        east = int(zone[1:3]) * 3600 + int(zone[4:]) * 60
        seconds -= east if zone[0] == "+" else -east
    return seconds * 1_000_000_000 + (int(fraction.ljust(9, "0")) if fraction else 0)


def time_in_ns(time: datetime) -> int:
    """Nanoseconds since 1970 of an aware time."""
    since = time - datetime(1970, 1, 1, tzinfo=UTC)
    return ((since.days * _DAY + since.seconds) * 1_000_000 + since.microseconds) * 1000


@lru_cache(maxsize=4096)  # as with _second
def _seconds(text: str) -> int:
    since = datetime.fromisoformat(text) - _EPOCH
    return since.days * _DAY + since.seconds


def is_canonical_time(text: str) -> bool:
    """Whether Go would have written the time exactly so."""
    return _CANONICAL.fullmatch(text) is not None
