import pytest

from client.cli.retention_rules import KeepOptions
from client.errors import BadRetention, UsageError


def test_every_option_reaches_the_rules() -> None:
    policy = KeepOptions(
        last=1,
        since="2026-01-31",
        within="1y2m3w4d",
        daily=5,
        weekly=6,
        monthly=7,
        yearly=8,
        first_daily=9,
        first_weekly="10@Mon",
        first_monthly="11@15",
        first_yearly="12",
    ).policy("Europe/Berlin")
    assert policy is not None
    assert policy.to_document() == {
        "mode": 802,
        "ranges": [
            {"type": 900, "jobs": 1},
            {"type": 901, "timestamp": 1_769_817_600},
            {"type": 902, "years": 1, "months": 2, "weeks": 3, "days": 4},
            {"type": 907, "jobs": 5},
            {"type": 908, "jobs": 6},
            {"type": 909, "jobs": 7},
            {"type": 910, "jobs": 8},
            {"type": 903, "days": 9},
            {"type": 906, "weeks": 10, "week_offset": 1},
            {"type": 905, "months": 11, "month_offset": 15},
            {"type": 911, "years": 12, "year_offset": 1},
        ],
        "time_zone": "Europe/Berlin",
    }
    assert KeepOptions().policy() is None
    everything = KeepOptions(all=True).policy("Europe/Berlin")
    assert everything is not None
    assert everything.to_document() == {"mode": 801, "ranges": [], "time_zone": ""}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (KeepOptions(last=0), "--keep-last: jobs: it is a whole number from 1 to 1125899906842624"),
        (KeepOptions(daily=-1), "--keep-daily: jobs: it is a whole number"),
        (KeepOptions(within=""), "--keep-within: '' is no age"),
        (KeepOptions(within="30"), "--keep-within: '30' is no age"),
        (KeepOptions(within="30d1y"), "--keep-within: '30d1y' is no age"),
        (KeepOptions(within="0d"), "--keep-within: of years, months, weeks, days at least one is more than 0"),
        (KeepOptions(since="1969-01-01"), "--keep-since: timestamp: it is a whole number"),
        (KeepOptions(first_monthly="3@32"), "--keep-first-monthly: month_offset: it is a whole number from 1 to 31"),
        (KeepOptions(first_monthly="3@monday"), "--keep-first-monthly: 'monday' is not where a month begins"),
        (KeepOptions(first_weekly="3@su"), "--keep-first-weekly: 'su' is not where a week begins"),
        (KeepOptions(first_weekly="3@"), "--keep-first-weekly: '3@' is no number"),
        (KeepOptions(first_yearly="0"), "--keep-first-yearly: years: it is a whole number"),
        (KeepOptions(all=True, last=1), "--keep-all keeps everything: give it alone"),
    ],
)
def test_a_mistyped_rule_is_refused_by_its_option_and_removes_nothing(options: KeepOptions, said: str) -> None:
    with pytest.raises(BadRetention) as caught:
        options.policy()
    assert said in str(caught.value)
    assert str(caught.value).endswith(". Nothing was removed.")


def test_a_time_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="'yesterday' is no time"):
        KeepOptions(since="yesterday").policy()
