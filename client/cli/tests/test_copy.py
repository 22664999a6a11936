"""Snapshots copied to another vault, as a person and a script see it."""

import json
import shutil
from pathlib import Path

import pytest

from client.cli.tests.terminal import Terminal
from client.cli.tests.test_damaged_vault import DATA, Harmed
from client.restore.compare import differences
from client.testing.damage import remove


@pytest.fixture
def second(with_vault: Terminal, tmp_path: Path) -> str:
    """Another vault of the same account."""
    name = f"{tmp_path.name}-second"
    assert with_vault("vault", "add", "--local", str(tmp_path / "second"), "--name", name)[0] == 0
    return name


def test_a_copy_is_restored_and_the_next_backup_goes_on_from_it(
    with_vault: Terminal, second: str, source: Path, tmp_path: Path
) -> None:
    first = tmp_path.name
    snapshots = [with_vault.json_lines("backup", str(source), "--vault", first)[-1]["snapshot"]]
    (source / "letters" / "c.txt").write_text("another")
    snapshots.append(with_vault.json_lines("backup", str(source), "--vault", first)[-1]["snapshot"])

    code, output, errors = with_vault("copy", "--from", first, "--to", second, "--snapshot", snapshots[0][:12])
    assert (code, errors) == (0, "")
    assert "1 snapshot copied, 0 there already" in output
    rest = with_vault.json_lines("copy", "--from", first, "--to", second)[-1]
    assert [one["snapshot"] for one in rest["copied"]] == snapshots[1:]
    assert (rest["present"], rest["lost"], rest["warnings"]) == (1, 0, 0)

    again = with_vault.json_lines("backup", str(source), "--vault", second)[-1]
    assert again["parent"] == rest["copied"][0]["copy"]
    assert (again["files_new"], again["files_changed"]) == (0, 0)
    assert again["new_bytes"] < 4096  # the folder that holds the vaults has another time
    assert with_vault("check", "--vault", second, "--read-data")[0] == 0
    assert with_vault("restore", "latest", "--target", str(tmp_path / "target"), "--vault", second)[0] == 0
    assert not list(differences(source, tmp_path / "target" / source.relative_to("/")))
    jobs = with_vault.json("jobs")
    assert [job["status"] for job in jobs] == [5000] * 6


def test_what_cannot_be_copied_is_one_line_that_says_why(
    with_vault: Terminal, second: str, source: Path, tmp_path: Path
) -> None:
    first = tmp_path.name
    to_second = ("copy", "--from", first, "--to", second)
    assert "0 snapshots copied" in with_vault(*to_second)[1]
    with_vault.json_lines("backup", str(source), "--vault", first)
    shutil.copytree(tmp_path / "vault", tmp_path / "twin")
    password = with_vault.json("vault", "recovery", first)["password"]
    twin = ("vault", "add", "--local", str(tmp_path / "twin"), "--name", f"{first}-twin", "--repository-password-stdin")
    assert with_vault(*twin, given=f"{password}\n")[0] == 0
    for arguments, said in (
        (("copy", "--from", first, "--to", first), "name the same vault"),
        (("copy", "--from", first, "--to", f"{first}-twin"), "file by file"),
        (("copy", "--from", "unknown", "--to", second), "unknown"),
        ((*to_second, "--snapshot", "0123"), "0123"),
    ):
        code, output, errors = with_vault(*arguments)
        assert (code != 0, output) == (True, "")
        assert said in errors
        assert len(errors.splitlines()) == 1


def test_a_snapshot_that_has_lost_something_is_named_and_the_others_are_copied(
    with_vault: Terminal, second: str, source: Path, tmp_path: Path
) -> None:
    harmed = Harmed(with_vault, source, tmp_path)
    victim = harmed.of("data", data=DATA)
    remove(victim, victim)
    code, output, _ = with_vault("copy", "--from", harmed.name, "--to", second, "--json")
    lines = [json.loads(line) for line in output.splitlines()]
    assert code == 8
    assert [line["snapshot"] for line in lines if line["type"] == "lost"] == [harmed.second]
    assert [one["snapshot"] for one in lines[-1]["copied"]] == [harmed.first]
    assert with_vault("check", "--vault", second, "--read-data")[0] == 0
    assert with_vault.json("jobs")[0]["status"] == 7002
