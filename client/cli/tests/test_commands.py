import base64
import gc
import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import click
import pytest

from client.account.tests.an_auth import Office
from client.cli import jobs
from client.cli.commands import COMMANDS, GROUPS
from client.cli.program import build
from client.cli.tests.terminal import ROOT, Terminal, started
from client.errors import SessionOver
from client.stores.local import LocalSession
from domain.jobs import JobStatus
from domain.names import ObjectKind, ObjectName


def test_a_backup_is_listed_looked_into_and_restored(with_vault: Terminal, source: Path, tmp_path: Path) -> None:
    vault = ("--vault", tmp_path.name)
    code, output, errors = with_vault("backup", str(source), *vault, "--json")
    assert (code, errors) == (0, "")
    summary = json.loads(output.splitlines()[-1])
    assert summary["type"] == "summary"
    assert summary.keys() == {
        *("type", "snapshot", "parent", "files_new", "files_changed", "files_unmodified", "dirs", "total_files"),
        *(
            "total_bytes",
            "new_bytes",
            "stored_bytes",
            "uploaded_bytes",
            "seconds",
            "warnings",
            "job",
            "vault",
            "vaults",
        ),
    }
    (snapshot,) = with_vault.json("snapshots", *vault)
    assert snapshot["id"] == summary["snapshot"]
    assert snapshot["paths"] == [str(source)]
    listed = {node["path"]: node for node in with_vault.json("ls", "latest", *vault)}
    node = listed[f"{source}/letters/a.txt"]
    assert (node["type"], node["size"]) == ("file", 11)
    assert listed[f"{source}/letters/link"]["linktarget"] == "a.txt"
    below = with_vault.json("ls", snapshot["short_id"], f"{source}/letters", *vault)
    assert [node["path"] for node in below][1:] == [f"{source}/letters/{name}" for name in ("a.txt", "b.md", "link")]
    target = tmp_path / "target"
    code, output, _ = with_vault("restore", "latest", "--target", str(target), *vault, "--include", "*.md", "--json")
    assert code == 0
    assert json.loads(output.splitlines()[-1])["files"] == 1
    assert [path.name for path in target.rglob("*") if path.is_file()] == ["b.md"]
    jobs = with_vault.json("jobs")
    assert [(job["kind_name"], job["status_name"]) for job in jobs[:2]] == [
        ("restore", "success"),
        ("backup", "success"),
    ]
    summary = with_vault.json("check", *vault)
    assert (summary["type"], summary["errors"], summary["notes"], summary["packs_read"]) == ("summary", 0, 0, 0)


def test_everything_is_said_for_people_too(with_vault: Terminal, source: Path, tmp_path: Path) -> None:
    vault = ("--vault", tmp_path.name)
    assert "There is no snapshot" in with_vault("snapshots", *vault)[1]
    assert "2 files" in with_vault("backup", str(source), *vault)[1]
    assert "this device" in with_vault("snapshots", *vault)[1]
    assert "letters/link -> a.txt" in with_vault("ls", "latest", *vault)[1]
    assert "restored to" in with_vault("restore", "latest", "--target", str(tmp_path / "target"), *vault)[1]
    assert "backup" in with_vault("jobs")[1]
    assert "in order" in with_vault("check", *vault, "--read-data")[1]
    assert tmp_path.name in with_vault("vault", "list")[1]
    assert "default" in with_vault("vault", "templates")[1]
    assert "restic --repo" in with_vault("vault", "recovery", tmp_path.name)[1]
    assert "alice of local" in with_vault("status")[1]
    assert "Logged out" in with_vault("logout")[1]


