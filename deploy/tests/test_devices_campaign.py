"""What the campaign of several devices takes for right and for wrong: it must not be blind."""

import json
import signal
from collections.abc import Mapping
from pathlib import Path
from random import Random

import pytest

from deploy.campaigns.devices.commands import Kind, Run
from deploy.campaigns.devices.judging import End, end_of
from deploy.campaigns.devices.memory import Memory
from deploy.campaigns.devices.outages import Outages
from deploy.campaigns.devices.trees import Entry, Tree, differences, manifest

SAID = {"snapshot": "ab"}
ONE, OTHER = ({"": Entry(0o40755, 1, ""), "file": Entry(0o100644, 2, content)} for content in ("one", "other"))


def a_run(kind: Kind, code: int, error: str = "", summary: Mapping[str, object] | None = None) -> Run:
    stdout = json.dumps({"type": "summary", **summary}) + "\n" if summary else ""
    stderr = json.dumps({"type": "error", "error": error}) + "\n" if error else ""
    return Run(kind, "device", ("command",), 100.0, 110.0, code, stdout, stderr)


def outages(*down: tuple[float, float]) -> Outages:
    """The nodes' downtimes, one each."""
    found = Outages(nodes=2)
    for node, (begin, end) in zip(("node-a", "node-b"), down, strict=False):
        found.begin(node, begin)
        found.end(node, end)
    return found


def stays(**fields: object) -> dict[str, object]:
    return {"unread": 0, "spared_items": 0, "in_use": [], "prune": None, **fields}


@pytest.mark.parametrize(
    ("run", "end"),
    [
        (a_run(Kind.BACKUP, 0, summary=SAID), End.DONE),
        (a_run(Kind.BACKUP, 0), End.WRONG),
        (a_run(Kind.BACKUP, 3, summary=SAID), End.WRONG),
        (a_run(Kind.BACKUP, 5, "SessionOver"), End.WRONG),
        (a_run(Kind.BACKUP, -signal.SIGKILL), End.KILLED),
        (a_run(Kind.BACKUP, 1, "UnexpectedError"), End.WRONG),
        (a_run(Kind.RESTORE, 6, "NoSuchSnapshot"), End.GONE),
        (a_run(Kind.RESTORE, 8, summary=SAID), End.WRONG),
        (a_run(Kind.BACKUP, 6, "NoSuchVault"), End.WRONG),
        (a_run(Kind.PRUNE, 3, summary=stays(in_use=["ab"])), End.STAYS),
        (a_run(Kind.PRUNE, 3, summary=stays(in_use=["ab"], prune={"refused": {"count": 0}})), End.STAYS),
        (a_run(Kind.PRUNE, 3, summary=stays(in_use=["ab"], prune={"refused": {"count": 2}})), End.WRONG),
        (a_run(Kind.PRUNE, 3, summary=stays(prune={"refused": {"count": 0}})), End.WRONG),
        (a_run(Kind.PRUNE, 3, summary=stays(in_use=["ab"], unread=1)), End.WRONG),
        (a_run(Kind.PRUNE, 8, summary=stays()), End.WRONG),
        (a_run(Kind.RETENTION, 5, "RetentionRunning"), End.RUNNING),
        (a_run(Kind.RESTORE, 5, "RetentionRunning"), End.WRONG),
    ],
)
def test_an_end_is_wrong_unless_it_is_explained(run: Run, end: End) -> None:
    assert end_of(run, outages((90, 120))) is end


@pytest.mark.parametrize(
    ("down", "end"),
    [
        (((90, 105), (104, 108)), End.OUTAGE),
        (((90, 105), (105, 108)), End.WRONG),
        (((90, 99), (95, 120)), End.WRONG),
        (((109, float("inf")), (95, float("inf"))), End.OUTAGE),
    ],
)
def test_a_store_that_is_out_of_reach_is_explained_by_both_nodes_being_down_alone(
    down: tuple[tuple[float, float], ...], end: End
) -> None:
    assert end_of(a_run(Kind.BACKUP, 5, "StoreError"), outages(*down)) is end


