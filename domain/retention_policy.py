"""Retention policies as they are written down: a mode and ranges, read strictly.

Kept true: a policy that is empty, mistyped or of a later version is refused with the field that is wrong, so it removes
nothing; what is written reads as it was. Numbers of modes and types are those of the product that Oort replaces, and
never change, because users' scripts and stored policies hold them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any, NoReturn, TypeVar

from domain.wording import plural

MAXINT = 1 << 50  # the greatest number of a field: for ever
_MOST_RANGES = 32
_LONGEST_ZONE = 100
_LONGEST_NAME = 50
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")


class RetentionMode(IntEnum):
    KEEP_EVERYTHING = 801
    DELETE_EXCEPT = 802


class RangeType(IntEnum):
    """What a range keeps. 904 is reserved."""

    LAST_JOBS = 900  # the last `jobs`
    NEWER_THAN = 901  # since `timestamp`, seconds since 1970
    JOBS_SINCE = 902  # within the last `days`, `weeks`, `months` and `years` together
    FIRST_OF_DAYS = 903  # the first of each of the last `days`, today included
    FIRST_OF_MONTHS = 905  # of each of the last `months`, which begin on day `month_offset`
    FIRST_OF_WEEKS = 906  # of each of the last `weeks`, which begin on weekday `week_offset`, 0 being Sunday
    LATEST_OF_DAYS = 907  # the latest of each of the last `jobs` days that have one
    LATEST_OF_WEEKS = 908  # of weeks, which begin on Monday (ISO 8601)
    LATEST_OF_MONTHS = 909
    LATEST_OF_YEARS = 910
    FIRST_OF_YEARS = 911  # of each of the last `years`, which begin with month `year_offset`


_COUNT = (1, MAXINT)
_ANY = (0, MAXINT)
# The fields of each type, with their least and greatest values.
FIELDS: Mapping[RangeType, Mapping[str, tuple[int, int]]] = {
    RangeType.LAST_JOBS: {"jobs": _COUNT},
    RangeType.NEWER_THAN: {"timestamp": _COUNT},
    RangeType.JOBS_SINCE: {"years": _ANY, "months": _ANY, "weeks": _ANY, "days": _ANY},
    RangeType.FIRST_OF_DAYS: {"days": _COUNT},
    RangeType.FIRST_OF_MONTHS: {"months": _COUNT, "month_offset": (1, 31)},
    RangeType.FIRST_OF_WEEKS: {"weeks": _COUNT, "week_offset": (0, 6)},
    RangeType.LATEST_OF_DAYS: {"jobs": _COUNT},
    RangeType.LATEST_OF_WEEKS: {"jobs": _COUNT},
    RangeType.LATEST_OF_MONTHS: {"jobs": _COUNT},
    RangeType.LATEST_OF_YEARS: {"jobs": _COUNT},
    RangeType.FIRST_OF_YEARS: {"years": _COUNT, "year_offset": (1, 12)},
}
_LEFT_OUT = {"month_offset": 1, "week_offset": 0, "year_offset": 1}  # what an offset is when it is not given


class BadPolicy(ValueError):
    """A rule that is not right, and the field in which it is not. It removes nothing."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.field = field


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """One alternative; of the fields those count that `FIELDS` names for its type."""

    type: RangeType
    jobs: int = 0
    timestamp: int = 0
    days: int = 0
    weeks: int = 0
    months: int = 0
    years: int = 0
    week_offset: int = 0
    month_offset: int = 0
    year_offset: int = 0

    def to_document(self) -> dict[str, int]:
        return {"type": int(self.type), **{name: getattr(self, name) for name in FIELDS[self.type]}}

    def __str__(self) -> str:
        return _IN_WORDS[self.type](self)


@dataclass(frozen=True, slots=True)
class Policy:
    """`time_zone` is the IANA name of the zone whose days count; empty for that of whoever evaluates."""

    mode: RetentionMode
    ranges: tuple[Range, ...] = ()
    time_zone: str = ""

    @property
    def keeps_everything(self) -> bool:
        return self.mode is RetentionMode.KEEP_EVERYTHING

    def to_document(self) -> dict[str, Any]:
        """What `parse_policy` reads."""
        ranges = [one.to_document() for one in self.ranges]
        return {"mode": int(self.mode), "ranges": ranges, "time_zone": self.time_zone}

    def __str__(self) -> str:
        if self.keeps_everything:
            return "keep everything"
        zone = f" (days of {self.time_zone})" if self.time_zone else ""
        return f"keep {'; '.join(map(str, self.ranges))}{zone}"


KEEP_EVERYTHING = Policy(RetentionMode.KEEP_EVERYTHING)