def test_a_vault_s_url_for_restic_has_its_password_and_each_node(terminal: Terminal) -> None:
    assert terminal.log_in()[0] == 0
    made = terminal.json("vault", "request", "--template", "default", "--name", "main")
    found = terminal.json("vault", "rest", "main")
    assert found["url"] == f"rest:https://u:all@n1:8071/{made['bucket']}/"
    assert found["urls"][1] == f"rest:https://u:all@n2:8071/{made['bucket']}/"
    assert Path(found["ca"]).read_text().startswith("-----BEGIN CERTIFICATE")
    assert "u:appends@n1" in terminal.json("vault", "rest", "main", "--append-only")["url"]
    said = terminal("vault", "rest", "main")[1]
    assert said.startswith("export RESTIC_REPOSITORY='rest:https://")
    assert "restic --cacert" in said
    assert terminal.json("vault", "rest", "main", "--revoke") == {"vault": "main", "revoked": 2}
    assert "2 revoked" in terminal("vault", "rest", "main", "--revoke")[1]
    assert terminal("vault", "rest", "main", "--revoke", "--append-only")[0] == 2


def test_a_device_may_only_add_once_it_says_so_and_takes_it_not_back(terminal: Terminal) -> None:
    assert terminal.log_in()[0] == 0
    [device] = [one for one in terminal.json("device", "list") if one["current"]]
    assert device["append_only"] is False
    made = terminal.json("device", "append-only")
    assert made == {"id": device["id"], "name": "laptop", "append_only": True}
    [device] = [one for one in terminal.json("device", "list") if one["current"]]
    assert device["append_only"] is True
    assert "only add" in terminal("device", "list")[1]
    code, _, errors = terminal("device", "append-only", device["id"], "--off")
    assert (code, "The account lets this device only add: another one must do this." in errors) == (5, True)
    assert terminal("device", "append-only", "none")[0] == 6


def test_another_device_is_revoked_after_a_yes_and_this_one_is_not(terminal: Terminal, office: Office) -> None:
    assert terminal.log_in()[0] == 0
    other = str(uuid4())
    office.auth.devices[other] = b""
    code, _, errors = terminal("device", "revoke", other)
    assert (code, "give --yes" in errors, f"plan: revoke the device laptop ({other})" in errors) == (2, True, True)
    assert other not in office.auth.revoked
    code, output, _ = terminal("device", "revoke", other, "--yes", "--json")
    assert (code, json.loads(output)) == (0, {"id": other, "name": "laptop", "revoked": True})
    assert other in office.auth.revoked
    [left] = [one for one in terminal.json("device", "list") if one["current"]]
    code, _, errors = terminal("device", "revoke", left["id"], "--yes")
    assert (code, "logout --remove-device" in errors) == (2, True)
    assert left["id"] not in office.auth.revoked
    assert terminal("device", "revoke", other, "--yes")[0] == 6


def test_a_device_gets_another_name(terminal: Terminal) -> None:
    assert terminal.log_in()[0] == 0
    [device] = [one for one in terminal.json("device", "list") if one["current"]]
    assert terminal.json("device", "rename", device["id"], "studio") == {"id": device["id"], "name": "studio"}
    assert "The device studio is named attic." in terminal("device", "rename", "studio", "attic")[1]
    assert ("attic", True) in {(one["name"], one["current"]) for one in terminal.json("device", "list")}
    assert terminal("device", "rename", "studio", "again")[0] == 6


def test_a_vault_s_recovery_is_its_place_and_password(with_vault: Terminal, tmp_path: Path) -> None:
    found = with_vault.json("vault", "recovery", tmp_path.name)
    assert found["path"] == str(tmp_path / "vault")
    assert len(bytes.fromhex(found["password"])) == 32


def test_names_that_could_steer_a_terminal_are_escaped(with_vault: Terminal, tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "\x1b[2J").write_text("")
    Path(os.fsdecode(bytes(folder) + b"/caf\xe9")).write_text("")
    vault = ("--vault", tmp_path.name)
    assert with_vault("backup", str(folder), *vault)[0] == 0
    assert "\x1b" not in with_vault("ls", "latest", *vault)[1]
    assert "/caf\\xe9\n" in with_vault("ls", "latest", *vault)[1]
    nodes = {node["path"]: node for node in with_vault.json("ls", "latest", *vault)}
    assert "path_raw" not in nodes[f"{folder}/\x1b[2J"]
    raw = bytes(folder) + b"/caf\xe9"
    assert base64.b64decode(nodes[os.fsdecode(raw)]["path_raw"]) == raw


