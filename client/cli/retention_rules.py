"""The options that say what a retention keeps, for `retention` and for `vault retention`.

Kept true: what they make is read as a stored policy is, so the same mistakes are refused in the same words.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from client.cli.amounts import time_of
from client.cli.parameters import Option
from client.errors import BadRetention

if TYPE_CHECKING:
    from collections.abc import Mapping

    from domain.retention_policy import Policy

_WITHIN = re.compile(r"(?:(\d+)y)?(?:(\d+)m)?(?:(\d+)w)?(?:(\d+)d)?", re.ASCII)
_WITH_BEGIN = re.compile(r"(\d+)(?:@([a-z]+|\d+))?", re.ASCII)
_WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_SHORTEST_WEEKDAY = 3

Number = int | None
Text = str | None
KeepAll = Annotated[bool, Option("--keep-all", help="Keep everything.")]
KeepLast = Annotated[Number, Option("--keep-last", help="Keep the last N.", metavar="N")]
KeepSince = Annotated[Text, Option("--keep-since", help="Keep what was made since a date or time.", metavar="TIME")]
KeepWithin = Annotated[
    Text, Option("--keep-within", help="Keep what is not older, such as 30d or 1y6m2w3d.", metavar="AGE")
]
KeepDaily = Annotated[Number, Option("--keep-daily", help="Keep the latest of each of N days.", metavar="N")]
KeepWeekly = Annotated[Number, Option("--keep-weekly", help="Of each of N weeks, from Monday on.", metavar="N")]
KeepMonthly = Annotated[Number, Option("--keep-monthly", help="Of each of N months.", metavar="N")]
KeepYearly = Annotated[Number, Option("--keep-yearly", help="Of each of N years.", metavar="N")]
KeepFirstDaily = Annotated[
    Number, Option("--keep-first-daily", help="Keep the first of each of the last N days.", metavar="N")
]
KeepFirstWeekly = Annotated[
    Text, Option("--keep-first-weekly", help="Of N weeks, which begin on WEEKDAY or Sunday.", metavar="N[@WEEKDAY]")
]
KeepFirstMonthly = Annotated[
    Text, Option("--keep-first-monthly", help="Of N months, which begin on DAY or 1.", metavar="N[@DAY]")
]
KeepFirstYearly = Annotated[
    Text, Option("--keep-first-yearly", help="Of N years, which begin with MONTH or 1.", metavar="N[@MONTH]")
]


@dataclass(frozen=True, slots=True)
class KeepOptions:
    """What was given of the options."""

    all: bool = False
    last: Number = None
    since: Text = None
    within: Text = None
    daily: Number = None
    weekly: Number = None
    monthly: Number = None
    yearly: Number = None
    first_daily: Number = None
    first_weekly: Text = None
    first_monthly: Text = None
    first_yearly: Text = None

    def policy(self, time_zone: str = "") -> "Policy | None":
        """The policy that they make, or None if none was given. Raises BadRetention."""
        from domain.retention_policy import RangeType, RetentionMode

        ranges: list[dict[str, int]] = []

        def add(option: str, kind: RangeType, fields: "Mapping[str, int] | None") -> None:
            if fields is not None:
                ranges.append({"type": int(kind), **fields})
                self._read({"mode": int(RetentionMode.DELETE_EXCEPT), "ranges": ranges[-1:]}, option)

        add("--keep-last", RangeType.LAST_JOBS, _jobs(self.last))
        add("--keep-since", RangeType.NEWER_THAN, _since(self.since))
        add("--keep-within", RangeType.JOBS_SINCE, _within(self.within))
        add("--keep-daily", RangeType.LATEST_OF_DAYS, _jobs(self.daily))
        add("--keep-weekly", RangeType.LATEST_OF_WEEKS, _jobs(self.weekly))
        add("--keep-monthly", RangeType.LATEST_OF_MONTHS, _jobs(self.monthly))
        add("--keep-yearly", RangeType.LATEST_OF_YEARS, _jobs(self.yearly))
        add("--keep-first-daily", RangeType.FIRST_OF_DAYS, _jobs(self.first_daily, "days"))
        add("--keep-first-weekly", RangeType.FIRST_OF_WEEKS, _first(self.first_weekly, "week"))
        add("--keep-first-monthly", RangeType.FIRST_OF_MONTHS, _first(self.first_monthly, "month"))
        add("--keep-first-yearly", RangeType.FIRST_OF_YEARS, _first(self.first_yearly, "year"))
        if self.all and ranges:
            raise BadRetention(detail="--keep-all keeps everything: give it alone")
        if not self.all and not ranges:
            return None
        mode = RetentionMode.KEEP_EVERYTHING if self.all else RetentionMode.DELETE_EXCEPT
        return self._read({"mode": int(mode), "ranges": ranges, "time_zone": "" if self.all else time_zone})

    @staticmethod
    def _read(document: "Mapping[str, Any]", option: str = "") -> "Policy":
        from domain.retention_policy import BadPolicy, parse_policy

        try:
            return parse_policy(document)
        except BadPolicy as error:
            said = str(error).removeprefix("ranges[0]").lstrip(".: ")
            raise BadRetention(detail=f"{option}: {said}" if option else said) from None


def _jobs(number: Number, field: str = "jobs") -> "Mapping[str, int] | None":
    return None if number is None else {field: number}


def _since(text: Text) -> "Mapping[str, int] | None":
    return None if text is None else {"timestamp": time_of(text) // 1_000_000_000}


def _within(text: Text) -> "Mapping[str, int] | None":
    if text is None:
        return None
    match = _WITHIN.fullmatch(text)
    if match is None or not text:
        raise BadRetention(detail=f"--keep-within: {text!r} is no age such as 30d, 8w, 6m, 2y or 1y6m")
    fields = zip(("years", "months", "weeks", "days"), match.groups(), strict=True)
    return {field: int(number) for field, number in fields if number}


def _first(text: Text, unit: str) -> "Mapping[str, int] | None":
    if text is None:
        return None
    option = f"--keep-first-{unit}ly"
    match = _WITH_BEGIN.fullmatch(text.lower())
    if match is None:
        raise BadRetention(detail=f"{option}: {text!r} is no number, nor a number, @ and where a {unit} begins")
    number, begin = match.groups()
    fields = {f"{unit}s": int(number)}
    if begin is not None:
        fields[f"{unit}_offset"] = int(begin) if begin.isdigit() else _weekday(begin, option, unit)
    return fields


def _weekday(text: str, option: str, unit: str) -> int:
    if unit == "week" and len(text) >= _SHORTEST_WEEKDAY:
        for number, name in enumerate(_WEEKDAYS):
            if name.startswith(text):
                return number
    raise BadRetention(detail=f"{option}: {text!r} is not where a {unit} begins")
