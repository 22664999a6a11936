"""What a person or a script sees beside the result."""

import json
import os
import sys
import time

import pytest

from client.backup.request import Tally
from client.cli.views import JsonView, LineView, TerminalView


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A monotonic clock that shows what is in the list."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_the_index_is_told_now_and_then(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    views = JsonView(), LineView()
    for seconds in (0.1, 11.0, 11.1):
        clock[0] = seconds
        for view in views:
            view.index_read(3, 1200)
    output, errors = capsys.readouterr()
    assert json.loads(output) == {"type": "index", "done": 3, "total": 1200, "seconds": 11.0}
    assert errors == "11.0 s: index files: 3 of 1,200\n"


def test_a_terminal_shows_the_index_until_the_work_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        view = TerminalView("Backing up")
        view.index_read(3, 1200)
        (task,) = view._progress.tasks
        assert task.description == "Reading the index, 3 of 1,200 files"
        view.advanced(Tally())
        assert task.description == "Backing up"
        view.close()
    os.close(master)


def test_what_the_result_does_not_depend_on_is_a_line_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    for view in (JsonView(), LineView(), TerminalView("Backing up")):
        view.noted("the memo is\nnot used")
        view.close()
        output, errors = capsys.readouterr()
        assert not output
        assert "backup-tool: the memo is\\nnot used\n" in errors
