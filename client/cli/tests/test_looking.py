import json
import os
import subprocess
from pathlib import Path

import pytest

from client.cli.tests.terminal import Terminal
from domain.names import ObjectKind


@pytest.fixture
def history(with_vault: Terminal, source: Path, tmp_path: Path) -> list[str]:
    """Ids of two snapshots of `source`: between them a file was changed, one added and one removed."""
    vault = ("--vault", tmp_path.name)
    ids = [
        with_vault.json_lines("backup", str(source), *vault, "--tag", "first", "--note", "the first")[-1]["snapshot"]
    ]
    (source / "letters" / "a.txt").write_text("dear reader, once more")
    (source / "letters" / "b.md").unlink()
    (source / "letters" / "c.md").write_text("# new")
    ids.append(with_vault.json_lines("backup", str(source), *vault)[-1]["snapshot"])
    return ids


def test_find_names_the_versions_of_a_path_and_their_snapshots(
    with_vault: Terminal, source: Path, tmp_path: Path, history: list[str]
) -> None:
    vault = ("--vault", tmp_path.name)
    a, b = with_vault.json("find", "A.TXT", "b.*", "-i", *vault)
    assert (a["path"], b["path"]) == (f"{source}/letters/a.txt", f"{source}/letters/b.md")
    assert [(one["size"], one["snapshots"]) for one in a["versions"]] == [(11, history[:1]), (22, history[1:])]
    assert [one["snapshots"] for one in b["versions"]] == [history[:1]]
    assert [one["path"] for one in with_vault.json("find", "*", "--larger", "20", *vault)] == [a["path"]]
    assert with_vault.json("find", "*", "--older", "2000-01-01", *vault) == []
    (only,) = with_vault.json("find", "*.txt", "--snapshot", history[0][:9], *vault)
    assert [one["size"] for one in only["versions"]] == [11]
    output = with_vault("find", "link", *vault)[1]
    assert "letters/link\n" in output
    assert f"in 2 snapshots, {history[0][:8]} of " in output
    for wrong in (("--larger", "big"), ("--newer", "yesterday")):
        assert with_vault("find", "x", *wrong, *vault)[0] == 2
    assert with_vault("find", "x", "--snapshot", "ffff", *vault)[0] == 6


def test_diff_tells_what_became_of_each_path(
    with_vault: Terminal, source: Path, tmp_path: Path, history: list[str]
) -> None:
    vault = ("--vault", tmp_path.name)
    lines = with_vault.json_lines("diff", *history, str(source / "letters"), *vault)
    changes = [(os.path.basename(line["path"]), line["change"], line["new_size"]) for line in lines[:-1]]  # noqa: PTH119
    assert changes == [
        ("letters", "metadata", 0),
        ("a.txt", "content", 22),
        ("b.md", "removed", None),
        ("c.md", "added", 5),
    ]
    assert (lines[-1]["old"], lines[-1]["new"]) == tuple(history)
    assert lines[-1]["changed"] == {"files": 1, "dirs": 0, "others": 0, "bytes": 22}
    assert (lines[-1]["added"]["bytes"], lines[-1]["removed"]["bytes"]) == (5, 13)
    output = with_vault("diff", history[0], "latest", *vault)[1]
    assert f"M  {source}/letters/a.txt\n-  {source}/letters/b.md\n+  {source}/letters/c.md\n" in output
    assert f"U  {source}/letters/  (mtime)" in output
    assert "added:         1 file of 5 B" in output
    assert with_vault("diff", history[0], history[0], *vault)[1].startswith("added:         0 files")
    assert with_vault("diff", *history, "/none", *vault)[0] == 6


