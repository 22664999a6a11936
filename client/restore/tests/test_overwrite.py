"""Restores onto existing data: what gives way, what is fetched, and what survives a vault that has lost something."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from client.platforms import linux
from client.restore import present
from client.restore.compare import differences
from client.restore.request import NoProgress, Overwrite, RestoreOptions, Step
from client.restore.tests.test_restore import flip_a_bit_of, restored, some_files
from client.testing.files import a_mixed_tree, random_bytes
from client.testing.vaults import VaultForTests, a_vault
from client.vault.blobs import BlobId, BlobKind
from client.vault.walk import list_snapshot

ROOT = os.geteuid() == 0
MIB = 1 << 20
ALWAYS = RestoreOptions(overwrite=Overwrite.ALWAYS)


@dataclass
class Told(NoProgress):
    """Keeps what a dry run says and what is warned of."""

    steps: dict[bytes, Step] = field(default_factory=dict)
    warnings: list[tuple[bytes, str]] = field(default_factory=list)

    def would(self, step: Step, path: bytes) -> None:
        self.steps[path] = step

    def warned(self, path: bytes, reason: str) -> None:
        self.warnings.append((path, reason))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return some_files(tmp_path / "source")


@pytest.fixture
def vault(tmp_path: Path, source: Path) -> VaultForTests:
    made = a_vault(tmp_path / "vault")
    made.backup(source)
    return made


@pytest.fixture
def there(tmp_path: Path, source: Path, vault: VaultForTests) -> Path:
    """What was restored before, in `target`."""
    vault.restore(tmp_path / "target")
    return tmp_path / "target" / source.relative_to("/")


def change_a_byte(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes((byte[0] ^ 1,)))


def last_blob_of(vault: VaultForTests, source: Path) -> BlobId:
    with vault.opened() as opened:
        listed = list_snapshot(opened, opened.find_snapshot("latest"), os.fsencode(source))
        content = next(listed).node.content
    assert content
    return content[-1]


def sealed_size(vault: VaultForTests, path: Path, begin: int, end: int) -> int:
    """The sealed bytes of the chunks that hold a file's bytes from `begin` to `end`: where it was cut is chance."""
    total = at = 0
    with vault.opened() as opened:
        listed = list_snapshot(opened, opened.find_snapshot("latest"), os.fsencode(path))
        for blob in next(listed).node.content or ():
            location = opened.index.find(BlobKind.DATA, blob)
            assert location
            start, at = at, at + location.entry.length_plain
            if start < end and begin < at:
                total += location.entry.length
    return total


def test_only_what_differs_is_fetched_and_everything_is_as_it_was(
    tmp_path: Path, source: Path, vault: VaultForTests, there: Path
) -> None:
    change_a_byte(there / "pictures" / "large", 3 * MIB)
    (there / "docs" / "a.txt").write_text("other")
    (there / "docs" / "b.md").chmod(0o600)
    (there / "docs" / "old" / "c.txt").unlink()

    summary = vault.restore(tmp_path / "target", options=ALWAYS)

    assert not list(differences(source, there))
    assert summary.fetched_bytes < sealed_size(vault, source / "pictures" / "large", 3 * MIB, 3 * MIB + 1) + MIB // 2
    assert (summary.files, summary.same) == (24, 21)
    assert summary.exit_code == 0
    assert not list(there.rglob(".oort-*"))


@pytest.fixture(params=["copies", "shares blocks"])
def file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def clone(one: int, other: int) -> bool:
        linux.write_all(other, os.pread(one, os.fstat(one).st_size, 0))
        return True

    if request.param == "shares blocks":
        monkeypatch.setattr(present, "clone_file", clone)


