"""`retention` on a local vault: what it says, what it removes, and what it refuses."""

import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from client.account.device import Device
from client.account.home import Home
from client.account.opening import place_of
from client.cli.program import run
from client.cli.tests.terminal import Terminal
from client.stores.local import LocalStore
from client.vault.locks import vault_lock
from client.vault.snapshots import encode_snapshot
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose

DAY = timedelta(days=1)


class History:
    """Two items in a local vault, each backed up once in fact, and on days before as far as a vault can tell."""

    def __init__(self, terminal: Terminal, folder: Path, vault: str) -> None:
        self.terminal = terminal
        self.vault = vault
        self.now = datetime.now(UTC)
        self.target = folder / "restored"
        self.folders = [folder / "letters", folder / "pictures"]
        self.ids: list[list[str]] = []
        for path in self.folders:
            path.mkdir()
            (path / "one").write_text(path.name)
            made = terminal.json_lines("backup", str(path), "--vault", vault)[-1]["snapshot"]
            self.ids.append([made])

    def before(self, item: int, *days: int) -> list[str]:
        """Snapshots of an item so many days ago; ids, in that order."""
        made = []
        with (
            Device(Home(self.terminal.home)) as device,
            place_of(device, self.vault) as place,
            place.store.open(Purpose.BACKUP) as session,
        ):
            vault = place.open(session)
            assert vault is not None
            like = vault.load_snapshot(ObjectName(ObjectKind.SNAPSHOT, self.ids[item][0]))
            for ago in days:
                time_ns = int((self.now - ago * DAY).timestamp() * 1e9)
                document = encode_snapshot(replace(like, time_ns=time_ns, parent=None))
                name, body = vault.seal_unpacked(ObjectKind.SNAPSHOT, document)
                session.commit(name, body)
                made.append(name.id)
        self.ids[item].extend(made)
        return made

    def item(self, place: int) -> str:
        listed = self.terminal.json("snapshots", "--vault", self.vault)
        return str(next(one["item"] for one in listed if one["id"] == self.ids[place][0]))

    def job(self) -> dict[str, Any]:
        """The last retention in the vault."""
        jobs: list[dict[str, Any]] = self.terminal.json("jobs")
        return next(job for job in jobs if job["kind"] == 4003 and job["vault"] == self.vault)

    def left(self) -> set[str]:
        return {one["id"] for one in self.terminal.json("snapshots", "--vault", self.vault)}

    def all(self) -> set[str]:
        return {one for ids in self.ids for one in ids}

    def __call__(self, *options: str, given: str = "") -> tuple[int, str, str]:
        return self.terminal("retention", "--vault", self.vault, *options, given=given)


@pytest.fixture
def history(with_vault: Terminal, tmp_path: Path) -> History:
    return History(with_vault, tmp_path, tmp_path.name)


@contextmanager
def in_use(history: History) -> Iterator[None]:
    """Another program reads the vault, or backs up to it."""
    with (
        Device(Home(history.terminal.home)) as device,
        place_of(device, history.vault) as place,
        place.store.open(Purpose.READ) as session,
    ):
        vault = place.open(session)
        assert vault is not None
        with vault, vault_lock(vault, needed=True):
            yield