def test_stats_tell_what_each_snapshot_added(with_vault: Terminal, tmp_path: Path, history: list[str]) -> None:
    vault = ("--vault", tmp_path.name)
    found = with_vault.json("stats", *vault)
    assert [(one["id"], one["files"], one["total_bytes"]) for one in found["by_snapshot"]] == [
        (history[0], 2, 24),
        (history[1], 2, 27),
    ]
    assert sum(one["added_stored_bytes"] for one in found["by_snapshot"]) == found["stored_bytes"]
    assert (found["total_bytes"], found["by_item"][0]["snapshots"]) == (51, 2)
    files = [path for path in (tmp_path / "vault").rglob("*") if path.is_file() and path.parent.name != "tmp"]
    assert found["vault_bytes"] == sum(path.stat().st_size for path in files)
    one = with_vault.json("stats", "latest", *vault)
    assert (one["snapshots"], one["total_bytes"], one["vault_bytes"]) == (1, 27, None)
    assert "2 snapshots, restored one by one: 51 B" in with_vault("stats", *vault)[1]
    assert history[0][:8] in with_vault("stats", history[0][:8], *vault)[1]


def test_tags_and_notes_are_shown_filtered_grouped_and_changed(
    with_vault: Terminal, tmp_path: Path, history: list[str]
) -> None:
    vault = ("--vault", tmp_path.name)
    new, old = with_vault.json("snapshots", *vault)
    assert (old["tags"], old["note"], old["this_device"]) == (["first"], "the first", True)
    assert (new["tags"], new["note"], new["original"]) == ([], None, None)
    assert [one["id"] for one in with_vault.json("snapshots", *vault, "--tag", "first")] == [history[0]]
    assert [one["id"] for one in with_vault.json("snapshots", *vault, "--tag", "")] == [history[1]]
    assert with_vault.json("snapshots", *vault, "--tag", "first,second") == []
    assert with_vault.json("snapshots", *vault, "--host", "nowhere") == []
    assert "no snapshot like that" in with_vault("snapshots", *vault, "--path", "/none")[1]
    assert [one["id"] for one in with_vault.json("snapshots", *vault, "--latest", "1")] == [history[1]]
    grouped = with_vault.json("snapshots", *vault, "--group-by", "host,tags", "--latest", "1")
    assert [(group["group"]["tags"], len(group["snapshots"])) for group in grouped] == [([], 1), (["first"], 1)]
    output = with_vault("snapshots", *vault, "--group-by", "tags")[1]
    assert "tags -:\n" in output
    assert "tags first:\n" in output
    assert "the first" in output
    assert with_vault("snapshots", *vault, "--group-by", "colour")[0] == 2

    both = with_vault.json_lines("tag", "latest", history[0][:8], "--add", "kept", *vault)
    assert [one["old"] for one in both] == [history[1], history[0]]
    assert [one["tags"] for one in both] == [["kept"], ["first", "kept"]]
    assert {one["original"] for one in both} == set(history)
    output = with_vault("note", both[0]["id"], "so it was", *vault)[1]
    assert output.startswith(f"Snapshot {both[0]['id'][:8]} is now ")
    assert output.endswith(": tags kept; note: so it was\n")
    assert "is as it was" in with_vault("note", "latest", "so it was", *vault)[1]
    assert len(list((tmp_path / "vault" / "snapshots").iterdir())) == 2
    assert with_vault.json("check", *vault)["errors"] == 0


def test_what_cannot_be_a_tag_or_a_note_is_refused_before_anything_is_done(
    with_vault: Terminal, source: Path, tmp_path: Path
) -> None:
    vault = ("--vault", tmp_path.name)
    for arguments in (("--tag", "oort:item=x"), ("--tag", "a,b"), ("--note", "x" * 3000)):
        code, _, errors = with_vault("backup", str(source), *arguments, *vault)
        assert (code, errors.count("\n")) == (2, 1)
    assert with_vault.json("snapshots", *vault) == []
    for change in ((), ("--set", "x", "--add", "y"), ("--remove", "oort:device=x")):
        assert with_vault("tag", "latest", *change, *vault)[0] == 2
    assert with_vault("tag", "latest", "--set", "", *vault)[0] == 6


