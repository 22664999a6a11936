"""What a backup stores, what it leaves out, and what the next one stores again."""

import os
from pathlib import Path

import pytest

from client.backup import run
from client.backup.request import Counters, NoProgress
from client.errors import NothingLeft, UsageError
from client.platforms.linux import identities
from client.stores.abc import StoreSession
from client.testing.faults import GonePacks, Watched
from client.testing.files import random_bytes
from client.testing.vaults import a_vault
from domain.names import ObjectKind, ObjectName


def some_files(folder: Path) -> Path:
    """30 files of 40 kB and one of 3 MiB, all of random bytes."""
    (folder / "below").mkdir(parents=True)
    for number in range(30):
        (folder / "below" / f"{number}").write_bytes(random_bytes(40_000, number))
    (folder / "large").write_bytes(random_bytes(3 << 20, 99))
    return folder


def test_packs_come_before_the_index_and_the_snapshot_comes_last(tmp_path: Path) -> None:
    vault = a_vault(tmp_path / "vault")
    seen: list[Watched] = []

    summary = vault.backup(some_files(tmp_path / "source"), around=lambda session: watch(session, seen))

    kinds = [name.kind for name in seen[0].stored]
    assert kinds == sorted(kinds, key=[ObjectKind.PACK, ObjectKind.INDEX, ObjectKind.SNAPSHOT].index)
    assert seen[0].stored[-1] == summary.snapshot
    assert vault.problems() == []


def test_figures_add_up(tmp_path: Path) -> None:
    vault = a_vault(tmp_path / "vault")
    before = vault.size()

    summary = vault.backup(some_files(tmp_path / "source"))

    assert (summary.files_new, summary.total_files) == (31, 31)
    assert summary.total_bytes == 30 * 40_000 + (3 << 20)
    assert summary.dirs == 2
    assert summary.uploaded_bytes == vault.size() - before
    assert summary.total_bytes < summary.stored_bytes < summary.uploaded_bytes < summary.total_bytes * 1.05


def test_unchanged_files_are_not_read_again(tmp_path: Path) -> None:
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    first = vault.backup(source)
    unreadable = source / "below" / "7"
    before = unreadable.stat()
    (source / "below" / "new").write_text("new")

    second = vault.backup(source, parent=first.snapshot)

    assert (second.files_new, second.files_changed, second.files_unmodified) == (1, 0, 31)
    assert second.parent == first.snapshot
    assert unreadable.stat().st_atime_ns == before.st_atime_ns
    assert second.uploaded_bytes < 20_000
    assert vault.problems() == []


def test_a_file_that_was_only_touched_is_read_but_not_stored_again(tmp_path: Path) -> None:
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    first = vault.backup(source)
    os.utime(source / "large")
    seen: list[Watched] = []

    second = vault.backup(source, parent=first.snapshot, around=lambda session: watch(session, seen), locked=False)

    assert second.files_changed == 1
    assert second.new_bytes < 100_000
    assert seen[0].reserved == []  # the pinned parent reaches its blobs


def test_the_same_content_is_stored_once(tmp_path: Path) -> None:
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    for number in range(20):
        (source / f"copy {number}").write_bytes(random_bytes(3 << 20, 99))

    summary = vault.backup(source)

    assert summary.stored_bytes < (5 << 20)


def test_blobs_that_only_the_index_knows_have_their_packs_reserved_and_listed_in_full(tmp_path: Path) -> None:
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    vault.backup(source)
    packs = set(map(pack_name, vault.objects(ObjectKind.PACK)))
    seen: list[Watched] = []

    second = vault.backup(source, around=lambda session: watch(session, seen), locked=False)

    assert second.files_new == 31
    assert set(seen[0].reserved) == packs
    assert second.uploaded_bytes < 30_000
    assert vault.errors() == []
    with vault.opened() as opened:
        newest = [name for name in seen[0].stored if name.kind is ObjectKind.INDEX]
        listed = {pack.pack.hex(): len(pack.entries) for name in newest for pack in opened.read_index_file(name).packs}
        assert packs <= {ObjectName(ObjectKind.PACK, pack) for pack in listed}
        assert all(len(opened.index.entries_of_pack(name)) == listed[name.id] for name in packs)


def test_what_was_in_a_pack_that_is_gone_is_stored_anew(tmp_path: Path) -> None:
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    first = vault.backup(source)
    lost = {pack_name(path) for path in vault.objects(ObjectKind.PACK)}

    second = vault.backup(source, around=lambda session: GonePacks(session, lost.__contains__), locked=False)

    assert abs(second.new_bytes - first.new_bytes) < 1000  # the folders above have other times
    for name in lost:
        (vault.path / name.path).unlink()
    assert vault.restore(tmp_path / "target", second.snapshot.id).damaged == ()


def test_a_file_whose_blobs_left_the_index_is_read_again(tmp_path: Path) -> None:
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    first = vault.backup(source)
    for path in vault.objects(ObjectKind.INDEX):
        path.unlink()

    second = vault.backup(source, parent=first.snapshot)

    assert second.new_bytes >= first.new_bytes - 10_000
    assert vault.restore(tmp_path / "target", second.snapshot.id).damaged == ()


def test_a_path_that_does_not_exist_is_refused_before_anything_is_stored(tmp_path: Path) -> None:
    vault = a_vault(tmp_path / "vault")
    with pytest.raises(UsageError, match="no such file"):
        vault.backup(some_files(tmp_path / "source"), tmp_path / "absent")
    assert vault.objects(ObjectKind.PACK) == []


def test_paths_within_each_other_are_stored_once(tmp_path: Path) -> None:
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    summary = vault.backup(source / "below", source, source / "large")
    assert summary.total_files == 31