def reasons(lines: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    return {kept["id"]: kept["reasons"] for line in lines if line["type"] == "item" for kept in line["keep"]}


def test_a_dry_run_says_why_each_snapshot_stays_and_removes_none(history: History) -> None:
    week, month = history.before(0, 7, 40)
    history.before(1, 3)
    code, output, errors = history("--keep-last", "1", "--keep-within", "10d", "--dry-run", "--json")
    assert (code, errors) == (0, "")
    lines = [json.loads(line) for line in output.splitlines()]
    assert reasons(lines)[history.ids[0][0]] == ["the latest", "not older than 10 days"]
    assert reasons(lines)[week] == ["not older than 10 days"]
    assert [one["id"] for line in lines[:-1] for one in line["remove"]] == [month]
    assert lines[-1] == {
        "type": "summary",
        "planned": 1,
        "removed": [],
        "in_use": [],
        "kept": 4,
        "spared_items": 0,
        "unread": 0,
        "prune": None,
        "job": None,
    }
    code, output, errors = history("--keep-last", "1", "--keep-within", "10d", "--dry-run")
    assert (code, errors) == (0, "")
    assert f"{history.folders[0]} (this device, item " in output
    assert "rules: keep the latest; those not older than 10 days\n" in output
    assert f"  keep    {week[:8]}  " in output
    assert f"  remove  {month[:8]}  " in output
    assert output.endswith("1 of 5 snapshots would be removed. Nothing was done.\n")
    code, output, errors = history("--keep-last", "1", "--keep-within", "10d")
    assert (code, output) == (2, "")
    assert f"  remove  {month[:8]}  " in errors
    assert errors.endswith("\nbackup-tool: the plan is named above: nothing was done; give --yes to agree\n")
    code, output, errors = history("--keep-last", "1", "--keep-within", "10d", "--json")
    assert (code, [json.loads(line)["type"] for line in output.splitlines()]) == (2, ["item", "item"])
    assert json.loads(errors)["exit_code"] == 2
    assert history("--yes")[1].endswith("everything is kept, 5 snapshots.\n")
    assert history.left() == history.all()


def test_what_no_rule_keeps_is_removed_from_each_item_and_is_a_job_of_its_own(history: History) -> None:
    week, month = history.before(0, 7, 40)
    days, more = history.before(1, 3, 4)
    code, output, errors = history("--keep-last", "2", "--yes")
    assert (code, output) == (0, "2 of 6 snapshots removed.\n")
    assert history.left() == history.all() - {month, more}
    assert f"  remove  {month[:8]}  " in errors
    assert "keep " not in errors.replace("rules: keep", "")
    job = history.job()
    assert (job["status"], job["item"]) == (5000, None)
    log = history.terminal("jobs", "--log", job["id"])[1]
    assert f"Snapshot {month} of {history.folders[0]} removed" in log
    assert week in history.left()
    assert days in history.left()
    summary = json.loads(history("--keep-last", "2", "--yes", "--json")[1].splitlines()[-1])
    assert (summary["removed"], summary["kept"]) == ([], 4)
    assert history.terminal("check", "--vault", history.vault)[0] == 0
    assert history.terminal("restore", week, "--vault", history.vault, "--target", str(history.target))[0] == 0


class Keyboard(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_one_item_alone(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    (old,) = history.before(0, 7)
    (other,) = history.before(1, 7)
    item = history.item(0)
    for answer, code, gone in (("n", 2, set()), ("y", 0, {old})):  # a person is asked
        monkeypatch.setattr(sys, "stdin", Keyboard(answer + "\n"))
        home = ("--home", str(history.terminal.home))
        assert run([*home, "retention", "--vault", history.vault, "--item", item, "--keep-last", "1"]) == code
        history.terminal.capture.readouterr()
        assert history.left() == history.all() - gone
    job = history.job()
    assert job["item"] == item
    assert other in history.left()
    for wrong, code in (("ffffffff", 6), (item[:4], 6)):
        assert history("--item", wrong, "--keep-last", "1", "--yes")[0] == code
    assert history.left() == history.all() - {old}


def test_a_mistyped_rule_is_one_line_and_removes_nothing(terminal: Terminal) -> None:
    for option, value in (("--keep-last", "0"), ("--keep-last", "two"), ("--keep-within", ""), ("--keep-lasst", "1")):
        code, output, errors = terminal("retention", "--vault", "main", "--yes", option, value)
        assert (code, output) == (2, "")
        assert option in errors
        assert errors.count("\n") == 1


def test_a_vault_in_use_and_rules_that_would_leave_nothing_of_an_item_remove_nothing(history: History) -> None:
    (old,) = history.before(1, 7)
    with in_use(history):
        code, _, errors = history("--keep-last", "1", "--yes")
    assert code == 5
    assert "is locked by" in errors
    assert history.left() == history.all()
    assert history.job()["status"] == 7002
    code, output, errors = history("--keep-since", "2099-01-01", "--yes")
    assert code == 3
    assert errors.count(": the rules would remove every snapshot of this item: none is removed\n") == 2
    assert output.endswith("0 of 3 snapshots removed.\n")
    assert history.left() == history.all()
    code, output, _ = history("--keep-since", "2099-01-01", "--dry-run", "--json")
    assert code == 3
    assert reasons([json.loads(line) for line in output.splitlines()])[old] == [
        "the rules would remove every snapshot of the item"
    ]
    job = history.job()
    assert job["status"] == 7001


def test_a_snapshot_that_cannot_be_read_stays_and_is_named(history: History, tmp_path: Path) -> None:
    old, older = history.before(0, 7, 8)
    damaged = tmp_path / "vault" / "snapshots" / old
    damaged.write_bytes(damaged.read_bytes()[:-1])
    code, output, errors = history("--keep-last", "1", "--yes")
    assert code == 3
    assert f"snapshots/{old} cannot be read" in errors
    assert output.endswith("1 of 3 snapshots removed.\n")
    assert damaged.exists()
    assert not damaged.with_name(older).exists()


def test_without_snapshots_or_rules_there_is_nothing_to_remove(with_vault: Terminal, tmp_path: Path) -> None:
    vault = ("--vault", tmp_path.name)
    nothing = f"There are no rules for what is in {tmp_path.name}: everything is kept, 0 snapshots.\n"
    assert with_vault("retention", *vault, "--yes") == (0, nothing, "")
    assert with_vault("retention", *vault, "--keep-last", "1", "--yes")[0] == 0
    assert with_vault("retention", "--vault", "nowhere", "--keep-last", "1", "--yes")[0] == 6


def test_stored_rules_are_those_of_the_vault_and_of_single_items(history: History, monkeypatch: Any) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    (old,) = history.before(0, 7)
    (other,) = history.before(1, 7)
    terminal, stored = history.terminal, ("vault", "retention", history.vault)
    assert terminal(*stored) == (0, f"{history.vault}: keep everything\nThere was no pass yet.\n", "")
    assert terminal(*stored, "--keep-daily", "30", "--keep-last", "2")[0] == 0
    shown = terminal.json(*stored, "--item", history.item(0)[:35], "--keep-last", "1")
    assert shown["policy"] == {
        "mode": 802,
        "ranges": [{"type": 900, "jobs": 2}, {"type": 907, "jobs": 30}],
        "time_zone": "Europe/Berlin",
    }
    assert [(one["item"], one["policy"]["ranges"]) for one in shown["items"]] == [
        (history.item(0), [{"type": 900, "jobs": 1}])
    ]
    assert history.left() == history.all()
    assert history("--keep-all", "--yes")[0] == 0  # rules that are given override all that are stored
    assert history.left() == history.all()
    code, _, errors = history("--yes")
    assert code == 0
    assert "rules: keep the latest (days of Europe/Berlin)\n" in errors
    assert history.left() == history.all() - {old}
    # Half a pass is none: what no snapshot needs is still there.
    assert terminal.json(*stored)["last_pass"] is None
    assert history("--prune", "--yes")[0] == 0
    assert terminal.json(*stored)["last_pass"] is not None
    assert terminal(*stored, "--item", history.item(0), "--clear")[0] == 0
    assert terminal.json(*stored)["items"] == []
    assert terminal(*stored, "--clear")[1].startswith(f"{history.vault}: keep everything\n")
    assert other in history.left()
    for wrong, code in (
        (("--item", "ffff", "--keep-last", "1"), 6),
        (("--item", "ffff"), 2),
        (("--keep-last", "0"), 2),
    ):
        assert terminal(*stored, *wrong)[0] == code
    # A policy of a later version, or a zone that this device does not know, removes nothing.
    vault = next(one for one in history.terminal.office.auth.vaults.values() if one.name == history.vault)
    vault.retention.mode = 802
    vault.retention.ranges.add(type=912, jobs=1)
    code, _, errors = history("--yes")
    assert (code, "of the vault" in errors, "ranges[0].type" in errors) == (2, True, True)
    vault.retention.ranges[0].type = 900
    vault.retention.time_zone = "Mars/Olympus"
    assert history("--yes")[0] == 2


def test_a_pass_follows_a_backup_as_the_level_has_it(history: History) -> None:
    old = history.before(0, 7, 8, 9)
    terminal, stored = history.terminal, ("vault", "retention", history.vault)

    def backed_up(*options: str) -> tuple[int, list[dict[str, Any]], str]:
        code, output, errors = terminal("backup", str(history.folders[0]), "--vault", history.vault, "--json", *options)
        lines = [json.loads(line) for line in output.splitlines()]
        history.ids[0].append(next(line["snapshot"] for line in lines if line["type"] == "summary"))
        return code, lines, errors

    assert backed_up("--auto-retention", "immediate")[1][-1]["type"] == "summary"  # no rules are stored
    assert terminal(*stored, "--keep-last", "4")[0] == 0
    # There was no pass yet, and two are over: with less-often that is a try, and a vault in use is no failure then.
    with in_use(history):
        code, lines, errors = backed_up("--auto-retention", "less-often")
        assert (code, lines[-1]["type"]) == (0, "summary")
        assert errors.startswith("backup-tool: no retention this time: ")
        code, lines, errors = backed_up("--auto-retention", "immediate")
        assert (code, lines[-1]["type"]) == (5, "summary")
        assert "is locked by" in errors
    assert history.left() == history.all()
    code, lines, errors = backed_up("--auto-retention", "less-often")
    assert (code, errors) == (0, "")
    gone = {*old, history.ids[0][0]}
    assert history.left() == history.all() - gone
    assert lines[-1] == {
        "type": "retention",
        "need": "must",
        "removed": lines[-1]["removed"],
        "in_use": [],
        "prune": lines[-1]["prune"],
        "job": history.job()["id"],
    }
    assert set(lines[-1]["removed"]) == gone
    assert lines[-1]["prune"]["problems"] == {"count": 0, "named": []}
    # There was one just now: two over are too few for another, and three are a try for more-often.
    for level in ("less-often", "automatic"):
        assert backed_up("--auto-retention", level)[1][-1]["type"] == "summary"
    output = terminal("backup", str(history.folders[0]), *("--vault", history.vault, "--auto-retention", "more-often"))[
        1
    ]
    assert "Retention: 3 snapshots removed that no rule keeps.\n" in output
    assert history.terminal("check", "--vault", history.vault, "--read-data")[0] == 0


def test_a_device_that_may_only_add_backs_up_and_leaves_retention_to_others(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.before(0, 7, 8, 9)
    history.terminal("vault", "retention", history.vault, "--keep-last", "1")
    monkeypatch.setattr(LocalStore, "allows", lambda _store, purpose: purpose is not Purpose.RETENTION)
    said = f"{history.terminal.home.parent / 'vault'} lets this device only add: another one must do this."
    backup = ("backup", str(history.folders[0]), "--vault", history.vault, "--auto-retention")
    for level in ("immediate", "automatic"):
        code, output, errors = history.terminal(*backup, level)
        assert (code, errors) == (0, f"backup-tool: retention is due, but not from here: {said}\n")
        assert "Retention:" not in output
    for options in ((), ("--prune",), ("--keep-last", "1", "--prune")):
        code, output, errors = history(*options, "--yes")
        assert (code, output, errors) == (5, "", f"backup-tool: {said}\n")
    assert history("--dry-run")[0] == 0
    assert history.all() < history.left()


def test_a_clock_that_is_ahead_makes_nothing_old(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "datetime":  # type: ignore[override]
            return datetime.now(tz) + 400 * DAY

    old, older = history.before(0, 7, 40)
    monkeypatch.setattr("client.cli.retention.datetime", Ahead)
    assert history("--keep-within", "30d", "--yes")[1].endswith("1 of 4 snapshots removed.\n")
    assert history.left() == history.all() - {older}
    history.terminal.office.auth.is_down = True
    try:
        # Nobody tells better now; and then it is every snapshot of the item, which is taken for a mistake.
        assert history("--keep-within", "30d", "--yes")[0] == 3
        # Stored rules may be others by now.
        code, _, errors = history("--yes")
        assert (code, "Cannot reach" in errors) == (5, True)
    finally:
        history.terminal.office.auth.is_down = False
    assert old in history.left()


def test_a_prune_frees_what_only_removed_snapshots_needed(with_vault: Terminal, source: Path, tmp_path: Path) -> None:
    vault = ("--vault", tmp_path.name)
    for _ in range(2):
        (source / "noise").write_bytes(os.urandom(3 << 20))
        with_vault.json_lines("backup", str(source), *vault)
    # None may stay unused, however short a chunk at the end of the noise is.
    prune = ("retention", *vault, "--keep-last", "1", "--prune", "--max-unused", "0%")
    planned = with_vault.json_lines(*prune, "--dry-run")[-1]["prune"]
    assert with_vault(*prune)[0] == 2
    assert planned["is_plan"]
    assert planned["freed_bytes"] >= 3 << 20
    code, output, _ = with_vault(*prune, "--yes")
    assert (code, output.startswith("1 of 2 snapshots removed.\n3.0 MiB freed and ")) == (0, True)
    packs = sum(path.stat().st_size for path in (tmp_path / "vault" / "data").rglob("*") if path.is_file())
    assert packs < 4 << 20
    assert with_vault("check", *vault, "--read-data")[0] == 0
    limits = ("--max-unused", "0%", "--max-repack-size", "1M")
    again = with_vault.json_lines(*prune, "--yes", *limits)[-1]
    assert (again["removed"], again["prune"]["problems"]["count"]) == ([], 0)
    for wrong in (limits, ("--prune", "--max-unused", "5 percent"), ("--prune", "--max-repack-size", "-1")):
        assert with_vault("retention", *vault, "--keep-last", "1", "--yes", *wrong)[0] == 2
    # What is damaged and needed is named, and nothing goes as long as it is.
    index = min((tmp_path / "vault" / "index").iterdir())
    index.write_bytes(index.read_bytes()[:-1])
    code, output, errors = with_vault(*prune, "--yes")
    assert (code, index.name in errors) == (8, True)
    assert output.endswith("must be mended first (`backup-tool check`).\n")
