"""Retention on storage nodes: two devices of one user, snapshots that are in use, and rules that both go by."""

from pathlib import Path

from client.account.device import Device as Account
from client.account.home import Home
from client.account.opening import place_of
from deploy.driver import Device, Operator
from deploy.tests.end_to_end.conftest import a_user
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose


def test_snapshots_go_by_the_rules_of_each_item_and_those_in_use_stay(stack: Operator, tmp_path: Path) -> None:
    name, password = a_user(stack)
    first, second = Device(tmp_path / "first"), Device(tmp_path / "second")
    for device in (first, second):
        device.log_in(stack, name, password)
    first.request_vault("shared")
    source = tmp_path / "source"
    source.mkdir()
    made: dict[Path, list[str]] = {first.home: [], second.home: []}
    for day in ("one", "two", "three"):
        (source / "letter").write_text(day)
        for device in (first, second):
            made[device.home].append(device.backup("shared", source)["snapshot"])
    mine, its = made[first.home], made[second.home]

    first.tool.ok("vault", "retention", "shared", "--keep-last", "2")
    item = next(one["item"] for one in first.snapshots("shared") if one["id"] == its[0])
    first.tool.ok("vault", "retention", "shared", "--item", item, "--keep-last", "1")

    planned = second.tool.ok("retention", "--vault", "shared", "--dry-run", "--json")
    removed = {one["item"]: [gone["id"] for gone in one["remove"]] for one in planned.events("item")}
    assert removed.pop(item) == its[:2]
    assert list(removed.values()) == [mine[:1]]
    assert second.tool.run("retention", "--vault", "shared").code == 2

    with Account(Home(first.home)) as account, place_of(account, "shared", Purpose.RETENTION) as place:
        with place.store.open(Purpose.RETENTION):
            refused = second.tool.run("retention", "--vault", "shared", "--yes")
        assert (refused.code, "Another retention is running" in refused.stderr) == (5, True)
        with place.store.open(Purpose.BACKUP, ObjectName(ObjectKind.SNAPSHOT, its[0])):
            done = second.tool.ok("retention", "--vault", "shared", "--yes", "--json", codes=(3,))
    assert f"snapshot {its[0][:8]} stays: a backup that is running builds on it" in done.stderr
    assert done.summary()["in_use"] == its[:1]
    assert {one["id"] for one in first.snapshots("shared")} == {*mine[1:], its[0], its[2]}

    assert first.tool.ok("retention", "--vault", "shared", "--yes").stdout.endswith("1 of 4 snapshots removed.\n")
    assert second.tool.ok("vault", "retention", "shared", "--json").json()["last_pass"] is None
    # Rules go with the item: what a deleted one left goes by the vault's.
    second.tool.ok("logout", "--remove-device")
    assert first.tool.ok("vault", "retention", "shared", "--json").json()["items"] == []
    pruned = first.tool.ok(
        "retention", "--vault", "shared", "--prune", "--yes", "--max-unused", "0%", "--json"
    ).summary()
    assert pruned["prune"]["problems"]["count"] == 0
    assert pruned["prune"]["removed_packs"] > 0
    assert first.tool.ok("vault", "retention", "shared", "--json").json()["last_pass"] is not None
    first.tool.ok("check", "--vault", "shared", "--read-data")
    first.restore("shared", tmp_path / "target", its[2])