def test_a_single_file_can_be_backed_up(tmp_path: Path) -> None:
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    vault.backup(source / "large")
    vault.restore(tmp_path / "target")
    restored = tmp_path / "target" / source.relative_to("/") / "large"
    assert restored.read_bytes() == (source / "large").read_bytes()


def test_what_cannot_be_read_is_named_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    refused = {os.fsencode(source / "below" / "3"), os.fsencode(source / "large")}
    real = os.open

    def refusing(path: object, *arguments: int, **named: int) -> int:
        if path in refused:
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refusing)
    summary = vault.backup(source)

    assert {(warned.path, warned.reason) for warned in summary.warnings} == {
        (path, "permission denied") for path in refused
    }
    assert summary.total_files == 29
    assert vault.problems() == []


def test_an_unreadable_folder_is_named_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    real = os.listdir

    def refusing(path: object) -> list[bytes]:
        if path == os.fsencode(source / "below"):
            raise PermissionError(13, "Permission denied")
        return real(path)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(os, "listdir", refusing)
    summary = vault.backup(source)

    assert [(warned.path, warned.reason) for warned in summary.warnings] == [
        (os.fsencode(source / "below"), "permission denied")
    ]
    assert summary.total_files == 1


def test_files_that_vanish_or_become_something_else_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    vanishing, folder, pipe, link = (source / "below" / name for name in ("1", "2", "3", "4"))
    real = os.open

    def meddling(path: object, *arguments: int, **named: int) -> int:
        if path == os.fsencode(vanishing):
            vanishing.unlink(missing_ok=True)
        for changed, change in (
            (folder, Path.mkdir),
            (pipe, os.mkfifo),
            (link, lambda at: at.symlink_to("/etc/passwd")),
        ):
            if path == os.fsencode(changed) and changed.is_file() and not changed.is_symlink():
                changed.unlink()
                change(changed)
        return real(path, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", meddling)
    summary = vault.backup(source)

    reasons = {Path(os.fsdecode(warned.path)).name: warned.reason for warned in summary.warnings}
    assert reasons["1"] == "no such file or directory"
    assert all("replaced" in reasons[name] for name in ("2", "3", "4"))
    assert len(reasons) == 4
    assert summary.total_files == 27
    assert vault.problems() == []


@pytest.mark.parametrize("name", ["below/5", "large"])
@pytest.mark.parametrize("size", [10, 60_000, 5 << 20])
def test_a_file_that_shrinks_or_grows_while_it_is_read_is_stored_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, size: int
) -> None:
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    real = os.fstat
    looked: list[int] = []

    def meddling(opened: int) -> os.stat_result:
        found = real(opened)
        if found.st_ino == (source / name).stat().st_ino:
            looked.append(opened)
            if len(looked) == 1:  # opened, and its metadata taken
                os.truncate(source / name, size)
        return found

    monkeypatch.setattr(os, "fstat", meddling)
    summary = vault.backup(source)
    vault.restore(tmp_path / "target")

    assert [warned.path for warned in summary.warnings] == [os.fsencode(source / name)]
    assert "changed while it was read" in summary.warnings[0].reason
    restored = tmp_path / "target" / source.relative_to("/") / name
    assert restored.read_bytes() == (source / name).read_bytes()
    assert vault.problems() == []


def test_if_nothing_at_all_can_be_read_there_is_no_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    real = os.lstat
    looked: list[object] = []

    def vanishing(path: object, *arguments: object, **named: object) -> os.stat_result:
        if path == os.fsencode(source):
            looked.append(path)
            if len(looked) > 1:
                raise FileNotFoundError(2, "No such file or directory")
        return real(path, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "lstat", vanishing)
    with pytest.raises(NothingLeft):
        vault.backup(source)
    assert vault.objects(ObjectKind.SNAPSHOT) == []


def test_excluded_folders_are_left_out_by_whatever_path_they_are_reached(tmp_path: Path) -> None:
    source = some_files(tmp_path / "source")
    vault = a_vault(source / "vault")
    (tmp_path / "link").symlink_to(source)
    excluded = identities([tmp_path / "link" / "vault", source / "below", tmp_path / "absent", None])
    sizes = []
    for _ in range(3):
        summary = vault.backup(f"{tmp_path}/link/", excluded=excluded)
        assert (summary.total_files, summary.dirs, summary.warnings) == (1, 1, ())
        sizes.append(summary.total_bytes)
    assert sizes == [3 << 20] * 3


def test_warnings_are_all_counted_and_told_but_only_the_first_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.backup.request.KEPT_WARNINGS", 3)
    told: list[bytes] = []
    progress = NoProgress()
    monkeypatch.setattr(progress, "warned", lambda path, _: told.append(path))
    counters = Counters(progress, lambda: 0)
    for number in range(10):
        counters.warn(b"%d" % number, "unreadable")
    assert [warned.path for warned in counters.warnings] == [b"0", b"1", b"2"]
    assert (counters.warned, len(told)) == (10, 10)


def watch(session: StoreSession, seen: list[Watched]) -> Watched:
    seen.append(Watched(session))
    return seen[-1]


def pack_name(path: Path) -> ObjectName:
    return ObjectName(ObjectKind.PACK, path.name)


def test_more_paths_than_a_snapshot_can_name_are_refused_before_anything_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    monkeypatch.setattr(run, "MAX_SNAPSHOT_BYTES", 1200)
    vault.backup(source)
    before = vault.size()
    names = enumerate((source / "below").iterdir())
    renamed = [path.rename(source / random_bytes(32, number).hex()) for number, path in names]
    with pytest.raises(UsageError, match="30 paths, with the patterns, are more than a snapshot can name"):
        vault.backup(*renamed)
    assert vault.size() == before
