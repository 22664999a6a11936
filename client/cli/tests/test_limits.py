"""The limits of a device's line, kept and given."""

import os
from pathlib import Path

import pytest

from client.cli.commands import COMMANDS
from client.cli.limits import LIMITED
from client.cli.tests.on_s3 import add
from client.cli.tests.terminal import Terminal
from client.testing.limits import Watch


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch = Watch()
    monkeypatch.setattr("client.stores.limited.Line", watch.line)
    return watch


@pytest.fixture
def on_s3(terminal: Terminal, s3_bucket: str, tmp_path: Path, source: Path) -> str:
    """A vault in a bucket, by its name; what is to be backed up are three MiB."""
    assert terminal.log_in()[0] == 0
    assert add(terminal, tmp_path.name, s3_bucket)[0] == 0
    (source / "noise").write_bytes(os.urandom(3 << 20))
    return tmp_path.name


def test_a_backup_waits_as_long_as_its_limit_says_and_what_comes_down_by_its_own(
    terminal: Terminal, on_s3: str, watch: Watch, source: Path, tmp_path: Path
) -> None:
    seconds = (3 << 20) / (10 << 10)
    assert terminal("backup", str(source), "--vault", on_s3, "--limit-upload", "10k")[0] == 0
    assert seconds <= watch.longest < seconds * 1.1, "the index file goes when the pack would have gone"
    watch.longest = 0
    target = str(tmp_path / "target")
    assert terminal("restore", "latest", "--vault", on_s3, "--limit-upload", "10k", "--target", target)[0] == 0
    assert watch.longest == 0
    assert terminal("check", "--read-data", "--vault", on_s3, "--limit-download", "10k")[0] == 0
    assert watch.longest > 0


def test_what_is_kept_holds_for_every_command_that_does_not_say_otherwise(
    terminal: Terminal, on_s3: str, watch: Watch, source: Path
) -> None:
    assert terminal.json("device", "limits") == {"upload": "off", "download": "off"}
    assert terminal("snapshots", "--vault", on_s3)[0] == 0
    assert watch.limits == []
    kept = terminal.json("device", "limits", "--upload", "08:00,512k 18:00,off")
    assert kept == terminal.json("device", "limits") == {"upload": "08:00,512k 18:00,off", "download": "off"}
    assert terminal("device", "limits", "--download", "2G")[0] == 0
    assert terminal("device", "limits")[1] == "upload: 08:00,512k 18:00,off\ndownload: 2G\n"
    assert terminal("snapshots", "--vault", on_s3)[0] == 0
    assert terminal("backup", str(source), "--vault", on_s3, "--limit-upload", "1G")[0] == 0
    rates = [[len(one.changes) if one else 0 for one in (limits.upload, limits.download)] for limits in watch.limits]
    assert rates == [[14, 1], [1, 1]]
    watch.limits.clear()
    options = ("--limit-upload", "off", "--limit-download", "off")
    assert terminal("check", "--vault", on_s3, *options)[0] == 0
    assert watch.limits == []


def test_two_vaults_of_one_command_share_the_line(
    terminal: Terminal, on_s3: str, s3_bucket: str, watch: Watch, source: Path
) -> None:
    assert terminal("backup", str(source), "--vault", on_s3)[0] == 0
    assert add(terminal, "other", f"{s3_bucket}/other")[0] == 0
    assert terminal("copy", "--from", on_s3, "--to", "other", "--limit-upload", "10M")[0] == 0
    assert len(watch.limits) == 1


def test_a_vault_on_a_disk_has_no_limit(with_vault: Terminal, watch: Watch, source: Path, tmp_path: Path) -> None:
    assert with_vault("backup", str(source), "--vault", tmp_path.name, "--limit-upload", "1k")[0] == 0
    assert watch.limits == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("backup", "/nowhere", "--vault", "v", "--limit-upload", "512"),
        ("restore", "latest", "--vault", "v", "--target", "t", "--limit-download", "512"),
        ("device", "limits", "--upload", "512"),
    ],
)
def test_a_limit_that_is_none_is_refused_before_anything_is_done(
    terminal: Terminal, arguments: tuple[str, ...]
) -> None:
    code, output, errors = terminal(*arguments)
    assert (code, output) == (2, "")
    assert errors == (
        "backup-tool: '512' is no rate: write a number of bytes a second with k, M or G, such as 512k, or off.\n"
    )
    assert not (terminal.home / "limits.json").exists()


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"upload": 3}', b'{"upload": "512"}'])
def test_limits_that_cannot_be_read_are_not_passed_over(
    terminal: Terminal, on_s3: str, source: Path, damage: bytes
) -> None:
    (terminal.home / "limits.json").write_bytes(damage)
    code, _, errors = terminal("backup", str(source), "--vault", on_s3)
    assert (code, "limits.json cannot be read: remove it" in errors) == (2, True)
    options = ("--limit-upload", "1G", "--limit-download", "off")
    assert terminal("backup", str(source), "--vault", on_s3, *options)[0] == 0, "which says both itself"


@pytest.mark.parametrize("command", sorted(LIMITED))
def test_the_help_of_what_moves_much_has_both_options(terminal: Terminal, command: str) -> None:
    assert command in COMMANDS
    _, said, _ = terminal(command, "--help")
    assert "--limit-upload LIMIT" in said
    assert "--limit-download LIMIT" in said
