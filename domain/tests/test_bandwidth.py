from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.bandwidth import Timetable

K, M = 1 << 10, 1 << 20
MONDAY = datetime(2026, 11, 23)  # noqa: DTZ001 - the wall's
WORKING_HOURS = "mon-08:00,512k mon-18:00,off tue-08:00,1M sat-00:00,2M"


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return MONDAY + timedelta(days=day, hours=hour, minutes=minute)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("1M", M), ("512k", 512 * K), ("1.5M", 3 * M // 2), ("2G", 2 << 30), ("1K", K), ("off", None), ("OFF", None)],
)
def test_one_rate_holds_always(text: str, rate: int | None) -> None:
    timetable = Timetable.parse(text)
    assert {timetable.rate_at(at(day, hour)) for day in range(7) for hour in range(24)} == {rate}


def test_an_entry_without_a_day_is_for_every_day_and_the_last_one_holds_through_the_night() -> None:
    timetable = Timetable.parse("08:00,512k 12:30,10M 18:00,off")
    for day in range(7):
        rates = [timetable.rate_at(at(day, *time)) for time in ((0, 0), (8, 0), (12, 29), (12, 30), (17, 59), (18, 0))]
        assert rates == [None, 512 * K, 512 * K, 10 * M, 10 * M, None]


def test_an_entry_with_a_day_holds_until_the_next_one_of_the_week() -> None:
    timetable = Timetable.parse(WORKING_HOURS)
    assert timetable.rate_at(at(0, 7)) == 2 * M, "the last one of the week before"
    assert timetable.rate_at(at(0, 8)) == 512 * K
    assert timetable.rate_at(at(1, 7)) is None
    assert timetable.rate_at(at(4, 23, 59)) == M
    assert timetable.rate_at(at(6, 12)) == 2 * M


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a rate such as 1M"),
        ("512", "is no rate"),
        ("0", "is no rate"),
        ("-1M", "is no rate"),
        ("1MB", "is no rate"),
        ("nan", "is no rate"),
        (f"{'9' * 400}G", "is no rate"),
        ("0.5k", "too little"),
        ("0M", "too little"),
        ("1M 2M", "no entry of a timetable"),
        ("08:00,1M 2M", "no entry of a timetable"),
        ("08:00", "is no rate"),
        ("8,1M", "no entry of a timetable"),
        ("24:00,1M", "a time that no day has"),
        ("12:60,1M", "a time that no day has"),
        ("day-12:00,1M", "is no day"),
        ("12:00,1M:2M", "is no rate"),
        ("12:00,1M 12:00,2M", "begins when another"),
        ("12:00,1M mon-12:00,2M", "begins when another"),
    ],
)
def test_what_is_no_timetable_is_refused_with_a_line(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        Timetable.parse(text)
    assert "\n" not in str(caught.value)


def test_bytes_take_their_time_at_the_rates_that_come() -> None:
    timetable = Timetable.parse("08:00,1M 09:00,2M 10:00,off")
    assert timetable.seconds_for(60 * M, at(0, 8)) == 60
    assert timetable.seconds_for(60 * M, at(0, 9)) == 30
    assert timetable.seconds_for(3600 * M + 2 * M, at(0, 8)) == 3601
    assert timetable.seconds_for(1 << 60, at(0, 8)) == 7200, "with what is left there is no limit at 10"
    assert timetable.seconds_for(1 << 60, at(0, 23)) == 0
    assert Timetable.parse("1M").seconds_for(10 * 7 * 24 * 3600 * M, at(3, 5)) == 10 * 7 * 24 * 3600, "ten weeks"


RATES = st.sampled_from(["off", "1k", "64k", "1M", "3.5M", "1G"])
TIMES = st.tuples(st.sampled_from(["", "mon-", "wed-", "sun-"]), st.integers(0, 23), st.integers(0, 59)).map(
    lambda time: f"{time[0]}{time[1]:02}:{time[2]:02}"
)
MOMENTS = st.integers(0, 3 * 7 * 24 * 3600 * 1000).map(lambda ms: MONDAY + timedelta(milliseconds=ms))
SIZES = st.integers(0, 1 << 34)


@st.composite
def timetables(draw: st.DrawFn) -> Timetable:
    entries = draw(st.lists(st.tuples(TIMES, RATES), min_size=1, max_size=6))
    try:
        return Timetable.parse(" ".join(f"{time},{rate}" for time, rate in entries))
    except ValueError:  # two at the same time
        return Timetable.parse(f"{entries[0][0]},{entries[0][1]}")


@given(timetables(), MOMENTS, SIZES, SIZES)
def test_bytes_take_as_long_together_as_one_after_the_other(
    timetable: Timetable, start: datetime, first: int, second: int
) -> None:
    took = timetable.seconds_for(first, start)
    after = timetable.seconds_for(second, start + timedelta(seconds=took))
    assert timetable.seconds_for(first + second, start) == pytest.approx(took + after, rel=1e-6, abs=0.1)


@given(timetables(), MOMENTS, SIZES)
def test_bytes_take_as_long_as_at_the_slowest_rate_at_most(timetable: Timetable, start: datetime, size: int) -> None:
    took = timetable.seconds_for(size, start)
    rates = [rate for _, rate in timetable.changes]
    slowest = min((rate for rate in rates if rate is not None), default=None)
    fastest = None if None in rates else max(rate for rate in rates if rate is not None)
    assert took <= (size / slowest if slowest else 0) + 1e-3
    assert took >= (size / fastest if fastest else 0) - 1e-3


@given(timetables(), MOMENTS)
def test_the_rate_is_that_of_the_last_change_before(timetable: Timetable, moment: datetime) -> None:
    second = (moment - MONDAY).total_seconds() % (7 * 24 * 3600)
    before = [rate for change, rate in timetable.changes if change <= second]
    assert timetable.rate_at(moment) == (before or [timetable.changes[-1][1]])[-1]