def parse_policy(document: object) -> Policy:
    """A policy from a JSON document. Raises BadPolicy for what is missing, unknown or out of its bounds."""
    fields = _object(document, "policy")
    for name in fields:
        if name not in ("mode", "ranges", "time_zone"):
            _refuse(name, "there is no such field in a policy: it has mode, ranges and time_zone")
    mode = _member(RetentionMode, fields.get("mode"), "mode")
    zone = fields.get("time_zone", "")
    if not isinstance(zone, str) or len(zone) > _LONGEST_ZONE or not zone.isprintable():
        _refuse("time_zone", "it is the name of a time zone, such as Europe/Berlin")
    ranges = fields.get("ranges", [])
    if not isinstance(ranges, list) or len(ranges) > _MOST_RANGES:
        _refuse("ranges", f"it is a list of at most {_MOST_RANGES} ranges")
    if mode is RetentionMode.KEEP_EVERYTHING and ranges:
        _refuse("ranges", f"mode {mode} keeps everything and takes none")
    if mode is RetentionMode.DELETE_EXCEPT and not ranges:
        _refuse("ranges", "it is empty: nothing would be kept")
    return Policy(mode, tuple(_range(one, f"ranges[{place}]") for place, one in enumerate(ranges)), zone)


def _range(document: object, place: str) -> Range:
    fields = dict(_object(document, place))
    kind = _member(RangeType, fields.pop("type", None), f"{place}.type")
    bounds = FIELDS[kind]
    for name in fields:
        if name not in bounds:
            _refuse(f"{place}.{name}", f"type {kind} has no such field: it has {', '.join(bounds)}")
    given = {name: _whole(fields, place, name, *limits) for name, limits in bounds.items()}
    if not any(given.values()):
        _refuse(place, f"of {', '.join(bounds)} at least one is more than 0")
    return Range(kind, **given)


def _whole(fields: Mapping[str, Any], place: str, name: str, least: int, most: int) -> int:
    if name not in fields and (name in _LEFT_OUT or least == 0):
        return _LEFT_OUT.get(name, 0)
    value = fields.get(name)
    if type(value) is not int or not least <= value <= most:  # True is an int, too
        _refuse(f"{place}.{name}", f"it is a whole number from {least} to {most}")
    return value


def _object(document: object, place: str) -> Mapping[str, Any]:
    if not isinstance(document, dict) or not all(isinstance(name, str) for name in document):
        _refuse(place, "it is no JSON object")
    return document


Member = TypeVar("Member", bound=IntEnum)


def _member(kind: type[Member], value: object, place: str) -> Member:
    for member in kind:
        if type(value) is int and member == value:
            return member
    return _refuse(place, f"it is one of {', '.join(str(int(member)) for member in kind)}")


def _refuse(field: str, detail: str) -> NoReturn:
    shown = field if field.isprintable() else repr(field)
    raise BadPolicy(shown[:_LONGEST_NAME], detail)


# In words


LATEST_OF: Mapping[RangeType, str] = {
    RangeType.LATEST_OF_DAYS: "day",
    RangeType.LATEST_OF_WEEKS: "week",
    RangeType.LATEST_OF_MONTHS: "month",
    RangeType.LATEST_OF_YEARS: "year",
}
_UNITS = ("year", "month", "week", "day")
_IN_WORDS: Mapping[RangeType, Callable[[Range], str]] = {
    RangeType.LAST_JOBS: lambda one: "the latest" if one.jobs == 1 else f"the last {one.jobs:,}",
    RangeType.NEWER_THAN: lambda one: f"those since {_second(one.timestamp)}",
    RangeType.JOBS_SINCE: lambda one: f"those not older than {amounts(one)}",
    RangeType.FIRST_OF_DAYS: lambda one: f"the first of each of the last {plural(one.days, 'day')}",
    RangeType.FIRST_OF_WEEKS: lambda one: (
        f"the first of each of the last {plural(one.weeks, 'week')}, from {_WEEKDAYS[one.week_offset]} on"
    ),
    RangeType.FIRST_OF_MONTHS: lambda one: (
        f"the first of each of the last {plural(one.months, 'month')}, from day {one.month_offset} on"
    ),
    RangeType.FIRST_OF_YEARS: lambda one: (
        f"the first of each of the last {plural(one.years, 'year')}, from month {one.year_offset} on"
    ),
    **dict.fromkeys(
        LATEST_OF, lambda one: f"the latest of each of the last {plural(one.jobs, LATEST_OF[one.type])} that have one"
    ),
}


def amounts(one: Range) -> str:
    """The time of a range of type 902: 1 year, 2 weeks."""
    numbers = (one.years, one.months, one.weeks, one.days)
    return ", ".join(plural(number, unit) for number, unit in zip(numbers, _UNITS, strict=True) if number)


def _second(timestamp: int) -> str:
    try:
        return f"{_EPOCH + timedelta(seconds=timestamp):%Y-%m-%d %H:%M:%S} UTC"
    except OverflowError:
        return f"{timestamp:,} seconds after 1970"
