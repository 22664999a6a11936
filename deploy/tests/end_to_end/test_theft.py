"""A stolen full device destroys what it can; the operator undoes it from the waste basket."""

from pathlib import Path
from secrets import token_hex

import pytest

from client.account.device import Device as Account
from client.account.home import Home
from client.account.opening import place_of
from client.restore.compare import differences
from client.vault.keys import DataKeys, create_key_file
from deploy.driver import Device, Operator
from deploy.tests.end_to_end.conftest import a_user
from deploy.tests.end_to_end.trees import a_tree, restored
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose


def destroy(home: Path, vault: str) -> int:
    """Remove, as the device that is logged in there, all that a node lets go. Answers how much."""
    removed = 0
    with (
        Account(Home(home)) as account,
        place_of(account, vault, Purpose.RETENTION) as place,
        place.store.open(Purpose.RETENTION) as session,
    ):
        snapshots = [one.name for one in session.list(ObjectKind.SNAPSHOT)]
        for name in snapshots:
            session.remove(name)
        # With a key of its own in their place, of other data keys, all others can go.
        body = create_key_file(token_hex(32), DataKeys.random())
        session.put(ObjectName.of(ObjectKind.KEY, body), body)
        session.mark()
        for kind in (ObjectKind.PACK, ObjectKind.INDEX, ObjectKind.KEY):  # not the order that is kind to anybody
            names = [one.name for one in session.list(kind)]
            removed += len(names) - len(session.condemn(names))
    return removed + len(snapshots)


def test_what_a_stolen_device_has_destroyed_comes_back_whole(stack: Operator, tmp_path: Path) -> None:
    name, password = a_user(stack)
    stolen, other = Device(tmp_path / "stolen"), Device(tmp_path / "other")
    for device in (stolen, other):
        device.log_in(stack, name, password)
    stolen.request_vault("shared")
    sources = [a_tree(tmp_path / which, seed) for seed, which in enumerate(("first", "second"))]
    made = [device.backup("shared", source) for device, source in zip((stolen, other), sources, strict=True)]
    bucket = other.recovery("shared")["bucket"]

    gone = destroy(stolen.home, "shared")
    [lost] = [one["id"] for one in other.tool.ok("device", "list", "--json").json() if not one["current"]]
    other.tool.ok("device", "revoke", lost, "--yes")
    refused = stolen.tool.run("snapshots", "--vault", "shared")
    assert (refused.code, "not logged in" in refused.stderr) == (4, True), refused
    assert other.tool.run("restore", "latest", "--target", str(tmp_path / "none"), "--vault", "shared").code != 0

    data = ("--data", str(stack.data))
    basket = stack.oort.ok("bucket", "basket", bucket, "--json", *data).json()
    assert (basket["vault"], len(basket["objects"])) == ("shared", gone)
    assert {one["kind"] for one in basket["objects"]} == {"snapshots", "index", "data", "keys"}
    shown = stack.oort.ok("bucket", "basket", bucket, *data).stdout
    assert all(one["snapshot"] in shown for one in made)
    planned = stack.oort.ok("bucket", "restore", bucket, "--dry-run", *data).stdout
    assert planned.startswith("Would come back: 2 snapshots")
    done = stack.oort.ok("bucket", "restore", bucket, *data)
    assert "Back: " in done.stdout
    assert "Opens the vault again: keys/" in done.stdout
    assert stack.oort.ok("bucket", "restore", bucket, "--json", *data).json()["objects"] == {}

    assert {one["id"] for one in other.snapshots("shared")} == {one["snapshot"] for one in made}
    for number, (source, backup) in enumerate(zip(sources, made, strict=True)):
        target = tmp_path / f"target-{number}"
        other.restore("shared", target, backup["snapshot"])
        assert not list(differences(source, restored(target, source)))
    other.tool.ok("check", "--vault", "shared", "--read-data")


def test_a_locked_vault_loses_nothing_to_it(stack: Operator, tmp_path: Path) -> None:
    name, password = a_user(stack)
    device = Device(tmp_path / "home")
    device.log_in(stack, name, password)
    device.request_vault("locked")
    bucket = device.recovery("locked")["bucket"]
    data = ("--data", str(stack.data))
    stack.oort.ok("bucket", "lock", bucket, "--days", "30", *data)
    assert stack.oort.run("bucket", "lock", bucket, "--days", "3", *data).code == 2
    source = a_tree(tmp_path / "source")
    first, second = device.backup("locked", source), device.backup("locked", source)

    kept = device.tool.ok("retention", "--vault", "locked", "--keep-last", "1", "--prune", "--yes", codes=(3,))
    assert "it is locked until" in kept.stderr
    assert {one["id"] for one in device.snapshots("locked")} == {first["snapshot"], second["snapshot"]}
    device.tool.ok("check", "--vault", "locked", "--read-data")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("restore", "00000000-0000-0000-0000-000000000000"), 6, "bucket"),
        (("basket", "no-id"), 2, "`oort bucket list`"),
        (("restore", "00000000-0000-0000-0000-000000000000", "--since", "yesterday"), 2, "is no time"),
    ],
)
def test_what_is_no_bucket_or_time_is_one_clear_line(
    stack: Operator, arguments: tuple[str, ...], code: int, said: str
) -> None:
    refused = stack.oort.run("bucket", *arguments, "--data", str(stack.data))
    assert refused.code == code
    assert said in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
