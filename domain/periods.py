"""Days, weeks, months and years of a time zone, counted so that periods can be compared.

Kept true: a period belongs to the wall clock of its zone, so a day of 23 or 25 hours is one day; nothing here fails
for the first or the last day that there is.
"""

from calendar import isleap
from datetime import UTC, date, datetime, timedelta, tzinfo

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - the offset is taken off by itself
_MONTHS = 12
_DAYS = 7
_FEBRUARY = 2
_DAYS_OF_MONTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def local(time: datetime, zone: tzinfo) -> datetime:
    """The wall clock of a zone at an instant; of UTC where the zone's would be outside the years 1 to 9999."""
    try:
        return time.astimezone(zone)
    except OverflowError:
        return time.astimezone(UTC)


def instant(time: datetime) -> timedelta:
    """Since 1970 in UTC. Unlike datetimes of one zone, these compare right when a clock is put back."""
    return time.replace(tzinfo=None) - _EPOCH - (time.utcoffset() or timedelta())


def earlier(wall: datetime, *, years: int = 0, months: int = 0, days: int = 0) -> timedelta | None:
    """The instant that calendar time before a wall clock with its zone; None if there is no such year.

    A month that lacks the day gives its last one. Where a clock was put forward or back, the earlier meaning counts.
    """
    month = _month_number(wall.date()) - years * _MONTHS - months
    if month < _MONTHS:
        return None
    day = min(wall.day, _days_in(month))
    ordinal = date(month // _MONTHS, month % _MONTHS + 1, day).toordinal() - days
    if ordinal < 1:
        return None
    then = datetime.combine(date.fromordinal(ordinal), wall.time(), wall.tzinfo)
    return min(instant(then.replace(fold=fold)) for fold in (0, 1))


def week_start(day: date, first: int) -> int:
    """The ordinal of the day on which its week begins; weeks begin on the weekday `first`, 0 being Sunday."""
    return day.toordinal() - (day.isoweekday() - first) % _DAYS


def month_from(day: date, first: int) -> int:
    """The number of the month on whose day `first` the period of `day` began.

    Months that lack the day begin no period, so the one before goes on through them.
    """
    month = _month_number(day) - (day.day < first)
    while _days_in(month) < first:
        month -= 1
    return month


def month_start(month: int, first: int) -> str:
    """The date of day `first` of a month, as text."""
    return f"{month // _MONTHS:04}-{month % _MONTHS + 1:02}-{first:02}"


def year_from(day: date, first: int) -> int:
    """The year in which the period of `day` began, on the first day of its month `first`."""
    return day.year - (day.month < first)


def _month_number(day: date) -> int:
    return day.year * _MONTHS + day.month - 1


def _days_in(month: int) -> int:
    of_year = month % _MONTHS + 1
    return _DAYS_OF_MONTHS[of_year - 1] + (of_year == _FEBRUARY and isleap(month // _MONTHS))