def test_what_other_devices_made_is_hidden_until_it_is_asked_for(
    with_vault: Terminal, tmp_path: Path, history: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = ("--vault", tmp_path.name)
    monkeypatch.setattr("client.account.device.Device.id", "another")
    code, output, errors = with_vault("snapshots", *vault)
    assert (code, output) == (0, f"This device has no snapshot in {tmp_path.name} yet.\n")
    assert errors == "backup-tool: 2 snapshots of other devices not shown: --all-devices shows all.\n"
    assert len(with_vault("snapshots", "--all-devices", *vault)[1].splitlines()) == 3
    assert [one["this_device"] for one in with_vault.json("snapshots", *vault)] == [False, False]
    for command in (("ls", "latest"), ("stats", "latest"), ("note", "latest", "x"), ("diff", history[0], "latest")):
        code, _, errors = with_vault(*command, *vault)
        assert (code, "No snapshot of the vault is of this device" in errors) == (6, True)
        assert with_vault(*command, "--all-devices", *vault)[0] == 0
    assert with_vault("restore", "latest", "--target", str(tmp_path / "target"), *vault)[0] == 6
    assert with_vault("restore", "latest", "--all-devices", "--target", str(tmp_path / "target"), *vault)[0] == 0
    assert with_vault("ls", history[0], *vault)[0] == 0
    code, output, errors = with_vault("find", "a.txt", *vault)
    assert (code, output, "2 snapshots of other devices" in errors) == (0, "", True)
    assert len(with_vault.json("find", "a.txt", "--all-devices", *vault)) == 1
    assert "2 snapshots of other devices counted" in with_vault("stats", *vault)[2]


def test_what_cannot_be_read_is_named_and_the_exit_code_says_so(
    with_vault: Terminal, tmp_path: Path, history: list[str]
) -> None:
    vault = ("--vault", tmp_path.name)
    bad = tmp_path / "vault" / "snapshots" / ("ab" * 32)
    bad.write_bytes(b"rubbish" * 20)
    for command in (("snapshots",), ("find", "a.txt"), ("diff", *history), ("stats",)):
        code, _, errors = with_vault(*command, *vault)
        assert (code, f"{ObjectKind.SNAPSHOT}/{bad.name} cannot be read" in errors, errors.count("\n")) == (3, True, 1)
    bad.unlink()
    for pack in (tmp_path / "vault" / "data").rglob("*"):
        if pack.is_file():
            pack.chmod(0o600)
            pack.write_bytes(bytes(pack.stat().st_size))
    for command in (("find", "a.txt"), ("diff", *history), ("stats",)):
        code, _, errors = with_vault(*command, *vault)
        assert (code, "/ cannot be read" in errors) == (8, True), errors


def test_a_vault_in_which_nothing_was_ever_stored_has_nothing_to_tell(with_vault: Terminal, tmp_path: Path) -> None:
    vault = ("--vault", tmp_path.name)
    assert with_vault.json("find", "x", *vault) == []
    assert with_vault.json("stats", *vault)["snapshots"] == 0
    assert json.loads(with_vault("stats", "latest", *vault, "--json")[2])["exit_code"] == 6


@pytest.mark.needs("restic")
def test_restic_sees_tags_and_notes_and_keeps_them_when_it_changes_a_snapshot(
    with_vault: Terminal, tmp_path: Path, history: list[str]
) -> None:
    vault = ("--vault", tmp_path.name)
    noted = with_vault.json_lines("note", history[0], "one, two & <three>", *vault)[0]
    found = with_vault.json("vault", "recovery", tmp_path.name)
    environment = {**os.environ, "RESTIC_PASSWORD": found["password"], "RESTIC_CACHE_DIR": str(tmp_path / "cache")}

    def restic(*arguments: str) -> str:
        command = ["restic", "--repo", found["path"], *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    (theirs,) = (one for one in json.loads(restic("snapshots", "--json")) if one["id"] == noted["id"])
    assert theirs["original"] == history[0]
    assert theirs["tags"][-2:] == ["first", "oort:note=one, two & <three>"]
    restic("tag", "--add", "theirs", noted["id"])
    restic("check")
    (changed,) = with_vault.json("snapshots", "--tag", "theirs", *vault)
    assert (changed["note"], changed["tags"], changed["this_device"]) == (noted["note"], ["first", "theirs"], True)
    assert changed["original"] == history[0]