def test_a_relative_path_is_taken_from_the_working_folder(
    with_vault: Terminal, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = ("--vault", tmp_path.name)
    monkeypatch.chdir(source)
    assert with_vault("backup", "letters", *vault)[0] == 0
    expected = [f"{source}/letters/{name}" for name in ("", "a.txt", "b.md", "link")]
    for path in ("letters", "./letters/", "letters/../letters", "."):
        paths = [node["path"] for node in with_vault.json("ls", "latest", path, *vault)]
        assert paths[-4:] == [expected[0].rstrip("/"), *expected[1:]], path
    assert with_vault("ls", "latest", "none", *vault)[2].endswith(
        f"has no '{source}/none': `backup-tool ls` lists what it has.\n"
    )


def test_what_was_asked_for_is_quoted(with_vault: Terminal, source: Path, tmp_path: Path) -> None:
    vault = ("--vault", tmp_path.name)
    for _ in range(17):  # two ids begin with the same digit then
        assert with_vault("backup", str(source), *vault)[0] == 0
    assert "No snapshot matches '':" in with_vault("ls", "", *vault)[2]
    assert with_vault("ls", "latest", "", *vault)[::2] == (2, "backup-tool: '' is no path\n")
    digits = [snapshot["id"][0] for snapshot in with_vault.json("snapshots", *vault)]
    digit = max(digits, key=digits.count)
    code, _, errors = with_vault("ls", digit, *vault)
    assert (code, errors) == (
        6,
        f"backup-tool: {digits.count(digit)} snapshots begin with '{digit}': give more digits.\n",
    )


def test_the_guide_names_exactly_the_commands_that_answer_in_json() -> None:
    def commands(command: click.Command | None, *names: str) -> Iterator[tuple[str, click.Command]]:
        assert command is not None
        if not isinstance(command, click.Group):
            yield " ".join(names), command
            return
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from commands(command.get_command(context, name), *names, name)

    found = dict(commands(build()))
    having = {name for name, command in found.items() if any("--json" in option.opts for option in command.params)}
    guide = (ROOT / "docs" / "user-guide.md").read_text()
    claim = guide.partition("These commands take `--json`:")[2].partition(". ")[0]
    assert set(re.findall(r"`([a-z -]+)`", claim)) == having


def test_every_status_has_a_word_for_people() -> None:
    assert set(jobs._WORDS) == set(JobStatus)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("snapshots", "--vault", "none"), 6),
        (("backup", "/does/not/exist", "--vault", "VAULT"), 2),
        (("restore", "0000", "--target", "/nowhere/at/all", "--vault", "VAULT"), 6),
        (("ls", "latest", "--vault", "VAULT"), 6),
        (("vault", "add", "--local", "/proc/version", "--name", "x"), 2),
        (("vault", "add", "--local", "/nowhere/at/all", "--name", "VAULT"), 1),
        (("vault", "request", "--template", "none", "--name", "y"), 6),
        (("vault", "recovery", "none"), 6),
        (("password", "change"), 2),
        (("frobnicate",), 2),
        (("backup",), 2),
        (("jobs", "--limit", "0"), 2),
    ],
)
def test_bad_input_is_one_line_and_an_exit_code(
    with_vault: Terminal, tmp_path: Path, arguments: tuple[str, ...], code: int
) -> None:
    arguments = tuple(tmp_path.name if argument == "VAULT" else argument for argument in arguments)
    found, output, errors = with_vault(*arguments)
    assert (found, output) == (code, "")
    assert errors.startswith("backup-tool: ")
    assert errors.count("\n") == 1
    found, output, errors = with_vault(*arguments, "--json")
    assert (found, output) == (code, "")
    error = json.loads(errors)
    assert (error["type"], error["exit_code"]) == ("error", code)


