"""Which snapshots of an item a policy keeps, and why.

Kept true: ranges are alternatives, so a further one never keeps less; the outcome hangs on no order in which snapshots
or ranges are given; rules that would remove every snapshot remove none; and the newest is never removed, whatever the
clocks say. A period that begins after now counts as one of the last. The clock and the zone are the caller's.

A snapshot is newer than its parent whatever its clock said (docs/decisions/clocks.md): `order` says what came after
what, and a time only in which period a snapshot lies.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

from domain.periods import earlier, instant, local, month_from, month_start, week_start, year_from
from domain.retention_policy import LATEST_OF, Policy, Range, RangeType, amounts
from domain.wording import plural

_SECOND = timedelta(seconds=1)
_DAYS_OF_WEEK = 7


@dataclass(frozen=True, slots=True)
class Candidate:
    """A snapshot of an item: when it was made, with its zone. A greater `order` is newer, then a later time."""

    id: str
    time: datetime
    order: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """`kept` has the ranges that keep each snapshot, in words; `unkept` are those that none keeps, oldest first."""

    kept: Mapping[str, tuple[str, ...]]
    unkept: tuple[str, ...]

    @property
    def keeps_none(self) -> bool:
        """Whether no snapshot would be left, which is taken as a mistake."""
        return bool(self.unkept) and not self.kept

    @property
    def removed(self) -> tuple[str, ...]:
        """What is to be removed, oldest first: nothing, if nothing would be left."""
        return () if self.keeps_none else self.unkept


def evaluate(snapshots: Iterable[Candidate], policy: Policy, now: datetime, zone: tzinfo) -> Verdict:
    """Apply a policy to the snapshots of one item; `now` has a zone, and days are those of `zone`."""
    oldest_first = sorted(snapshots, key=lambda one: (one.order, instant(one.time), one.id))
    if policy.keeps_everything:
        return Verdict({one.id: ("everything is kept",) for one in oldest_first}, ())
    placed = [_Placed(one.id, instant(one.time), local(one.time, zone).date()) for one in oldest_first]
    reasons: dict[str, list[str]] = {one.id: [] for one in placed}
    for one in sorted(set(policy.ranges)):
        for kept, why in _KEEP[one.type](one, placed, local(now, zone)):
            reasons[kept.id].append(why)
    if any(reasons.values()) and not reasons[placed[-1].id]:  # rules that keep nothing stay the mistake that they are
        reasons[placed[-1].id].append("the newest")
    return Verdict(
        {name: tuple(whys) for name, whys in reasons.items() if whys},
        tuple(name for name, whys in reasons.items() if not whys),
    )


@dataclass(frozen=True, slots=True)
class _Placed:
    """A snapshot with its instant since 1970, and its day on the wall clock."""

    id: str
    instant: timedelta
    day: date


# What a range keeps of the snapshots, oldest first, by a wall clock; each with the reason in words.
_Kept = Iterator[tuple[_Placed, str]]
_Keep = Callable[[Range, Sequence[_Placed], datetime], _Kept]


def _last_jobs(one: Range, placed: Sequence[_Placed], _now: datetime) -> _Kept:
    for snapshot in placed[-one.jobs :]:
        yield snapshot, str(one) if one.jobs == 1 else f"one of {one}"


def _newer_than(one: Range, placed: Sequence[_Placed], _now: datetime) -> _Kept:
    for snapshot in placed:
        if snapshot.instant // _SECOND >= one.timestamp:
            yield snapshot, str(one).removeprefix("those ")


def _jobs_since(one: Range, placed: Sequence[_Placed], now: datetime) -> _Kept:
    days = one.days + one.weeks * _DAYS_OF_WEEK
    since = earlier(now, years=one.years, months=one.months, days=days)
    for snapshot in placed:
        if since is None or snapshot.instant >= since:
            yield snapshot, f"not older than {amounts(one)}"


def _first_of_days(one: Range, placed: Sequence[_Placed], now: datetime) -> _Kept:
    today = now.date().toordinal()
    for snapshot in _firsts(placed, lambda day: day):
        if snapshot.day.toordinal() > today - one.days:
            yield snapshot, f"the first of {snapshot.day}, of the last {plural(one.days, 'day')}"


def _first_of_weeks(one: Range, placed: Sequence[_Placed], now: datetime) -> _Kept:
    this = week_start(now.date(), one.week_offset)
    for snapshot in _firsts(placed, lambda day: week_start(day, one.week_offset)):
        start = week_start(snapshot.day, one.week_offset)
        if start > this - one.weeks * _DAYS_OF_WEEK:
            begin = date.fromordinal(max(start, 1))
            yield snapshot, f"the first of the week from {begin}, of the last {plural(one.weeks, 'week')}"


def _first_of_months(one: Range, placed: Sequence[_Placed], now: datetime) -> _Kept:
    this = month_from(now.date(), one.month_offset)
    for snapshot in _firsts(placed, lambda day: month_from(day, one.month_offset)):
        month = month_from(snapshot.day, one.month_offset)
        if month > this - one.months:
            begin = month_start(month, one.month_offset)
            yield snapshot, f"the first of the month from {begin}, of the last {plural(one.months, 'month')}"


def _first_of_years(one: Range, placed: Sequence[_Placed], now: datetime) -> _Kept:
    this = year_from(now.date(), one.year_offset)
    for snapshot in _firsts(placed, lambda day: year_from(day, one.year_offset)):
        year = year_from(snapshot.day, one.year_offset)
        if year > this - one.years:
            begin = f"{year:04}-{one.year_offset:02}"
            yield snapshot, f"the first of the year from {begin}, of the last {plural(one.years, 'year')}"


def _latest_of(one: Range, placed: Sequence[_Placed], _now: datetime) -> _Kept:
    unit = LATEST_OF[one.type]
    seen: set[str] = set()
    for snapshot in reversed(placed):
        period = _period_name(one.type, snapshot.day)
        if period not in seen:
            if len(seen) == one.jobs:
                return
            seen.add(period)
            yield snapshot, f"the latest of {period}, of the last {plural(one.jobs, unit)} that have one"


def _period_name(kind: RangeType, day: date) -> str:
    match kind:
        case RangeType.LATEST_OF_DAYS:
            return str(day)
        case RangeType.LATEST_OF_WEEKS:
            year, week, _ = day.isocalendar()
            return f"week {year:04}-W{week:02}"
        case RangeType.LATEST_OF_MONTHS:
            return f"{day.year:04}-{day.month:02}"
        case _:
            return f"{day.year:04}"


def _firsts(placed: Sequence[_Placed], period: Callable[[date], Hashable]) -> Iterable[_Placed]:
    """The first snapshot of each period."""
    found: dict[Hashable, _Placed] = {}
    for snapshot in placed:
        found.setdefault(period(snapshot.day), snapshot)
    return found.values()


_KEEP: Mapping[RangeType, _Keep] = {
    RangeType.LAST_JOBS: _last_jobs,
    RangeType.NEWER_THAN: _newer_than,
    RangeType.JOBS_SINCE: _jobs_since,
    RangeType.FIRST_OF_DAYS: _first_of_days,
    RangeType.FIRST_OF_MONTHS: _first_of_months,
    RangeType.FIRST_OF_WEEKS: _first_of_weeks,
    **dict.fromkeys(LATEST_OF, _latest_of),
    RangeType.FIRST_OF_YEARS: _first_of_years,
}
