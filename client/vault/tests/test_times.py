from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.vault.times import format_time, is_canonical_time, parse_time

YEAR_0, YEAR_10000 = -62_167_219_200, 253_402_300_800


@given(st.integers(YEAR_0 * 10**9, YEAR_10000 * 10**9 - 1))
def test_a_time_is_read_as_it_was_written(ns: int) -> None:
    text = format_time(ns)
    assert parse_time(text) == ns
    assert is_canonical_time(text)


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)))  # noqa: DTZ001 - the zone comes below
def test_dates_are_those_of_the_calendar(moment: datetime) -> None:
    moment = moment.replace(tzinfo=UTC, microsecond=0)
    seconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    assert format_time(seconds * 10**9) == moment.strftime("%Y-%m-%dT%H:%M:%SZ").zfill(20)


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1, "1970-01-01T00:00:00.000000001Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (1_417_883_423_345_135_380, "2014-12-06T16:30:23.34513538Z"),
        (951_782_400 * 10**9, "2000-02-29T00:00:00Z"),
        (YEAR_0 * 10**9, "0000-01-01T00:00:00Z"),
        ((YEAR_0 - 10**12) * 10**9, "0000-01-01T00:00:00Z"),
        (YEAR_10000 * 10**9 * 5, "9999-12-31T23:59:59Z"),
    ],
)
def test_trailing_zeros_are_cut_and_years_stay_within_four_digits(ns: int, text: str) -> None:
    assert format_time(ns) == text


def test_any_zone_is_read() -> None:
    assert parse_time("2014-12-06T17:30:23.34513538+01:00") == 1_417_883_423_345_135_380
    assert parse_time("2014-12-06T12:00:23.34513538-04:30") == 1_417_883_423_345_135_380


@given(st.text(max_size=40) | st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", fullmatch=True))
def test_arbitrary_text_is_a_time_or_a_value_error(text: str) -> None:
    try:
        ns = parse_time(text)
    except ValueError:
        return
    assert isinstance(ns, int)


@pytest.mark.parametrize(
    "text",
    ["2024-02-30T00:00:00Z", "2023-02-29T00:00:00Z", "2024-13-01T00:00:00Z", "2024-01-01T24:00:00Z", "2024-01-01"],
)
def test_moments_that_never_were_are_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of whatever message
        parse_time(text)


@pytest.mark.parametrize(
    "text",
    ["2024-01-01T00:00:00.10Z", "2024-01-01T00:00:00.Z", "2024-01-01T00:00:00+00:00", "2024-01-01 00:00:00Z", ""],
)
def test_what_go_would_write_otherwise_is_not_canonical(text: str) -> None:
    assert not is_canonical_time(text)