def test_a_target_that_is_not_empty_is_left_alone(with_vault: Terminal, source: Path, tmp_path: Path) -> None:
    vault = ("--vault", tmp_path.name)
    with_vault("backup", str(source), *vault)
    code, _, errors = with_vault("restore", "latest", "--target", str(source), *vault)
    assert code == 2
    assert "not empty" in errors
    assert sorted(path.name for path in source.iterdir()) == ["letters"]


def test_without_a_login_every_command_says_so(terminal: Terminal) -> None:
    for arguments in (("vault", "list"), ("backup", "/", "--vault", "x"), ("jobs",), ("logout",)):
        code, _, errors = terminal(*arguments)
        assert code == 4
        assert "not logged in" in errors
    assert terminal("status")[0] == 4
    assert not terminal.home.exists()


def test_a_wrong_password_is_code_4(terminal: Terminal) -> None:
    code, _, errors = terminal.log_in("not-the-password")
    assert (code, errors) == (4, "backup-tool: Wrong user name or password: check both and log in again.\n")


def test_standard_input_must_hold_what_is_asked_for(terminal: Terminal) -> None:
    assert terminal.log_in("two\nlines")[0] == 2
    assert terminal.log_in("")[0] == 2
    terminal.log_in()
    code, _, errors = terminal("password", "change", "--password-stdin", given="one line\n")
    assert code == 2
    assert "2 lines" in errors


def test_help_and_version_go_without_a_login(terminal: Terminal) -> None:
    assert terminal("version")[:2] == (0, "backup-tool 0.1.0\n")
    assert terminal("--version")[:2] == (0, "backup-tool 0.1.0\n")
    assert "recovery" in terminal("vault", "--help")[1]
    code, output, _ = terminal("vault")
    assert code == 2
    assert "Usage" in output


