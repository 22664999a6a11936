"""A clock that is set back one day: between two backups, and during one. Nothing hangs on it."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import pytest

from client.account import backup_run
from client.cli.tests.terminal import Terminal
from client.stores.local import LocalSession

DAY = timedelta(days=1)


class Shifted(datetime):
    """The wall clock of this program. gRPC's is left alone: it compares with the kernel's, which no test can set."""

    behind = timedelta()

    @classmethod
    def now(cls, tz: object = None) -> Self:  # noqa: ARG003
        return cls.fromtimestamp(time.time_ns() / 10**9, UTC)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Shifted]]:
    nanoseconds = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: nanoseconds() - int(Shifted.behind.total_seconds()) * 10**9)
    monkeypatch.setattr(backup_run, "datetime", Shifted)
    yield Shifted
    Shifted.behind = timedelta()


def back_up(terminal: Terminal, source: Path, tmp_path: Path) -> dict[str, str | int]:
    code, output, errors = terminal("backup", str(source), "--vault", tmp_path.name, "--json")
    assert (code, errors) == (0, "")
    summary: dict[str, str | int] = json.loads(output.splitlines()[-1])
    return summary


def restore(terminal: Terminal, source: Path, tmp_path: Path, number: int) -> set[str]:
    target = tmp_path / f"target-{number}"
    assert terminal("restore", "latest", "--target", str(target), "--vault", tmp_path.name)[::2] == (0, "")
    return {path.name for path in (target / source.relative_to("/")).iterdir()}


def test_the_backup_after_the_clock_was_set_back_is_the_latest_and_the_parent_of_the_next(
    with_vault: Terminal, source: Path, tmp_path: Path, clock: type[Shifted]
) -> None:
    first = back_up(with_vault, source, tmp_path)
    clock.behind = DAY
    (source / "second").write_text("2")
    second = back_up(with_vault, source, tmp_path)
    assert second["parent"] == first["snapshot"]
    assert restore(with_vault, source, tmp_path, 2) == {"letters", "second"}
    (source / "third").write_text("3")
    third = back_up(with_vault, source, tmp_path)
    assert third["parent"] == second["snapshot"]
    assert third["files_unmodified"] == 3
    assert restore(with_vault, source, tmp_path, 3) == {"letters", "second", "third"}
    listed = with_vault.json("snapshots", "--vault", tmp_path.name)
    assert [one["id"] for one in listed] == [third["snapshot"], second["snapshot"], first["snapshot"]]
    times = [datetime.fromisoformat(one["time"]) for one in listed]
    assert times[2] - times[0] > DAY / 2, "the times themselves are what the clock said"
    assert with_vault("check", "--vault", tmp_path.name, "--read-data")[0] == 0
    assert {job["status"] for job in with_vault.json("jobs")} == {5000}


def test_a_backup_goes_through_while_the_clock_is_set_back(
    with_vault: Terminal, source: Path, tmp_path: Path, clock: type[Shifted], monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = LocalSession.put

    def put(session: LocalSession, *arguments: object) -> bool:
        clock.behind = DAY
        return genuine(session, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(LocalSession, "put", put)
    summary = back_up(with_vault, source, tmp_path)
    assert clock.behind == DAY
    assert [one["id"] for one in with_vault.json("snapshots", "--vault", tmp_path.name)] == [summary["snapshot"]]
    assert restore(with_vault, source, tmp_path, 1) == {"letters"}
    assert not list((tmp_path / "vault" / "locks").iterdir())
    assert {job["status"] for job in with_vault.json("jobs")} == {5000}
