"""What `check` and a prune tell, however much that is."""

import pytest

from client.cli import check
from client.cli.pruning import describe_prune, show_prune
from client.retention.prune import PruneReport
from client.vault.problems import Problem, cost_only


def test_a_check_remembers_so_many_problems_and_tells_and_counts_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "_REMEMBERED", 30)
    problems = [Problem(f"data/{number}", "it is damaged") for number in range(80)]
    problems += [cost_only(f"data/{number}", "no index file lists it") for number in range(20)]
    telling = check._Telling(as_json=False)
    for _ in range(2):  # as where the session was ended
        telling.begin()
        told = [problem for problem in problems if telling.problem(problem)]
        assert (telling.errors, telling.notes) == (80, 20)
        assert not [problem for problem in problems[:30] if telling.problem(problem)]
    assert told == problems[30:]
    assert {*capsys.readouterr().err.splitlines()} == {
        f"{'error' if problem.is_error else 'note'}: {problem}" for problem in problems
    }
    assert len(telling._told) == 30
    assert {*map(len, telling._told)} == {16}


def test_what_a_prune_leaves_for_running_sessions_is_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    report = PruneReport(packs_in_use=2, index_files_in_use=1)
    show_prune(report)
    told = capsys.readouterr()
    assert "Kept for now, for sessions that use them: 2 packs and 1 index file." in told.out
    assert not told.err
    fields = describe_prune(report)
    assert (fields["packs_in_use"], fields["index_files_in_use"], fields["refused"]["count"]) == (2, 1, 0)
