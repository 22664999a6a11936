"""Every range against examples that were worked out by hand, and what must hold for all."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.retention import Candidate, Verdict, evaluate
from domain.retention_policy import FIELDS, KEEP_EVERYTHING, MAXINT, Policy, Range, RangeType, RetentionMode

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")
KIRITIMATI = ZoneInfo("Pacific/Kiritimati")
NOW = datetime(2026, 11, 26, 15, 0, tzinfo=UTC)  # a Thursday


def at(text: str) -> datetime:
    """A time of UTC, if it names no zone."""
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def keep(*ranges: Range) -> Policy:
    return Policy(RetentionMode.DELETE_EXCEPT, ranges)


def judged(times: Sequence[str], *ranges: Range, now: datetime = NOW, zone: tzinfo = UTC) -> Verdict:
    """The verdict on snapshots that are named as their times."""
    return evaluate([Candidate(time, at(time)) for time in times], keep(*ranges), now, zone)


def kept(times: Sequence[str], *ranges: Range, now: datetime = NOW, zone: tzinfo = UTC) -> list[str]:
    """Those that the ranges keep, so without the newest if only that it is the newest keeps it."""
    return by_ranges(judged(times, *ranges, now=now, zone=zone))


def by_ranges(verdict: Verdict) -> list[str]:
    return [name for name, whys in verdict.kept.items() if whys != ("the newest",)]


TIMES = [
    "2024-02-29T12:00",  # leap day
    "2025-10-31T09:00",
    "2025-12-31T23:30",  # Wednesday, of the ISO week 2026-W01
    "2026-01-31T08:00",
    "2026-02-28T08:00",
    "2026-03-31T08:00",
    "2026-10-26T08:00",  # Monday
    "2026-11-15T08:00",  # Sunday
    "2026-11-20T08:00",  # Friday
    "2026-11-22T08:00",  # Sunday
    "2026-11-23T08:00",  # Monday
    "2026-11-25T06:00",
    "2026-11-25T22:00",
    "2026-11-26T01:00",
    "2026-11-26T14:00",
]


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (Range(RangeType.LAST_JOBS, jobs=1), "2026-11-26T14:00"),
        (Range(RangeType.LAST_JOBS, jobs=3), "2026-11-25T22:00 2026-11-26T01:00 2026-11-26T14:00"),
        (Range(RangeType.LAST_JOBS, jobs=MAXINT), " ".join(TIMES)),
        # 1,795,590,000 is 2026-11-25T07:00:00Z.
        (Range(RangeType.NEWER_THAN, timestamp=1_795_590_000), "2026-11-25T22:00 2026-11-26T01:00 2026-11-26T14:00"),
        (Range(RangeType.NEWER_THAN, timestamp=MAXINT), ""),
        # Since 2026-11-25T15:00.
        (Range(RangeType.JOBS_SINCE, days=1), "2026-11-25T22:00 2026-11-26T01:00 2026-11-26T14:00"),
        # Since 2026-11-22T15:00, 2026-11-19T15:00, and 2026-10-26T15:00, seven hours after the one of that day.
        (Range(RangeType.JOBS_SINCE, days=4), " ".join(TIMES[10:])),
        (Range(RangeType.JOBS_SINCE, weeks=1), " ".join(TIMES[8:])),
        (Range(RangeType.JOBS_SINCE, months=1), " ".join(TIMES[7:])),
        # Since 2025-10-18T15:00: a year, a month, a week and a day before.
        (Range(RangeType.JOBS_SINCE, years=1, months=1, weeks=1, days=1), " ".join(TIMES[1:])),
        (Range(RangeType.JOBS_SINCE, years=3000), " ".join(TIMES)),
        (Range(RangeType.JOBS_SINCE, days=MAXINT), " ".join(TIMES)),
        (Range(RangeType.FIRST_OF_DAYS, days=1), "2026-11-26T01:00"),
        (Range(RangeType.FIRST_OF_DAYS, days=2), "2026-11-25T06:00 2026-11-26T01:00"),
        # Days without one count too: four days are the 23rd to the 26th.
        (Range(RangeType.FIRST_OF_DAYS, days=4), "2026-11-23T08:00 2026-11-25T06:00 2026-11-26T01:00"),
        # The month of 2026-11-26 began on the 1st, on the 15th, or on 2026-10-31; February has no 31st.
        (Range(RangeType.FIRST_OF_MONTHS, months=1, month_offset=1), "2026-11-15T08:00"),
        (Range(RangeType.FIRST_OF_MONTHS, months=2, month_offset=1), "2026-10-26T08:00 2026-11-15T08:00"),
        (Range(RangeType.FIRST_OF_MONTHS, months=1, month_offset=20), "2026-11-20T08:00"),
        (Range(RangeType.FIRST_OF_MONTHS, months=1, month_offset=31), "2026-11-15T08:00"),
        (
            # 2025-10-31, 2025-12-31, 2026-01-31 with 2026-02-28 in it, 2026-03-31, 2026-08-31 with 10-26, 2026-10-31.
            Range(RangeType.FIRST_OF_MONTHS, months=13, month_offset=31),
            "2025-10-31T09:00 2025-12-31T23:30 2026-01-31T08:00 2026-03-31T08:00 2026-10-26T08:00 2026-11-15T08:00",
        ),
        # Weeks from Sunday the 22nd, Monday the 23rd, Thursday the 26th; of two from Sunday the 15th.
        (Range(RangeType.FIRST_OF_WEEKS, weeks=1, week_offset=0), "2026-11-22T08:00"),
        (Range(RangeType.FIRST_OF_WEEKS, weeks=2, week_offset=0), "2026-11-15T08:00 2026-11-22T08:00"),
        (Range(RangeType.FIRST_OF_WEEKS, weeks=1, week_offset=1), "2026-11-23T08:00"),
        (Range(RangeType.FIRST_OF_WEEKS, weeks=1, week_offset=4), "2026-11-26T01:00"),
        (Range(RangeType.FIRST_OF_WEEKS, weeks=1, week_offset=5), "2026-11-20T08:00"),
        (Range(RangeType.FIRST_OF_YEARS, years=1, year_offset=1), "2026-01-31T08:00"),
        (Range(RangeType.FIRST_OF_YEARS, years=3, year_offset=1), "2024-02-29T12:00 2025-10-31T09:00 2026-01-31T08:00"),
        # The year of 2026-11-26 began in October 2026, or in December 2025.
        (Range(RangeType.FIRST_OF_YEARS, years=1, year_offset=10), "2026-10-26T08:00"),
        (Range(RangeType.FIRST_OF_YEARS, years=1, year_offset=12), "2025-12-31T23:30"),
        (Range(RangeType.LATEST_OF_DAYS, jobs=2), "2026-11-25T22:00 2026-11-26T14:00"),
        # Days without one do not count.
        (Range(RangeType.LATEST_OF_DAYS, jobs=3), "2026-11-23T08:00 2026-11-25T22:00 2026-11-26T14:00"),
        # Weeks from Mondays: of the 23rd, of the 16th with Sunday the 22nd, of the 9th with Sunday the 15th.
        (Range(RangeType.LATEST_OF_WEEKS, jobs=3), "2026-11-15T08:00 2026-11-22T08:00 2026-11-26T14:00"),
        (Range(RangeType.LATEST_OF_MONTHS, jobs=3), "2026-03-31T08:00 2026-10-26T08:00 2026-11-26T14:00"),
        (Range(RangeType.LATEST_OF_YEARS, jobs=2), "2025-12-31T23:30 2026-11-26T14:00"),
        (Range(RangeType.LATEST_OF_YEARS, jobs=MAXINT), "2024-02-29T12:00 2025-12-31T23:30 2026-11-26T14:00"),
    ],
    ids=str,
)  # fmt: skip
def test_a_range_keeps_what_was_worked_out_by_hand(one: Range, expected: str) -> None:
    assert kept(TIMES, one) == expected.split()


def test_ranges_are_alternatives_and_each_says_why() -> None:
    verdict = judged(
        ["2026-11-01", "2026-11-24", "2026-11-25", "2026-11-26"],
        Range(RangeType.LATEST_OF_MONTHS, jobs=12),
        Range(RangeType.LAST_JOBS, jobs=2),
        Range(RangeType.FIRST_OF_YEARS, years=5, year_offset=1),
    )
    assert verdict.kept == {
        "2026-11-01": ("the first of the year from 2026-01, of the last 5 years",),
        "2026-11-25": ("one of the last 2",),
        "2026-11-26": ("one of the last 2", "the latest of 2026-11, of the last 12 months that have one"),
    }
    assert verdict.unkept == verdict.removed == ("2026-11-24",)


def test_everything_is_kept_by_default() -> None:
    verdict = evaluate([Candidate("a", NOW), Candidate("b", at("1970-01-01"))], KEEP_EVERYTHING, NOW, UTC)
    assert verdict.kept == {"b": ("everything is kept",), "a": ("everything is kept",)}
    assert verdict.removed == ()


def test_rules_that_would_remove_every_snapshot_remove_none() -> None:
    verdict = judged(["2020-01-01", "2021-01-01"], Range(RangeType.JOBS_SINCE, days=30))
    assert verdict.unkept == ("2020-01-01", "2021-01-01")
    assert verdict.keeps_none
    assert verdict.removed == ()
    assert not judged([], Range(RangeType.JOBS_SINCE, days=30)).keeps_none


def test_a_snapshot_comes_after_its_parent_whatever_its_clock_said() -> None:
    ahead = [Candidate("a", NOW, 1), Candidate("2099", at("2099-01-01"), 2), Candidate("b", NOW, 3)]
    assert list(evaluate(ahead, keep(Range(RangeType.LAST_JOBS, jobs=1)), NOW, UTC).kept) == ["b"]
    latest = evaluate(ahead, keep(Range(RangeType.LATEST_OF_DAYS, jobs=1)), NOW, UTC)
    assert list(latest.kept) == ["b"]
    first = evaluate(ahead, keep(Range(RangeType.FIRST_OF_DAYS, days=9)), NOW, UTC)
    assert first.kept == {
        "a": ("the first of 2026-11-26, of the last 9 days",),
        "2099": ("the first of 2099-01-01, of the last 9 days",),
        "b": ("the newest",),
    }


@pytest.mark.parametrize(
    "one",
    [
        Range(RangeType.FIRST_OF_DAYS, days=7),
        Range(RangeType.FIRST_OF_WEEKS, weeks=1, week_offset=5),
        Range(RangeType.FIRST_OF_MONTHS, months=1, month_offset=27),
        Range(RangeType.FIRST_OF_YEARS, years=1, year_offset=12),
    ],
    ids=str,
)
def test_the_first_of_a_period_that_now_has_not_reached_is_kept(one: Range) -> None:
    # Friday 2026-11-27, or December: a few seconds after the end of the day that another clock still shows.
    begin = "2026-12-01T00:00:05" if one.type is RangeType.FIRST_OF_YEARS else "2026-11-27T00:00:05"
    now = at(begin) - timedelta(seconds=25)
    earlier = (now - timedelta(hours=9)).isoformat()
    later = (at(begin) + timedelta(seconds=1)).isoformat()
    assert kept([earlier, begin, later], one, now=now) == [earlier, begin]


def test_the_newest_stays_where_only_older_ones_are_kept_by_rules() -> None:
    times = ["2026-11-26T01:00", "2026-11-26T08:00", "2026-11-26T14:00"]
    verdict = judged(times, Range(RangeType.FIRST_OF_DAYS, days=1))
    assert verdict.kept["2026-11-26T14:00"] == ("the newest",)
    assert verdict.removed == ("2026-11-26T08:00",)


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        # 23:30 of the 24th, 00:30 and 23:30 of the 25th in Berlin; all of them a day later on Kiritimati (UTC+14).
        (BERLIN, ["2026-11-24T22:30", "2026-11-25T22:30"]),
        (UTC, ["2026-11-24T23:30", "2026-11-25T22:30"]),
        (KIRITIMATI, ["2026-11-24T23:30", "2026-11-25T22:30"]),
        (NEW_YORK, ["2026-11-24T23:30", "2026-11-25T22:30"]),
    ],
    ids=str,
)
def test_days_are_those_of_the_zone(zone: tzinfo, expected: list[str]) -> None:
    times = ["2026-11-24T22:30", "2026-11-24T23:30", "2026-11-25T22:30"]
    assert kept(times, Range(RangeType.LATEST_OF_DAYS, jobs=9), zone=zone) == expected


def test_today_is_the_zone_s_and_so_is_the_week() -> None:
    # 15:00 of Thursday in UTC is 05:00 of Friday on Kiritimati.
    assert kept(["2026-11-26T09:00"], Range(RangeType.FIRST_OF_DAYS, days=1), zone=KIRITIMATI) == []
    assert kept(["2026-11-26T11:00"], Range(RangeType.FIRST_OF_DAYS, days=1), zone=KIRITIMATI) == ["2026-11-26T11:00"]
    week = Range(RangeType.FIRST_OF_WEEKS, weeks=1, week_offset=5)
    assert kept(["2026-11-26T09:00", "2026-11-26T11:00"], week, zone=KIRITIMATI) == ["2026-11-26T11:00"]


@pytest.mark.parametrize("zone", [UTC, BERLIN, KIRITIMATI], ids=str)
def test_times_with_their_own_offsets_are_the_same_instants(zone: tzinfo) -> None:
    own = ["2026-11-24T23:30", "2026-11-25T05:00"]
    abroad = ["2026-11-25T13:30+14:00", "2026-11-24T22:00-07:00"]
    for one in (Range(RangeType.LATEST_OF_DAYS, jobs=9), Range(RangeType.LATEST_OF_MONTHS, jobs=9)):
        assert [own.index(name) for name in kept(own, one, zone=zone)] == [
            abroad.index(name) for name in kept(abroad, one, zone=zone)
        ]


def test_a_day_of_25_hours_is_one_day() -> None:
    # On 2026-10-25 Berlin's clocks go from 03:00 back to 02:00; the day is 2026-10-24T22:00Z to 2026-10-25T23:00Z.
    times = ["2026-10-24T21:59", "2026-10-24T22:00", "2026-10-25T00:30", "2026-10-25T01:30", "2026-10-25T22:59"]
    assert kept(times, Range(RangeType.LATEST_OF_DAYS, jobs=9), zone=BERLIN) == ["2026-10-24T21:59", "2026-10-25T22:59"]
    day = Range(RangeType.FIRST_OF_DAYS, days=1)
    assert kept(times, day, now=at("2026-10-25T22:30"), zone=BERLIN) == ["2026-10-24T22:00"]


def test_a_day_before_is_the_same_time_on_the_clock() -> None:
    # 2026-10-25T12:00 in Berlin is 11:00Z; a day before it was 10:00Z.
    times = ["2026-10-24T09:59", "2026-10-24T10:00", "2026-10-24T10:01"]
    day = Range(RangeType.JOBS_SINCE, days=1)
    assert kept(times, day, now=at("2026-10-25T11:00"), zone=BERLIN) == times[1:]
    assert kept(times, day, now=at("2026-10-25T11:00")) == []


def test_of_an_hour_that_comes_twice_or_never_the_earlier_meaning_counts() -> None:
    # 02:30 of 2026-10-25 is 00:30Z and 01:30Z; 02:30 of 2026-03-29 never was, and is 00:30Z or 01:30Z.
    twice = ["2026-10-25T00:29", "2026-10-25T00:30"]
    assert kept(twice, Range(RangeType.JOBS_SINCE, days=1), now=at("2026-10-26T01:30"), zone=BERLIN) == twice[1:]
    never = ["2026-03-29T00:29", "2026-03-29T00:30"]
    assert kept(never, Range(RangeType.JOBS_SINCE, days=1), now=at("2026-03-30T00:30"), zone=BERLIN) == never[1:]


@pytest.mark.parametrize(
    ("now", "one", "since"),
    [
        ("2026-03-31T12:00", Range(RangeType.JOBS_SINCE, months=1), "2026-02-28T12:00"),
        ("2024-03-31T12:00", Range(RangeType.JOBS_SINCE, months=1), "2024-02-29T12:00"),
        ("2024-02-29T12:00", Range(RangeType.JOBS_SINCE, years=1), "2023-02-28T12:00"),
        ("2026-01-31T12:00", Range(RangeType.JOBS_SINCE, months=14), "2024-11-30T12:00"),
        ("2026-05-31T12:00", Range(RangeType.JOBS_SINCE, months=3, days=1), "2026-02-27T12:00"),
    ],
)
def test_a_month_before_its_last_day_is_the_last_day_of_that_month(now: str, one: Range, since: str) -> None:
    just_before = (at(since) - timedelta(seconds=1)).isoformat()
    assert kept([just_before, since], one, now=at(now)) == [since]


def test_months_that_lack_the_day_keep_none() -> None:
    times = ["2026-01-31", "2026-02-28", "2026-03-30", "2026-03-31", "2026-04-30", "2026-05-31"]
    one = Range(RangeType.FIRST_OF_MONTHS, months=MAXINT, month_offset=31)
    assert kept(times, one, now=at("2026-06-01")) == ["2026-01-31", "2026-03-31", "2026-05-31"]
    # On March 5 the last 31st was that of January, and the month before began on December 31.
    one = Range(RangeType.FIRST_OF_MONTHS, months=1, month_offset=31)
    assert kept(["2025-12-31", "2026-01-31", "2026-02-28"], one, now=at("2026-03-05")) == ["2026-01-31"]
    # February counts as a month all the same: two months from March 31 are March and February.
    one = Range(RangeType.FIRST_OF_MONTHS, months=2, month_offset=31)
    assert kept(times, one, now=at("2026-03-31T12:00")) == ["2026-03-31", "2026-05-31"]
    one = Range(RangeType.FIRST_OF_MONTHS, months=2, month_offset=29)
    assert kept(["2024-02-28", "2024-02-29", "2024-03-01"], one, now=at("2024-03-01T12:00")) == [
        "2024-02-28",
        "2024-02-29",
    ]


def test_the_first_and_the_last_days_that_there_are_can_be_judged() -> None:
    ends = [Candidate("first", datetime.min.replace(tzinfo=UTC)), Candidate("last", datetime.max.replace(tzinfo=UTC))]
    for kind in RangeType:
        one = Range(kind, **{name: min(most, MAXINT) for name, (_, most) in FIELDS[kind].items()})
        for zone in (UTC, NEW_YORK, KIRITIMATI):
            evaluate(ends, keep(one), NOW, zone)
            for end in ends:
                evaluate(ends, keep(one), end.time, zone)


# Properties


def ranges() -> st.SearchStrategy[Range]:
    def of(kind: RangeType) -> st.SearchStrategy[Range]:
        fields = {
            name: st.integers(least, most if most < MAXINT else 2_000_000_000 if name == "timestamp" else 40)
            for name, (least, most) in FIELDS[kind].items()
        }
        return st.builds(Range, st.just(kind), **fields)

    return st.sampled_from(RangeType).flatmap(of)


def candidates() -> st.SearchStrategy[list[Candidate]]:
    times = st.integers(-30_000, 3000).map(lambda hours: NOW + timedelta(hours=hours, minutes=hours % 60))
    near = st.integers(-1000, 50).map(lambda hours: NOW + timedelta(hours=hours))
    some = st.lists(st.tuples(times | near, st.integers(0, 3)), max_size=16)
    return some.map(lambda found: [Candidate(f"{place}", *one) for place, one in enumerate(found)])


ZONES = st.sampled_from([UTC, BERLIN, NEW_YORK, KIRITIMATI, ZoneInfo("Australia/Lord_Howe")])
NOWS = st.integers(-20_000, 20_000).map(lambda hours: NOW + timedelta(hours=hours))


@settings(max_examples=40, deadline=None)
@given(candidates(), st.lists(ranges(), min_size=1, max_size=4), ranges(), NOWS, ZONES)
def test_a_further_rule_never_keeps_less(
    snapshots: list[Candidate], some: list[Range], more: Range, now: datetime, zone: tzinfo
) -> None:
    before = evaluate(snapshots, keep(*some), now, zone)
    after = evaluate(snapshots, keep(*some, more), now, zone)
    assert before.kept.keys() <= after.kept.keys()
    assert all(set(whys) - {"the newest"} <= set(after.kept[name]) for name, whys in before.kept.items())


@settings(max_examples=40, deadline=None)
@given(candidates(), st.lists(ranges(), min_size=1, max_size=4), NOWS, ZONES, st.randoms(use_true_random=False))
def test_no_order_changes_the_outcome(
    snapshots: list[Candidate], some: list[Range], now: datetime, zone: tzinfo, random: Random
) -> None:
    shuffled, others = list(snapshots), list(some)
    random.shuffle(shuffled)
    random.shuffle(others)
    assert evaluate(shuffled, keep(*others), now, zone) == evaluate(snapshots, keep(*some), now, zone)


@settings(max_examples=40, deadline=None)
@given(candidates(), st.lists(ranges(), min_size=1, max_size=4), NOWS, ZONES)
def test_every_snapshot_is_kept_for_a_reason_or_is_not_kept(
    snapshots: list[Candidate], some: list[Range], now: datetime, zone: tzinfo
) -> None:
    verdict = evaluate(snapshots, keep(*some), now, zone)
    assert sorted([*verdict.kept, *verdict.unkept]) == sorted(one.id for one in snapshots)
    assert all(verdict.kept.values())
    assert not verdict.removed or verdict.kept
    newest = max(snapshots, key=lambda one: (one.order, one.time, one.id), default=None)
    assert newest is None or newest.id not in verdict.removed
    by_count = [evaluate(snapshots, keep(one), now, zone) for one in some]
    assert verdict.kept.keys() == {name for one in by_count for name in one.kept}


@settings(max_examples=40, deadline=None)
@given(candidates(), st.sampled_from(RangeType), st.integers(1, 40), NOWS, ZONES)
def test_a_greater_number_never_keeps_less(
    snapshots: list[Candidate], kind: RangeType, number: int, now: datetime, zone: tzinfo
) -> None:
    if kind is RangeType.NEWER_THAN:
        return
    counts = [name for name in FIELDS[kind] if not name.endswith("_offset")]
    offsets = {name: 1 for name in FIELDS[kind] if name.endswith("_offset")}
    fewer = evaluate(snapshots, keep(Range(kind, **dict.fromkeys(counts, number), **offsets)), now, zone)
    more = evaluate(snapshots, keep(Range(kind, **dict.fromkeys(counts, number + 1), **offsets)), now, zone)
    assert fewer.kept.keys() <= more.kept.keys()