@pytest.mark.parametrize(
    ("kind", "code", "full", "end"),
    [
        (Kind.BACKUP, 7, (90, 101), End.FULL),
        (Kind.BACKUP, 7, (109, float("inf")), End.FULL),
        (Kind.BACKUP, 7, (90, 99), End.WRONG),
        (Kind.BACKUP, 5, (90, 101), End.WRONG),
        (Kind.RESTORE, 7, (90, 101), End.WRONG),
    ],
)
def test_a_full_disk_explains_that_a_backup_finds_no_room_and_nothing_else(
    kind: Kind, code: int, full: tuple[float, float], end: End
) -> None:
    found = outages()
    found.begin_full_disk(full[0])
    found.end_full_disk(full[1])
    assert end_of(a_run(kind, code, "StoreFull"), found) is end


def test_what_was_committed_and_not_removed_must_be_there() -> None:
    memory = Memory()
    for snapshot in ("first", "second", "third"):
        memory.committed(snapshot, "device", ONE)
    memory.removed(["first"])
    assert list(memory.audit({"second": "device", "third": "device"})) == []
    (wrong,) = memory.audit({"third": "device"})
    assert "second" in wrong
    (wrong,) = memory.audit({"first": "device", "second": "device", "third": "device"})
    assert "says that it removed it" in wrong
    memory.perhaps_removed(["second"])
    assert list(memory.audit({"third": "device"})) == []
    memory.missed("third")
    assert len(list(memory.audit({"third": "device"}))) == 1


def test_the_newest_of_a_device_is_never_removed_unless_a_killed_backup_may_have_made_a_newer_one() -> None:
    memory = Memory()
    memory.committed("first", "device", ONE)
    memory.removed(["first"])
    assert len(list(memory.audit({}))) == 1
    memory.perhaps_committed("device", OTHER)
    assert list(memory.audit({})) == []


def test_a_snapshot_that_no_command_told_of_must_be_what_a_killed_backup_had_before_it() -> None:
    memory = Memory()
    memory.committed("first", "device", ONE)
    assert memory.expected("first", "device") == [ONE]
    assert len(list(memory.audit({"first": "device", "unheard-of": "device"}))) == 1
    memory.perhaps_committed("device", OTHER)
    assert memory.expected("unheard-of", "device") == [OTHER]
    assert list(memory.audit({"first": "device", "unheard-of": "device"})) == []
    assert memory.expected("unheard-of", "another") == []


def test_a_tree_is_what_its_seed_makes_and_each_difference_is_named(tmp_path: Path) -> None:
    first, second = (Tree(tmp_path / name, Random(1), "contents") for name in ("first", "second"))
    for tree in (first, second):
        tree.change()
    before, alike = manifest(first.root), manifest(second.root)
    assert {path: (one.mode, one.content) for path, one in before.items()} == {
        path: (one.mode, one.content) for path, one in alike.items()
    }
    path = next(path for path in sorted(before) if (first.root / path).is_file())
    (first.root / path).write_bytes(b"changed")
    (first.root / path).chmod(0o611)
    assert list(differences(before, manifest(first.root))) == [f"{path} has another mode and mtime_ns and content"]
    (first.root / path).unlink()
    assert f"{path} is missing" in list(differences(before, manifest(first.root)))
    assert f"{path} was not there" in list(differences(manifest(first.root), before))


@pytest.mark.parametrize(
    ("run", "end"),
    [
        (a_run(Kind.BACKUP, 8, "ObjectMissing"), End.RESCANNED),
        (a_run(Kind.PRUNE, 3, summary=stays(prune={"refused": {"count": 2}})), End.RESCANNED),
        (a_run(Kind.PRUNE, 3, summary=stays(unread=1, prune={"refused": {"count": 2}})), End.WRONG),
        (a_run(Kind.BACKUP, 3, summary=SAID), End.WRONG),
        (a_run(Kind.BACKUP, 1, "UnexpectedError"), End.WRONG),
    ],
)
def test_a_rescan_explains_what_is_missing_or_may_not_be_removed_and_nothing_else(run: Run, end: End) -> None:
    found = Outages(nodes=2)
    found.begin_rescan(105.0)
    found.end_rescan(120.0)
    assert end_of(run, found) is end
    found = Outages(nodes=2)
    found.begin_rescan(111.0)
    assert end_of(run, found) is End.WRONG
