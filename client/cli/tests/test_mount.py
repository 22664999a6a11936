"""`backup-tool mount`, as a process of its own."""

import json
import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from client.cli.tests.terminal import Terminal, started
from client.mount.mounting import unmount
from client.mount.tests.conftest import can_mount  # noqa: F401 - a fixture of these tests too

if TYPE_CHECKING:
    import subprocess

needs_mount = pytest.mark.needs("fusermount3")
SECONDS = 120


@contextmanager
def a_mount(terminal: Terminal, *arguments: str, at: Path) -> Iterator["subprocess.Popen[str]"]:
    """A mount that can be looked into. Whatever happens, it is over at the end."""
    at.mkdir(exist_ok=True)
    process = started(["mount", str(at), *arguments, "--json"], {"BACKUP_TOOL_HOME": str(terminal.home)})
    with process, ExitStack() as ending:
        ending.callback(unmount, at)
        ending.callback(process.kill)
        assert process.stdout
        line = process.stdout.readline()
        assert line, process.communicate(timeout=SECONDS)[1]
        assert json.loads(line).items() >= {"type": "mounted", "path": str(at)}.items()
        yield process


@pytest.fixture
def vault(with_vault: Terminal, source: Path, tmp_path: Path) -> tuple[str, str]:
    """The option that names a vault with a snapshot of `source`."""
    assert with_vault("backup", str(source), "--vault", tmp_path.name)[0] == 0
    return "--vault", tmp_path.name


@needs_mount
@pytest.mark.parametrize(
    "end",
    [
        lambda process, _: process.send_signal(signal.SIGINT),
        lambda process, _: process.terminate(),
        lambda _, at: unmount(at),
    ],
    ids=["Ctrl-C", "SIGTERM", "umount"],
)
def test_a_mount_lasts_until_it_is_ended_and_leaves_nothing(
    with_vault: Terminal,
    source: Path,
    tmp_path: Path,
    vault: tuple[str, str],
    end: Callable[["subprocess.Popen[str]", Path], Any],
) -> None:
    at = tmp_path / "mount"
    with a_mount(with_vault, *vault, at=at) as process:
        seen = at / "dates" / "latest" / source.relative_to("/") / "letters"
        assert (seen / "a.txt").read_text() == "dear reader"
        assert list((tmp_path / "vault" / "locks").iterdir()), "whoever prunes must see that it is looked at"
        end(process, at)
        output, errors = process.communicate(timeout=SECONDS)
        assert (process.returncode, output, errors) == (0, "", "")
    assert not at.is_mount()
    assert list((tmp_path / "vault" / "locks").iterdir()) == []


@needs_mount
def test_a_mount_that_is_used_ends_all_the_same_and_one_that_is_killed_is_taken_away(
    with_vault: Terminal, source: Path, tmp_path: Path, vault: tuple[str, str]
) -> None:
    at = tmp_path / "mount"
    with a_mount(with_vault, *vault, at=at) as process:
        held = os.open(at / "dates" / "latest" / source.relative_to("/") / "letters" / "a.txt", os.O_RDONLY)
        try:
            process.send_signal(signal.SIGINT)
            assert process.wait(SECONDS) == 0
            assert not at.is_mount()
            with pytest.raises(OSError, match=r"not connected|connection abort|Input/output"):
                os.read(held, 1)
        finally:
            with suppress(OSError):  # there is nobody any more to be told
                os.close(held)
    with a_mount(with_vault, *vault, at=at) as process, Path("/proc/self/mounts").open() as mounts:
        watch = select.poll()
        watch.register(mounts, select.POLLERR | select.POLLPRI)
        process.kill()
        while f" {at} " in Path("/proc/self/mounts").read_text():  # the kernel says when there are others
            assert watch.poll(SECONDS * 1000)
    assert list(at.iterdir()) == []


@needs_mount
def test_what_is_damaged_is_named_and_changes_the_exit_code(
    with_vault: Terminal, source: Path, tmp_path: Path, vault: tuple[str, str]
) -> None:
    at = tmp_path / "mount"
    with a_mount(with_vault, *vault, at=at) as process:
        seen = at / "ids" / "latest" / source.relative_to("/") / "letters"
        assert (seen / "a.txt").stat().st_size == 11
        for pack in (tmp_path / "vault" / "data").rglob("*"):
            if pack.is_file():
                pack.unlink()
        with pytest.raises(OSError, match="Input/output error"):
            (seen / "a.txt").read_text()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=SECONDS)
        assert process.returncode == 3
    (told,) = [json.loads(line) for line in errors.splitlines()]
    assert told["type"] == "damaged"
    assert told["path"].endswith(f"{source}/letters/a.txt")


@needs_mount
def test_this_devices_snapshots_come_first_and_options_choose_among_them(
    with_vault: Terminal, source: Path, tmp_path: Path, vault: tuple[str, str]
) -> None:
    other = Terminal(with_vault.office, tmp_path / "other home", with_vault.capture, with_vault.monkeypatch)
    assert other.log_in()[0] == 0
    theirs = other.json_lines("backup", str(source), *vault, "--tag", "theirs")[-1]["snapshot"]
    (ours,) = [one for one in with_vault.json("snapshots", *vault) if one["this_device"]]

    def shown(*options: str) -> set[str]:
        at = tmp_path / f"mount {'-'.join(options)}".replace("/", "_")
        with a_mount(with_vault, *vault, *options, at=at):
            return {path.name for path in (at / "ids").iterdir() if path.name != "latest"}

    assert shown() == {ours["id"][:8]}
    assert shown("--all-devices") == {ours["id"][:8], theirs[:8]}
    assert shown("--snapshot", theirs[:10]) == {theirs[:8]}
    assert shown("--all-devices", "--tag", "theirs") == {theirs[:8]}
    assert shown("--item", ours["item"]) == {ours["id"][:8]}
    assert shown("--path", "/elsewhere") == set()
    at = tmp_path / "mount"
    at.mkdir()
    assert with_vault("mount", str(at), *vault, "--snapshot", "ffff")[0] == 6
    assert with_vault("mount", str(at), *vault, "--item", "ffff")[0] == 6
    assert with_vault("mount", str(at), "--vault", "none")[0] == 6


@needs_mount
def test_a_place_where_nothing_can_be_mounted_is_named(
    with_vault: Terminal, source: Path, tmp_path: Path, vault: tuple[str, str]
) -> None:
    empty_in_vault = tmp_path / "vault" / "tmp" / "x"
    empty_in_vault.mkdir(parents=True)
    mounted = tmp_path / "mount"
    with a_mount(with_vault, *vault, at=mounted):
        for place, said in (
            (tmp_path / "none", "no such file or directory"),
            (source / "letters" / "a.txt", "is no folder"),
            (source, "is not empty"),
            (mounted, "something is mounted"),
            (empty_in_vault, "in the folder of a vault"),
        ):
            code, output, errors = with_vault("mount", str(place), *vault)
            assert (code, output, len(errors.splitlines())) == (2, "", 1)
            assert said in errors


def test_a_machine_without_the_library_is_told_which_package_to_install(
    with_vault: Terminal, tmp_path: Path, vault: tuple[str, str]
) -> None:
    (tmp_path / "mount").mkdir()
    with with_vault.monkeypatch.context() as patched:
        patched.setenv("PATH", str(tmp_path))
        code, output, errors = with_vault("mount", str(tmp_path / "mount"), *vault)
    assert (code, output, len(errors.splitlines())) == (1, "", 1)
    assert "install the package fuse3" in errors
    assert os.listdir(tmp_path / "mount") == []  # noqa: PTH208
