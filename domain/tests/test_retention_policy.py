from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.retention_policy import (
    FIELDS,
    KEEP_EVERYTHING,
    MAXINT,
    BadPolicy,
    Policy,
    Range,
    RangeType,
    RetentionMode,
    parse_policy,
)


def test_numbers_never_change() -> None:
    assert [int(mode) for mode in RetentionMode] == [801, 802]
    assert {kind.name: int(kind) for kind in RangeType} == {
        "LAST_JOBS": 900,
        "NEWER_THAN": 901,
        "JOBS_SINCE": 902,
        "FIRST_OF_DAYS": 903,
        "FIRST_OF_MONTHS": 905,
        "FIRST_OF_WEEKS": 906,
        "LATEST_OF_DAYS": 907,
        "LATEST_OF_WEEKS": 908,
        "LATEST_OF_MONTHS": 909,
        "LATEST_OF_YEARS": 910,
        "FIRST_OF_YEARS": 911,
    }
    assert MAXINT == 1_125_899_906_842_624


def test_a_policy_reads_as_it_was_written() -> None:
    policy = Policy(
        RetentionMode.DELETE_EXCEPT,
        tuple(Range(kind, **{name: most for name, (_, most) in FIELDS[kind].items()}) for kind in RangeType),
        "Europe/Berlin",
    )
    assert parse_policy(policy.to_document()) == policy
    assert parse_policy(KEEP_EVERYTHING.to_document()) == parse_policy({"mode": 801}) == KEEP_EVERYTHING


def test_offsets_that_are_left_out_are_the_first_of_their_kind() -> None:
    policy = parse_policy(
        {"mode": 802, "ranges": [{"type": 905, "months": 1}, {"type": 906, "weeks": 1}, {"type": 911, "years": 1}]}
    )
    assert [(one.month_offset, one.week_offset, one.year_offset) for one in policy.ranges] == [
        (1, 0, 0),
        (0, 0, 0),
        (0, 0, 1),
    ]


def test_a_policy_in_words() -> None:
    ranges = [
        {"type": 900, "jobs": 1},
        {"type": 900, "jobs": 1000},
        {"type": 901, "timestamp": 1_767_225_600},
        {"type": 902, "years": 1, "days": 2},
        {"type": 903, "days": 7},
        {"type": 905, "months": 12, "month_offset": 15},
        {"type": 906, "weeks": 1, "week_offset": 6},
        {"type": 908, "jobs": 4},
        {"type": 911, "years": 2, "year_offset": 4},
    ]
    policy = parse_policy({"mode": 802, "ranges": ranges, "time_zone": "Europe/Berlin"})
    assert str(policy) == (
        "keep the latest; the last 1,000; those since 2026-01-01 00:00:00 UTC; those not older than 1 year, 2 days; "
        "the first of each of the last 7 days; the first of each of the last 12 months, from day 15 on; "
        "the first of each of the last 1 week, from Saturday on; the latest of each of the last 4 weeks that have one; "
        "the first of each of the last 2 years, from month 4 on (days of Europe/Berlin)"
    )
    assert str(KEEP_EVERYTHING) == "keep everything"
    assert "seconds after 1970" in str(Range(RangeType.NEWER_THAN, timestamp=MAXINT))


def ranged(**fields: Any) -> dict[str, Any]:
    return {"mode": 802, "ranges": [fields]}


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (None, "policy"),
        ([], "policy"),
        ({}, "mode"),
        ({"mode": 803}, "mode"),
        ({"mode": "802"}, "mode"),
        ({"mode": True}, "mode"),
        ({"mode": 802}, "ranges"),
        ({"mode": 802, "ranges": []}, "ranges"),
        ({"mode": 802, "ranges": {"type": 900, "jobs": 1}}, "ranges"),
        ({"mode": 801, "ranges": [{"type": 900, "jobs": 1}]}, "ranges"),
        ({"mode": 802, "ranges": [{"type": 900, "jobs": 1}] * 33}, "ranges"),
        ({"mode": 802, "Ranges": [{"type": 900, "jobs": 1}]}, "Ranges"),
        ({"mode": 801, "time_zone": 1}, "time_zone"),
        ({"mode": 801, "time_zone": "Europe/\nBerlin"}, "time_zone"),
        ({"mode": 802, "ranges": [900]}, "ranges[0]"),
        (ranged(jobs=1), "ranges[0].type"),
        (ranged(type=904, jobs=1), "ranges[0].type"),
        (ranged(type=912, jobs=1), "ranges[0].type"),
        (ranged(type="900", jobs=1), "ranges[0].type"),
        (ranged(type=900), "ranges[0].jobs"),
        (ranged(type=900, jobs=0), "ranges[0].jobs"),
        (ranged(type=900, jobs=-1), "ranges[0].jobs"),
        (ranged(type=900, jobs=1.5), "ranges[0].jobs"),
        (ranged(type=900, jobs=True), "ranges[0].jobs"),
        (ranged(type=900, jobs="7"), "ranges[0].jobs"),
        (ranged(type=900, jobs=MAXINT + 1), "ranges[0].jobs"),
        (ranged(type=900, job=7), "ranges[0].job"),
        (ranged(type=900, jobs=7, days=1), "ranges[0].days"),
        (ranged(type=901, timestamp=0), "ranges[0].timestamp"),
        (ranged(type=902), "ranges[0]"),
        (ranged(type=902, days=0, weeks=0, months=0, years=0), "ranges[0]"),
        (ranged(type=902, days=-1), "ranges[0].days"),
        (ranged(type=903, jobs=1), "ranges[0].jobs"),
        (ranged(type=905, months=1, month_offset=0), "ranges[0].month_offset"),
        (ranged(type=905, months=1, month_offset=32), "ranges[0].month_offset"),
        (ranged(type=905, month_offset=1), "ranges[0].months"),
        (ranged(type=906, weeks=1, week_offset=7), "ranges[0].week_offset"),
        (ranged(type=911, years=1, year_offset=13), "ranges[0].year_offset"),
    ],
)
def test_what_is_not_right_is_refused_by_its_name(document: object, field: str) -> None:
    with pytest.raises(BadPolicy) as caught:
        parse_policy(document)
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")


ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, -1, 0, 7, 801, 802, 900, 905, 1.5, "7", "\n", [], {}, MAXINT]
)
RANGES = st.lists(st.dictionaries(st.sampled_from(["type", "jobs", "months", "\n", ""]), ODD, max_size=3), max_size=2)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from(["mode", "ranges", "time_zone", "\n"]), ODD | RANGES, max_size=3))
def test_a_document_is_a_policy_or_refused_in_one_line(document: dict[str, Any]) -> None:
    try:
        policy = parse_policy(document)
    except BadPolicy as error:
        refused = str(error)
    else:
        refused = ""
        assert parse_policy(policy.to_document()) == policy
    assert refused.isprintable()
