"""check, repair and rebuild-index as a person and a script meet them."""

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from client.cli.tests.terminal import Terminal
from client.cli.tests.test_damaged_vault import DATA, Harmed
from client.testing.damage import flip, remove


@pytest.fixture
def harmed(with_vault: Terminal, source: Path, tmp_path: Path) -> Harmed:
    return Harmed(with_vault, source, tmp_path)


def lines(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_check_names_what_a_damage_touches(harmed: Harmed) -> None:
    victim = harmed.of("data", data=DATA)
    flip(victim, victim)
    vault = ("--vault", harmed.name)
    code, output, errors = harmed.terminal("check", *vault, "--read-data")
    assert code == 8
    assert f"lost: {harmed.source}/new in snapshot {harmed.second[:8]}, with data/{victim.name}" in errors
    assert "1 path in 1 snapshot touched" in output
    code, output, _ = harmed.terminal("check", *vault, "--read-data", "--json")
    touched = [line for line in lines(output) if line["type"] == "touched"]
    expected = {"path": f"{harmed.source}/new", "objects": [f"data/{victim.name}"], "snapshots": [harmed.second]}
    assert (code, touched) == (8, [{"type": "touched", **expected}])


def test_check_of_a_subset_says_its_seed_and_draws_it_again(harmed: Harmed) -> None:
    vault = ("--vault", harmed.name)
    code, output, errors = harmed.terminal("check", *vault, "--read-data-subset", "50%")
    assert (code, errors) == (0, "")
    seed = output.split("--seed ")[1].split()[0]
    again = harmed.terminal.json("check", *vault, "--read-data-subset", "50%", "--seed", seed)
    assert (again["seed"], again["packs_read"]) == (seed, max(1, len(list((harmed.vault / "data").glob("*/*"))) // 2))
    for wrong in (["--read-data-subset", "8/7"], ["--seed", "x"], ["--read-data-subset", "1/2", "--read-data"]):
        assert harmed.terminal("check", *vault, *wrong)[0] == 2


def test_what_a_restore_finds_damaged_the_next_backup_stores_again(harmed: Harmed) -> None:
    victim = harmed.of("data", data=DATA)
    flip(victim, victim)
    vault = ("--vault", harmed.name)
    assert harmed.terminal("restore", "latest", "--target", str(harmed.target), *vault)[0] == 8
    assert harmed.terminal("backup", str(harmed.source), *vault)[0] == 0
    code, errors, restored = harmed.restore()
    assert (code, errors) == (0, "")
    assert harmed.is_whole_but(restored)


def test_repair_says_its_plan_and_does_nothing_until_somebody_agrees(harmed: Harmed) -> None:
    victim = harmed.of("data", data=DATA)
    remove(victim, victim)
    before = harmed.files()
    for options in ((), ("--dry-run",), ("--dry-run", "--json")):
        code, _, errors = harmed("repair", *options)
        assert code == (8 if options else 2)
        assert f"plan: make of snapshot {harmed.second[:8]} another" in errors
    code, output, errors = harmed("repair", "--json")
    assert (code, f"plan: make of snapshot {harmed.second[:8]} another" in errors) == (2, True)
    assert json.loads(errors.splitlines()[-1])["exit_code"] == 2
    assert all(line["type"] != "summary" for line in lines(output))
    assert harmed.files() == before
    code, output, errors = harmed("repair", "--yes", "--json")
    assert (code, "plan: " in errors) == (8, True)
    summary = lines(output)[-1]
    (new,) = summary["repaired"].values()
    assert list(summary["repaired"]) == [harmed.second]
    code, _, restored = harmed.restore()  # `latest` is the repaired one
    assert code == 0
    assert harmed.is_whole_but(restored, "new")
    listed = harmed.terminal.json("snapshots", "--vault", harmed.name)
    assert [(one["id"], one["tags"]) for one in listed][:2] == [(new, ["repaired"]), (harmed.second, [])]
    code, output, _ = harmed("repair", "--yes", "--forget")
    assert code == 8
    assert "1 damaged snapshot removed." in output
    assert harmed.check()[0] == 0
    assert harmed("repair")[0:2] == (0, f"{harmed.name} has lost nothing: there is nothing to repair.\n")


def test_rebuild_index_brings_back_what_a_lost_index_file_listed(harmed: Harmed) -> None:
    remove(harmed.of("index"), harmed.source)
    assert harmed.check()[0] == 8
    code, output, errors = harmed("rebuild-index", "--read-all-packs")
    assert (code, errors.count("no index file listed it")) == (0, 2)
    assert "is made anew: " in output
    assert harmed.check()[0] == 0
    packs = len(list((harmed.vault / "data").glob("*/*")))
    summary = lines(harmed("rebuild-index", "--json")[1])[-1]
    assert (summary["packs"], summary["index_files"], summary["removed_index_files"]) == (packs, 1, 1)
    assert harmed.restore()[0] == 0


def test_rebuild_index_ends_with_8_when_a_pack_is_damaged_that_no_index_file_listed(harmed: Harmed) -> None:
    remove(harmed.of("index"), harmed.source)
    victim = harmed.of("data", data=True)
    body = bytearray(victim.read_bytes())
    body[100] ^= 1
    victim.chmod(0o600)
    victim.write_bytes(body)
    code, output, errors = harmed("rebuild-index")
    assert code == 8
    assert "1 blob lost: " in output
    assert f"{victim.name}: no index file listed it, and it is damaged" in errors
    assert "1 of 1 blobs are gone with it" in errors
    summary = lines(harmed("rebuild-index", "--json")[1])[-1]
    assert summary["lost_blobs"] == 1


def test_a_damaged_seal_and_a_damaged_key_are_named(harmed: Harmed) -> None:
    seal = harmed.vault / "oort-vault"
    whole = seal.read_bytes()
    flip(seal, seal)
    code, errors = harmed.check()
    assert (code, "oort-vault" in errors) == (8, True)
    seal.write_bytes(whole)
    key = harmed.vault / "keys" / ("0" * 64)
    key.write_bytes(b"no key")
    code, errors = harmed.check()
    assert (code, key.name in errors) == (8, True)


def test_a_key_goes_or_is_changed_only_when_the_plan_was_told_and_agreed_to(
    with_vault: Terminal, source: Path, tmp_path: Path
) -> None:
    def keys() -> set[str]:
        return {path.name for path in (tmp_path / "vault" / "keys").iterdir()}

    vault = ("--vault", tmp_path.name)
    assert with_vault("backup", str(source), *vault)[0] == 0
    (own,) = keys()
    added = with_vault.json("key", "add", *vault, "--new-password-stdin", given="seven quiet herons paint\n")["id"]
    for command, plan in (
        (("key", "remove", added[:10]), f"plan: remove the key {added[:8]}, made by "),
        (("key", "change"), f"plan: make a new key, then remove the key {own[:8]}"),
    ):
        before = keys()
        code, output, errors = with_vault(*command, *vault, "--json")
        assert (code, output, errors.startswith(plan)) == (2, "", True)
        assert "give --yes to agree" in json.loads(errors.splitlines()[-1])["message"]
        assert keys() == before
        code, _, errors = with_vault(*command, *vault, "--yes")
        assert (code, errors.startswith(plan)) == (0, True)
    assert not keys() & {own, added}


def test_verify_fetches_a_sample_and_compares_it_with_the_live_files(harmed: Harmed, tmp_path: Path) -> None:
    (harmed.source / "old").write_bytes(b"changed")
    (harmed.source / "letters" / "b.md").unlink()
    report = tmp_path / "report.json"
    code, output, errors = harmed.terminal("verify", "--vault", harmed.name, "--report", str(report))
    assert (code, errors) == (0, "")
    assert "2 are byte for byte what lies on this machine; 1 were changed since, 1 are not there any more." in output
    evidence = json.loads(report.read_text())
    assert (evidence["result"], evidence["snapshot"]["id"], evidence["sample"]) == ("passed", harmed.second, "100")
    assert {Path(one["path"]).name: one["live"] for one in evidence["files"]} == {
        "a.txt": "same",
        "b.md": "absent",
        "new": "same",
        "old": "changed",
    }
    new = (harmed.source / "new").read_bytes()
    (found,) = (one for one in evidence["files"] if one["path"].endswith("/new"))
    assert (found["sha256"], found["size"], len(found["chunks"])) == (sha256(new).hexdigest(), len(new), 1)
    # The seed draws the same files again; a report that is there is not written over.
    options = ("--vault", harmed.name, "--sample", "2", "--seed", evidence["seed"])
    again = [harmed.terminal("verify", *options, "--report", str(tmp_path / name))[0] for name in ("1", "2")]
    drawn = [json.loads((tmp_path / name).read_text())["files"] for name in ("1", "2")]
    assert (again, drawn[0]) == ([0, 0], drawn[1])
    assert len(drawn[0]) == 2
    assert harmed.terminal("verify", *options, "--report", str(report))[0] == 2
    assert harmed.terminal("verify", "--vault", harmed.name, "--sample", "none")[0] == 2


def test_verify_names_what_is_lost_and_what_differs_from_the_live_file(harmed: Harmed, tmp_path: Path) -> None:
    victim = harmed.of("data", data=DATA)
    flip(victim, victim)
    live = harmed.source / "old"
    status = live.stat()
    body = bytearray(live.read_bytes())
    body[7] ^= 1
    with live.open("r+b") as file:
        file.write(body)
    os.utime(live, ns=(status.st_atime_ns, status.st_mtime_ns))
    report = tmp_path / "report.json"
    code, output, errors = harmed.terminal("verify", "--vault", harmed.name, "--report", str(report))
    assert code == 8
    assert f"{harmed.source}/new: " in errors
    assert f"{harmed.source}/old: it is not what lies on this machine" in errors
    assert "2 paths lost, or other" in output
    assert json.loads(report.read_text())["result"] == "damaged"
    code, output, _ = harmed.terminal("verify", "--vault", harmed.name, "--json", "--snapshot", harmed.first)
    summary = lines(output)[-1]
    assert (code, summary["lost_files"], summary["live"]) == (8, 0, {"same": 2, "differs": 1})
