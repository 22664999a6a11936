from datetime import UTC, datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from client.errors import AmbiguousItem, BadRetention, NoSuchItem
from client.retention.plan import Plan, Rules, make_plan
from client.retention.zones import local_zone, named_zone
from client.vault.snapshots import DEVICE_TAG, ITEM_TAG, Snapshot
from domain.retention_policy import Policy, Range, RangeType, RetentionMode

NOW = datetime(2026, 11, 26, 15, 0, tzinfo=UTC)
HOUR = 3600 * 10**9
LAST = Policy(RetentionMode.DELETE_EXCEPT, (Range(RangeType.LAST_JOBS, jobs=1),))
TODAY = Policy(RetentionMode.DELETE_EXCEPT, (Range(RangeType.FIRST_OF_DAYS, days=1),))


def a_snapshot(name: str, hours_ago: int, *, item: str = "", device: str = "", host: str = "kasimir") -> Snapshot:
    tags = (*([f"{ITEM_TAG}{item}"] if item else []), *([f"{DEVICE_TAG}{device}"] if device else []))
    time_ns = int(NOW.timestamp()) * 10**9 - hours_ago * HOUR
    return Snapshot(time_ns, bytes(32), ("/<home>",), host, tags=tags, id=name)


def planned(snapshots: list[Snapshot], rules: Rules, wanted: str = "") -> Plan:
    oldest_first = sorted(snapshots, key=lambda one: one.time_ns)
    return make_plan(oldest_first, rules, NOW, lambda _policy: UTC, wanted)


def removed(plan: Plan) -> list[str]:
    return sorted(one.id for one in plan.removed)


def test_each_item_of_each_device_is_judged_by_itself() -> None:
    snapshots = [
        *(a_snapshot(f"a{age}", age, item="i1", device="d1") for age in (1, 2)),
        *(a_snapshot(f"b{age}", age, item="i2", device="d1") for age in (3, 4)),
        *(a_snapshot(f"c{age}", age, item="i1", device="d2") for age in (5, 6)),
        *(a_snapshot(f"d{age}", age) for age in (7, 8)),
        *(a_snapshot(f"e{age}", age, host="other") for age in (9, 10)),
    ]
    plan = planned(snapshots, Rules(given=LAST))
    assert removed(plan) == ["a2", "b4", "c6", "d8", "e10"]
    assert len(plan.items) == 5


def test_an_item_has_its_own_rules_or_the_default_and_given_ones_override_both() -> None:
    snapshots = [a_snapshot(f"{item}{age}", age, item=item, device="d") for item in "xyz" for age in (1, 2)]
    assert removed(planned(snapshots, Rules())) == []
    rules = Rules(items={"x": LAST, "gone": LAST})
    assert removed(planned(snapshots, rules)) == ["x2"]
    assert removed(planned(snapshots, Rules(LAST, {"x": Policy(RetentionMode.KEEP_EVERYTHING)}))) == ["y2", "z2"]
    assert removed(planned(snapshots, Rules(items={"x": LAST}, given=LAST))) == ["x2", "y2", "z2"]


def test_an_item_that_would_lose_everything_loses_nothing_and_others_go_on() -> None:
    snapshots = [
        *(a_snapshot(f"old{age}", age, item="old", device="d") for age in (100, 101)),
        *(a_snapshot(f"new{age}", age, item="new", device="d") for age in (1, 30)),
    ]
    plan = planned(snapshots, Rules(given=TODAY))
    assert removed(plan) == ["new30"]
    (spared,) = plan.spared
    assert [one.id for one, _ in spared.kept] == ["old101", "old100"]
    assert spared.kept[0][1] == ("the rules would remove every snapshot of the item",)
    assert spared.removed == []


def test_a_child_is_newer_than_its_parent_whatever_the_clock_said() -> None:
    # The list of a vault has the order; here the second was made while the clock was a day ahead.
    oldest_first = [
        a_snapshot("1", 3, item="i", device="d"),
        a_snapshot("2", -24, item="i", device="d"),
        a_snapshot("3", 1, item="i", device="d"),
    ]
    plan = make_plan(oldest_first, Rules(given=LAST), NOW, lambda _policy: UTC)
    assert removed(plan) == ["1", "2"]


def test_one_item_is_chosen_by_the_beginning_of_its_id() -> None:
    snapshots = [a_snapshot(f"{item}{age}", age, item=item, device="d") for item in ("ab1", "ab2") for age in (1, 2)]
    snapshots += [a_snapshot(f"n{age}", age) for age in (1, 2)]
    rules = Rules(given=LAST)
    assert removed(planned(snapshots, rules, "AB2")) == ["ab22"]
    with pytest.raises(AmbiguousItem, match="2 items begin with 'ab'"):
        planned(snapshots, rules, "ab")
    with pytest.raises(NoSuchItem):
        planned(snapshots, rules, "c")


def test_the_zone_of_a_policy_is_its_own() -> None:
    snapshots = [a_snapshot("a", 16, item="i", device="d"), a_snapshot("b", 15, item="i", device="d")]
    daily = (Range(RangeType.LATEST_OF_DAYS, jobs=9),)
    asked: list[str] = []

    def zone_of(policy: Policy) -> tzinfo:
        asked.append(policy.time_zone)
        return named_zone(policy.time_zone)

    for name, expected in (("Europe/Berlin", ["a"]), ("UTC", [])):
        policy = Policy(RetentionMode.DELETE_EXCEPT, daily, name)
        assert removed(make_plan(snapshots, Rules(policy), NOW, zone_of)) == expected
    assert asked == ["Europe/Berlin", "UTC"]


def test_zones_that_are_not_known_are_refused_and_this_machine_s_is_told_by_its_name(tmp_path: Path) -> None:
    for name in ("Europe/Nowhere", "../etc/passwd", "Europe", "\0", "/etc/localtime"):
        with pytest.raises(BadRetention, match="is not known on this device"):
            named_zone(name)
    assert local_zone({"TZ": ":Europe/Berlin"}) == (ZoneInfo("Europe/Berlin"), "Europe/Berlin")
    database = tmp_path / "zoneinfo" / "Europe"
    database.mkdir(parents=True)
    key = ZoneInfo("Europe/Berlin")
    (database / "Berlin").touch()
    link = tmp_path / "localtime"
    link.symlink_to(database / "Berlin")
    assert local_zone({}, link) == (key, "Europe/Berlin")
    for environment in ({"TZ": "CET-1CEST"}, {}):
        zone, name = local_zone(environment, tmp_path / "missing")
        assert name == ""
        assert NOW.astimezone(zone).utcoffset() is not None