def test_an_unexpected_error_is_one_line_and_a_report_without_values(
    with_vault: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object, **_others: object) -> None:
        secret = "do not tell"
        raise KeyError(len(secret))

    monkeypatch.setattr("client.account.vaults.Vaults.all", broken)
    code, _, errors = with_vault("vault", "list")
    assert code == 1
    assert errors.startswith("backup-tool: unexpected error ")
    assert errors.count("\n") == 1
    (report,) = (with_vault.home / "logs").iterdir()
    assert "KeyError: 11" in report.read_text()
    assert stat.S_IMODE(report.stat().st_mode) == 0o600


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_backup_is_cancelled_and_leaves_no_snapshot(
    with_vault: Terminal, tmp_path: Path, number: signal.Signals
) -> None:
    big = tmp_path / "big"
    big.touch()
    os.truncate(big, 1 << 40)  # nobody has read that much before the signal comes
    arguments = ["backup", str(big), "--vault", tmp_path.name, "--json"]
    process = started(arguments, {"BACKUP_TOOL_HOME": str(with_vault.home)})
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["type"] == "progress"
    process.send_signal(number)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert json.loads(errors)["error"] == "Interrupted"
    assert "summary" not in output
    assert with_vault.json("snapshots", "--vault", tmp_path.name) == []
    assert with_vault.json("jobs")[0]["status_name"] == "cancelled"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_while_the_program_loads_is_one_line_too(number: signal.Signals) -> None:
    code = (
        "import os, sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *others):\n"
        f"        if name == 'client.cli.program': os.kill(os.getpid(), {number.value})\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from client.cli.start import main; main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "backup-tool: interrupted.\n")


def loaded(statement: str) -> set[str]:
    """The modules that another process has imported after a statement."""
    code = f"import sys; {statement}; print(*sys.modules, file=sys.stderr)"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(answer.stderr.split())


def test_a_command_that_is_run_is_imported_and_no_other() -> None:
    modules = loaded("from client.cli.program import run; run(['version'])")
    assert "client.cli.version" in modules
    commands = {"_".join(name.split("-")) for name in COMMANDS} | {f"{name}_list" for name in GROUPS}
    assert {name for name in commands if f"client.cli.{name}" in modules} == {"version"}
    for other in ("grpc", "google.protobuf", "cryptography", "rich", "client.account.device", "client.vault"):
        assert other not in modules


def test_what_a_backup_and_a_restore_import_is_what_they_need() -> None:
    modules = loaded("import client.account.backup_run, client.account.restore_run, client.cli.views")
    assert "client.vault.repository" in modules
    # The password; keys as files; the terminal's bars; nodes, for vaults on a disk of the device.
    others = ("client.account.login", "cryptography.hazmat.primitives.serialization", "rich", "client.stores.node")
    assert not modules.intersection((*others, "zxcvbn"))


def test_every_module_with_a_command_is_among_the_commands() -> None:
    having = {file.stem for file in (ROOT / "client" / "cli").glob("*.py") if f"\ndef {file.stem}(" in file.read_text()}
    listed = {*COMMANDS, *(f"{group} {name}" for group, (_, names) in GROUPS.items() for name in names)}
    assert {re.sub("[ -]", "_", name) for name in listed} == having


def test_garbage_is_collected_while_a_command_works(terminal: Terminal) -> None:
    gc.disable()  # as the start of the program does
    try:
        assert terminal("status")[0] == 4
        assert gc.isenabled()
    finally:
        gc.enable()


def test_a_snapshot_that_cannot_be_read_hides_no_other(with_vault: Terminal, source: Path, tmp_path: Path) -> None:
    vault = ("--vault", tmp_path.name)
    assert with_vault("backup", str(source), *vault)[0] == 0
    broken = ObjectName.of(ObjectKind.SNAPSHOT, b"rubbish" * 20)
    (tmp_path / "vault" / broken.path).write_bytes(b"rubbish" * 20)
    code, output, errors = with_vault("snapshots", *vault, "--json")
    assert (code, len(json.loads(output))) == (3, 1)
    assert broken.id in errors
    code, output, errors = with_vault("backup", str(source), *vault)
    assert (code, broken.id in errors) == (3, True)
    code, output, errors = with_vault("restore", "latest", "--target", str(tmp_path / "target"), *vault)
    assert (code, broken.id in errors) == (0, True)
    code, output, errors = with_vault("check", *vault)
    assert (code, broken.id in errors) == (8, True)


def test_a_check_says_how_far_it_is(
    with_vault: Terminal, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = ("--vault", tmp_path.name)
    assert with_vault("backup", str(source), *vault)[0] == 0
    monkeypatch.setattr("client.cli.progress._PROGRESS_SECONDS", 0.0)
    _, output, errors = with_vault("check", *vault)
    assert "is in order" in output
    assert "index files: 1 of 1" in errors
    assert re.search(r"packs: (\d+) of \1\b", errors)  # how many there are is chance
    lines = [json.loads(line) for line in with_vault("check", *vault, "--json")[1].splitlines()]
    told = [(line["checking"], line["done"], line["total"]) for line in lines if line["type"] == "progress"]
    assert {("index files", 1, 1), ("trees", 1, 0)} <= set(told)
    assert any(checking == "packs" and done == total for checking, done, total in told)
    assert lines[-1]["type"] == "summary"


def test_a_check_whose_session_was_ended_begins_again(
    with_vault: Terminal, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert with_vault("backup", str(source), "--vault", tmp_path.name)[0] == 0
    left = [3]
    genuine = LocalSession.get

    def get(session: LocalSession, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        left[0] -= 1
        if not left[0]:
            raise SessionOver(place="The storage")
        return genuine(session, name, offset, length)

    monkeypatch.setattr(LocalSession, "get", get)
    code, output, errors = with_vault("check", "--vault", tmp_path.name, "--read-data")
    assert (code, "in order" in output) == (0, True)
    assert "begins again" in errors
    left[0] = 3
    assert with_vault("ls", "latest", "--vault", tmp_path.name)[0] == 0


def test_a_store_on_the_net_costs_other_vaults_nothing() -> None:
    modules = loaded(
        "import client.account.backup_run, client.account.adding, client.cli.vault_add, client.cli.vault_list"
    )
    assert not [name for name in modules if name.split(".")[0] == "opendal" or name.startswith("client.stores.cloud")]