@pytest.mark.usefixtures("file_system")
def test_a_file_that_shrank_or_grew_is_mended_from_what_is_right_of_it(
    tmp_path: Path, source: Path, vault: VaultForTests, there: Path
) -> None:
    large = there / "pictures" / "large"
    whole = large.stat().st_size
    for size in (whole - MIB // 2, whole + 2 * MIB):
        os.truncate(large, size)
        summary = vault.restore(tmp_path / "target", options=ALWAYS)
        assert not list(differences(source, there))
        missing = sealed_size(vault, source / "pictures" / "large", size, whole)
        assert missing <= summary.fetched_bytes < missing + MIB // 2


def test_existing_files_give_way_as_the_rule_says(
    tmp_path: Path, source: Path, vault: VaultForTests, there: Path
) -> None:
    older, newer, same = there / "pictures" / "1", there / "pictures" / "2", there / "pictures" / "3"
    for path, days in ((older, -1), (newer, 1)):
        time = path.stat().st_mtime_ns + days * 86_400 * 10**9
        path.write_bytes(b"mine")
        os.utime(path, ns=(time, time))
    was = same.stat()
    same.write_bytes(bytes(was.st_size))
    os.utime(same, ns=(was.st_mtime_ns, was.st_mtime_ns))
    (there / "pictures" / "4").unlink()

    def mine(overwrite: Overwrite) -> set[str]:
        vault.restore(tmp_path / "target", options=RestoreOptions(overwrite=overwrite))
        files = (older, newer, same, there / "pictures" / "4")
        return {path.name for path in files if path.read_bytes() != (source / "pictures" / path.name).read_bytes()}

    assert mine(Overwrite.NEVER) == {"1", "2", "3"}
    assert mine(Overwrite.IF_NEWER) == {"2", "3"}
    assert mine(Overwrite.IF_CHANGED) == {"3"}
    assert mine(Overwrite.ALWAYS) == set()


def test_a_file_that_cannot_be_completed_leaves_the_old_one_as_it_was(
    tmp_path: Path, source: Path, vault: VaultForTests, there: Path
) -> None:
    large = there / "pictures" / "large"
    change_a_byte(large, large.stat().st_size - 1)
    before, time = large.read_bytes(), large.stat().st_mtime_ns
    flip_a_bit_of(vault, last_blob_of(vault, source / "pictures" / "large"))

    summary = vault.restore(tmp_path / "target", options=ALWAYS)

    assert summary.exit_code == 8
    assert os.fsencode(source / "pictures" / "large") in {lost.path for lost in summary.damaged}
    assert (large.read_bytes(), large.stat().st_mtime_ns) == (before, time)
    assert not list(there.rglob(".oort-*"))


def test_what_the_vault_has_lost_is_taken_from_the_target_where_it_is_right(
    tmp_path: Path, source: Path, vault: VaultForTests, there: Path
) -> None:
    change_a_byte(there / "pictures" / "large", 0)
    flip_a_bit_of(vault, last_blob_of(vault, source / "pictures" / "large"))

    assert vault.restore(tmp_path / "target", options=ALWAYS).exit_code == 0
    assert not list(differences(source, there))


def test_every_kind_of_thing_takes_the_place_of_every_other(tmp_path: Path) -> None:
    source, vault = tmp_path / "source", a_vault(tmp_path / "vault")
    a_mixed_tree(source, privileged=ROOT)
    vault.backup(source)
    there = tmp_path / "target" / source.relative_to("/")
    there.mkdir(parents=True)
    for number, name in enumerate(sorted(os.listdir(os.fsencode(source)))):
        path = os.fsencode(there) + b"/" + name
        kinds = (os.mkdir, os.mkfifo, _link, _write)
        kinds[number % len(kinds)](path)
    outside = os.listdir("/etc")

    summary = vault.restore(tmp_path / "target", options=ALWAYS)

    assert summary.warnings == ()
    assert not list(differences(source, there))
    assert os.listdir("/etc") == outside
    again = vault.restore(tmp_path / "target", options=ALWAYS)
    assert not list(differences(source, there))
    assert (again.fetched_bytes, again.warnings) == (0, ())


def _link(path: bytes) -> None:
    os.symlink(b"/etc", path)


def _write(path: bytes) -> None:
    with open(path, "wb") as file:
        file.write(b"in the way")
    os.setxattr(path, "user.old", b"1")


def test_a_folder_with_something_in_it_never_gives_way(
    tmp_path: Path, source: Path, vault: VaultForTests, there: Path
) -> None:
    (there / "docs" / "a.txt").unlink()
    (there / "docs" / "a.txt").mkdir()
    (there / "docs" / "a.txt" / "mine").write_text("mine")

    kept = vault.restore(tmp_path / "target", options=ALWAYS)
    assert [(warning.path, kept.exit_code) for warning in kept.warnings] == [(os.fsencode(source / "docs/a.txt"), 3)]
    assert (there / "docs" / "a.txt" / "mine").exists()

    (there / "docs" / "a.txt" / "mine").unlink()
    assert vault.restore(tmp_path / "target", options=ALWAYS).exit_code == 0
    assert not list(differences(source, there))


def test_another_name_of_an_overwritten_file_keeps_its_content(
    tmp_path: Path, vault: VaultForTests, there: Path
) -> None:
    os.link(there / "docs" / "b.md", tmp_path / "elsewhere")
    (there / "docs" / "b.md").write_text("mine")
    (there / "docs" / "a.txt").chmod(0o640)
    os.link(there / "docs" / "a.txt", tmp_path / "another")

    vault.restore(tmp_path / "target", options=ALWAYS)

    assert (tmp_path / "elsewhere").read_text() == "mine"
    assert (tmp_path / "another").stat().st_mode & 0o777 == 0o640

    os.link(there / "docs" / "a.txt", tmp_path / "third")
    (tmp_path / "third").chmod(0o604)
    vault.restore(tmp_path / "target", options=RestoreOptions(overwrite=Overwrite.IF_CHANGED))
    assert (tmp_path / "third").stat().st_mode & 0o777 == 0o604


def test_a_dry_run_says_what_would_be_done_and_touches_nothing(
    tmp_path: Path, source: Path, vault: VaultForTests, there: Path
) -> None:
    (there / "docs" / "a.txt").write_text("other")
    (there / "docs" / "b.md").chmod(0o600)
    (there / "docs" / "old" / "c.txt").unlink()
    before = list(_stated(tmp_path / "target"))
    told = Told()

    vault.restore(tmp_path / "target", options=RestoreOptions(overwrite=Overwrite.ALWAYS, dry_run=True), progress=told)
    new = Told()
    summary = vault.restore(tmp_path / "nowhere", options=RestoreOptions(dry_run=True), progress=new)

    docs = source / "docs"
    assert told.steps[os.fsencode(docs / "a.txt")] is Step.REPLACE
    assert told.steps[os.fsencode(docs / "b.md")] is Step.UPDATE
    assert told.steps[os.fsencode(docs / "old" / "c.txt")] is Step.CREATE
    assert os.fsencode(source / "pictures" / "3") not in told.steps
    assert list(_stated(tmp_path / "target")) == before
    assert (summary.files, set(new.steps.values())) == (24, {Step.CREATE})
    assert not (tmp_path / "nowhere").exists()


def _stated(root: Path) -> Iterator[object]:
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        yield path, status.st_ino, status.st_ctime_ns


def test_verifying_takes_a_name_from_what_does_not_read_back_as_it_was_written(
    tmp_path: Path, source: Path, vault: VaultForTests, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert vault.restore(tmp_path / "whole", options=RestoreOptions(verify=True)).exit_code == 0
    real = os.pwrite

    def bad_disk(opened: int, content: bytes, offset: int) -> int:
        return real(opened, b"B" if bytes(content) == b"b" else content, offset)

    monkeypatch.setattr(os, "pwrite", bad_disk)
    summary = vault.restore(tmp_path / "target", options=RestoreOptions(verify=True))
    monkeypatch.undo()

    assert [lost.path for lost in summary.damaged] == [os.fsencode(source / "docs" / "b.md")]
    assert summary.exit_code == 8
    assert not (tmp_path / "target" / source.relative_to("/") / "docs" / "b.md").exists()


def test_zeros_inside_a_blob_become_holes(tmp_path: Path) -> None:
    source, vault = tmp_path / "source", a_vault(tmp_path / "vault")
    source.mkdir()
    (source / "small").write_bytes(b"x" + bytes(200_000) + b"y")
    (source / "ends").write_bytes(b"x" + bytes(300_000))
    (source / "large").write_bytes(random_bytes(MIB, 1) + bytes(64 << 10) + random_bytes(3 * MIB, 2) + bytes(6 * MIB))
    vault.backup(source)

    vault.restore(tmp_path / "target")

    there = tmp_path / "target" / source.relative_to("/")
    assert not list(differences(source, there))
    allocated = {path.name: path.stat().st_blocks * 512 for path in there.iterdir()}
    assert allocated["small"] <= 16 << 10
    assert allocated["ends"] <= 8 << 10
    assert allocated["large"] <= 4 * MIB + (16 << 10)


def test_a_blob_that_only_a_tree_lists_twice_is_restored_to_both_places(tmp_path: Path) -> None:
    source, vault = tmp_path / "source", a_vault(tmp_path / "vault")
    source.mkdir()
    twice = random_bytes(3 * MIB, 5)
    (source / "one").write_bytes(twice)
    (source / "other").write_bytes(twice)
    vault.backup(source)
    vault.restore(tmp_path / "target")
    there = tmp_path / "target" / source.relative_to("/")
    change_a_byte(there / "other", 5)
    vault.restore(tmp_path / "target", options=ALWAYS)
    assert not list(differences(source, there))
    assert restored(tmp_path / "target", source) == {"one", "other"}


def test_links_pipes_and_devices_that_are_right_already_are_left_and_not_told(tmp_path: Path) -> None:
    a_mixed_tree(tmp_path / "mixed", privileged=ROOT)
    vault = a_vault(tmp_path / "another vault")
    vault.backup(tmp_path / "mixed")
    vault.restore(tmp_path / "target")
    there = tmp_path / "target" / (tmp_path / "mixed").relative_to("/")
    others = (
        "link",
        "dangling",
        "link to no text",
        "fifo",
        "medium",
        *(("device", "disk") if ROOT else ()),
    )

    def state() -> list[tuple[int, int]]:
        return [(found.st_ino, found.st_ctime_ns) for found in ((there / name).lstat() for name in others)]

    before = state()

    told = Told()
    options = RestoreOptions(overwrite=Overwrite.ALWAYS, dry_run=True)
    tried = vault.restore(tmp_path / "target", options=options, progress=told)
    assert not {os.fsencode(tmp_path / "mixed" / name) for name in others} & told.steps.keys()

    done = vault.restore(tmp_path / "target", options=ALWAYS)
    assert state() == before
    assert tried.others == done.others == len(others)

    (there / "link").unlink()
    (there / "link").symlink_to("elsewhere")
    (there / "fifo").chmod(0o600)
    (there / "medium").unlink()
    (there / "medium").write_text("other")
    vault.restore(tmp_path / "target", options=options, progress=told)
    changed = {os.fsencode(tmp_path / "mixed" / name) for name in ("link", "fifo", "medium")}
    assert {path for path, step in told.steps.items() if step is Step.REPLACE} == changed
    vault.restore(tmp_path / "target", options=ALWAYS)
    assert not list(differences(tmp_path / "mixed", there))
