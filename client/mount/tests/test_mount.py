"""What is seen through a mount is what was backed up."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from client.backup.destinations import Target
from client.backup.run import backup
from client.mount.tests.a_mount import Mounted, a_mount
from client.stores.local import LocalStore
from client.testing.files import a_mixed_tree, described, random_bytes
from client.testing.vaults import PASSWORD, VaultForTests, a_request, a_vault, summary_of
from client.vault.blobs import BlobKind
from client.vault.nodes import encode_node, join_tree
from client.vault.repository import open_vault
from client.vault.tests import builders
from client.vault.tests.builders import VaultWriter
from domain.sessions import Purpose

pytestmark = pytest.mark.needs("fusermount3")
ROOT = os.geteuid() == 0


@pytest.mark.parametrize("version", [1, 2])
def test_every_kind_of_file_is_seen_as_it_was(tmp_path: Path, version: int) -> None:
    source = tmp_path / "source"
    a_mixed_tree(source, privileged=ROOT)
    before = described(source)
    vault = a_vault(tmp_path / "vault", version=version)
    vault.backup(source)

    with a_mount(vault.store, tmp_path / "mount") as mounted:
        seen = mounted.snapshot(source)
        assert described(seen) == before
        assert (seen / "medium").stat().st_nlink == 2
        assert os.path.samefile(seen / "medium", seen / "folder" / "another name")  # noqa: PTH121 - two paths
        assert not os.path.samefile(seen / "small", seen / "read only")  # noqa: PTH121
        assert mounted.failures == []


def test_ls_tells_of_every_file_what_it_tells_of_the_source(tmp_path: Path) -> None:
    """More files in a folder than the kernel asks for at once, and more folders than it opens at once."""
    source = tmp_path / "source"
    for number in range(60):
        (source / f"folder {number % 6}" / f"{number}").mkdir(parents=True)
        for file in range(30):
            (source / f"folder {number % 6}" / f"{number}" / f"file {file}").write_text("x" * (number * file))
    (source / "large").mkdir()
    for number in range(3000):
        (source / "large" / f"{number} {'long ' * (number % 40)}").touch()
    vault = a_vault(tmp_path / "vault")
    vault.backup(source)

    with a_mount(vault.store, tmp_path / "mount") as mounted:
        assert listed(mounted.snapshot(source)) == listed(source)
        names = [path.name for path in (source / "large").iterdir()]
        assert all((mounted.snapshot(source) / "large" / name).exists() for name in names)
        assert not (mounted.snapshot(source) / "large" / "none").exists()


def listed(folder: Path) -> list[str]:
    """What `ls -lR` says, without what a tree does not tell of folders: their links and sizes."""
    # Not with `cwd`: the new process would ask for that before Python, which is to answer, goes on in this one.
    command = ["sh", "-c", 'cd "$0" && exec ls -lRn --time-style=full-iso', str(folder)]
    output = subprocess.run(command, capture_output=True, check=True, env={"LC_ALL": "C"}).stdout.decode()
    lines = []
    for line in output.splitlines():
        words = line.split(maxsplit=5)
        if line.startswith("d"):
            words[1] = words[4] = "-"
        if not line.startswith("total "):
            lines.append(" ".join(words) if line.startswith(("d", "-", "l")) else line)
    return lines


def test_snapshots_are_found_by_all_that_is_known_of_them(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("first")
    vault = a_vault(tmp_path / "vault")
    first = vault.backup(tmp_path / "a").snapshot.id
    (tmp_path / "a").write_text("second")
    with vault.store.open(Purpose.BACKUP) as session, open_vault(session, PASSWORD) as opened:
        request = a_request(tmp_path / "a", time=datetime(2026, 1, 3, tzinfo=UTC))
        request = replace(request, tags=("oort:item=99/..", "oort:device=3", "my/tag"), hostname="..")
        second = summary_of(backup([Target(opened, session, locked=True)], request)[0]).snapshot.id

    with a_mount(vault.store, tmp_path / "mount", devices={"2": "lap/top"}) as mounted:
        seen = {
            str(path.relative_to(mounted.at)): str(path.readlink()) if path.is_symlink() else ""
            for folder in sorted(mounted.at.iterdir())
            for path in (*folder.glob("*"), *folder.glob("*/[2l]*"))
        }
        paths = str(tmp_path / "a").strip("/").replace("/", "_")[:100]  # more would not be told apart by a person
        one, two = "2026-01-02T12:00:00Z", "2026-01-03T00:00:00Z"
        assert (
            seen.items()
            >= {
                f"ids/{first[:8]}": "",
                f"ids/{second[:8]}": "",
                "ids/latest": second[:8],
                f"dates/{one}": "",
                f"dates/{two}": "",
                "dates/latest": two,
                f"devices/lap_top/{one}": "",
                f"devices/3/{two}": "",
                "devices/3/latest": two,
                f"hosts/machine/{one}": "",
                f"hosts/_/{two}": "",
                f"items/{paths}-1/{one}": "",
                f"items/{paths}-99_../{two}": "",
                f"tags/my_tag/{two}": "",
            }.items()
        )
        below = (tmp_path / "a").relative_to("/")
        assert (mounted.at / "devices" / "lap_top" / "latest" / below).read_text() == "first"
        assert (mounted.at / "ids" / "latest" / below).read_text() == "second"


def test_a_snapshot_that_is_made_or_removed_meanwhile_comes_and_goes(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("first")
    vault = a_vault(tmp_path / "vault")
    first = vault.backup(tmp_path / "a").snapshot
    with a_mount(vault.store, tmp_path / "mount", refresh_seconds=0) as mounted:
        assert mounted.snapshot(tmp_path / "a").read_text() == "first"
        (tmp_path / "a").write_text("second, of which the index that was read knows nothing")
        second = vault.backup(tmp_path / "a").snapshot
        assert {path.name for path in (mounted.at / "ids").iterdir()} == {first.id[:8], second.id[:8], "latest"}
        below = (tmp_path / "a").relative_to("/")
        assert (mounted.at / "ids" / second.id[:8] / below).read_text().startswith("second")
        (vault.path / first.path).unlink()
        assert {path.name for path in (mounted.at / "ids").iterdir()} == {second.id[:8], "latest"}


def test_latest_leads_to_the_newest_after_it_led_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("first")
    vault = a_vault(tmp_path / "vault")
    with a_mount_of_dates(vault, tmp_path, "2026-01-02T00:00:00Z") as mounted:
        latest = mounted.at / "dates" / "latest"
        assert str(latest.readlink()) == "2026-01-02T00:00:00Z"
        assert mounted.snapshot(tmp_path / "a").read_text() == "first"
        (tmp_path / "a").write_text("second")
        backup_at(vault, tmp_path / "a", "2026-01-03T00:00:00Z")
        assert (mounted.at / "dates" / "2026-01-03T00:00:00Z").exists()
        # The kernel asks for a name again when a second has passed.
        assert eventually(lambda: str(latest.readlink()) == "2026-01-03T00:00:00Z")
        assert mounted.snapshot(tmp_path / "a").read_text() == "second"


def test_of_snapshots_of_one_second_each_keeps_its_name_and_shows_its_own_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("first")
    vault = a_vault(tmp_path / "vault")
    below = (tmp_path / "a").relative_to("/")
    with a_mount_of_dates(vault, tmp_path, "2026-01-02T00:00:00.1Z") as mounted:
        (first,) = vault.path.glob("snapshots/*")
        dates, shared = mounted.at / "dates", "2026-01-02T00:00:00Z"
        (tmp_path / "a").write_text("second, and longer")
        second = backup_at(vault, tmp_path / "a", "2026-01-02T00:00:00.2Z")
        assert (dates / shared / below).read_text() == "first"
        assert (dates / f"{shared}-{second[:8]}" / below).read_text() == "second, and longer"

        first.unlink()
        assert eventually(lambda: not (dates / shared).exists())
        assert (dates / f"{shared}-{second[:8]}" / below).read_text() == "second, and longer"

        (tmp_path / "a").write_text("third, which takes the name of the first")
        third = backup_at(vault, tmp_path / "a", "2026-01-02T00:00:00.3Z")
        assert eventually((dates / shared).exists)
        assert (dates / shared / below).read_text() == "third, which takes the name of the first"
        assert {path.name for path in dates.iterdir()} == {shared, f"{shared}-{second[:8]}", "latest"}
        assert {path.name for path in (mounted.at / "ids").iterdir()} == {second[:8], third[:8], "latest"}


@contextmanager
def a_mount_of_dates(vault: VaultForTests, folder: Path, time: str) -> Iterator[Mounted]:
    """A snapshot of the file `a` of that time, mounted so that every look lists anew."""
    backup_at(vault, folder / "a", time)
    with a_mount(vault.store, folder / "mount", refresh_seconds=0) as mounted:
        yield mounted


def backup_at(vault: VaultForTests, path: Path, time: str) -> str:
    """The id of the new snapshot."""
    with vault.store.open(Purpose.BACKUP) as session, open_vault(session, PASSWORD) as opened:
        request = a_request(path, time=datetime.fromisoformat(time))
        return summary_of(backup([Target(opened, session, locked=True)], request)[0]).snapshot.id


def eventually(is_so: Callable[[], bool]) -> bool:
    """Whether it comes to be so within a minute."""
    end = time.monotonic() + 60
    while not is_so():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def test_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a").write_text("a")
    vault = a_vault(tmp_path / "vault")
    vault.backup(tmp_path / "source")
    with a_mount(vault.store, tmp_path / "mount") as mounted:
        folder = mounted.snapshot(tmp_path / "source")
        file = folder / "a"
        attempts: list[Callable[[], object]] = [
            lambda: file.write_text("b"),
            (folder / "new").touch,
            (folder / "new").mkdir,
            lambda: (folder / "new").symlink_to("a"),
            lambda: (folder / "new").hardlink_to(file),
            lambda: file.rename(folder / "new"),
            lambda: file.chmod(0o600),
            lambda: os.utime(file),
            lambda: os.truncate(file, 0),
            lambda: os.setxattr(file, "user.oort", b"x"),
            file.unlink,
            folder.rmdir,
            (mounted.at / "ids" / "new").mkdir,
        ]
        for attempt in attempts:
            with pytest.raises(OSError, match="Read-only file system"):
                attempt()
        assert file.read_text() == "a"


def test_a_file_is_larger_than_four_gigabytes_and_another_has_another_size_than_its_tree_tells(tmp_path: Path) -> None:
    writer = VaultWriter(LocalStore(tmp_path / "vault"))
    (blob,) = writer.blobs(BlobKind.DATA, random_bytes(8 << 20))
    (end,) = writer.blobs(BlobKind.DATA, b"the end")
    size = 600 * (8 << 20) + 7
    large = builders.a_node(b"large", content=(*[blob] * 600, end), size=size)
    odd = replace(writer.file(b"odd", b"more than that"), size=3)
    empty = builders.a_node(b"empty")
    # Not in the order of their names, as no program of ours writes them.
    tree = writer.raw_tree(bytes(join_tree(map(encode_node, (odd, large, empty)))))
    writer.snapshot(tree)
    writer.finish().session.close()

    with a_mount(writer.store, tmp_path / "mount", password=builders.PASSWORD) as mounted:
        folder = mounted.at / "dates" / "latest"
        assert (folder / "large").stat().st_size == size
        with (folder / "large").open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            file.seek(599 * (8 << 20) + (8 << 20) - 3)
            assert file.read() == random_bytes(8 << 20)[-3:] + b"the end"
            file.seek((1 << 32) + 5)
            assert file.read(10) == random_bytes(8 << 20)[5:15]
        assert (folder / "odd").read_text() == "more than that"
        assert (folder / "empty").read_bytes() == b""
        assert not (folder / "other").exists()


def test_many_read_at_once(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(12):
        (source / f"{number}").write_bytes(random_bytes(number << 20, number))
    vault = a_vault(tmp_path / "vault")
    vault.backup(source)
    with a_mount(vault.store, tmp_path / "mount") as mounted, ThreadPoolExecutor(16) as pool:
        folder = mounted.snapshot(source)
        reads = [pool.submit((folder / f"{number % 12}").read_bytes) for number in range(48)]
        for number, read in enumerate(reads):
            assert read.result() == (source / f"{number % 12}").read_bytes()
        assert mounted.failures == []
