"""What is remembered of folders: an unchanged one costs nothing, and every other comes out as without a memo."""

import os
import shutil
from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.backup.memo import forget
from client.backup.request import BackupSummary, NoProgress
from client.backup.selection import EVERYTHING, Marker, Selection
from client.backup.tests.changes import MUTATIONS, replace_folder_by_file, rewrite
from client.stores.abc import StoreSession
from client.testing.faults import SessionAround
from client.testing.vaults import VaultForTests, a_vault
from client.vault.blobs import BlobId
from client.vault.index import IndexWriter
from client.vault.index_files import IndexedPack
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose


@pytest.fixture
def vault(tmp_path: Path) -> VaultForTests:
    return a_vault(tmp_path / "vault", cache=tmp_path / "home")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return some_folders(tmp_path / "source")


def some_folders(folder: Path) -> Path:
    """Five folders, two of them within others, with files, an empty one among them, links and a FIFO."""
    for name in ("a", "a/below", "a/below/deep", "b", "c"):
        (folder / name).mkdir(parents=True)
        for file in ("plain", "other", "zero"):
            (folder / name / file).write_text("" if file == "zero" else f"{file} of {name}")
    (folder / "a" / "below" / "link").symlink_to("plain")
    os.link(folder / "b" / "plain", folder / "b" / "second name")
    os.mkfifo(folder / "b" / "pipe")
    return folder


class Reads(SessionAround):
    """Notes what is read of packs."""

    def __init__(self, session: StoreSession, seen: list[ObjectName]) -> None:
        super().__init__(session)
        self._seen = seen

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        if name.kind is ObjectKind.PACK:
            self._seen.append(name)
        return super().get(name, offset, length)


def without_memo(vault: VaultForTests) -> VaultForTests:
    return VaultForTests(vault.path)


def trees_in(vault: VaultForTests, summary: BackupSummary, folder: Path) -> dict[bytes, BlobId | None]:
    """What the snapshot has in a folder of its own: folders' names and trees. Folders above are changed by others."""
    tree: BlobId | None = bytes.fromhex(summary.tree)
    with vault.opened() as opened:
        for name in folder.parts[1:]:
            nodes = opened.load_tree(tree) if tree else []
            tree = next((node.subtree for node in nodes if node.name == os.fsencode(name)), None)
        return {node.name: node.subtree for node in opened.load_tree(tree)} if tree else {}


def tree_of(vault: VaultForTests, summary: BackupSummary, folder: Path) -> BlobId | None:
    return trees_in(vault, summary, folder.parent)[os.fsencode(folder.name)]


def figures(summary: BackupSummary) -> tuple[object, ...]:
    """What must not depend on a memo."""
    plain = replace(summary, snapshot=summary.parent or summary.snapshot, seconds=0, uploaded_bytes=0)
    return astuple(replace(plain, tree="", new_bytes=0, stored_bytes=0))


def assert_same_as_without(
    vault: VaultForTests, source: Path, first: BackupSummary, selection: Selection = EVERYTHING
) -> BackupSummary:
    """Back up with and without the memo, and answer what came out."""
    second = vault.backup(source, parent=first.snapshot, selection=selection)
    plain = without_memo(vault).backup(source, parent=first.snapshot, selection=selection)
    third = vault.backup(source, parent=second.snapshot, selection=selection)
    assert figures(second) == figures(plain)
    assert tree_of(vault, second, source) == tree_of(vault, plain, source) == tree_of(vault, third, source)
    return second


def forbid_comparing(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on no file may be compared with its node."""
    monkeypatch.setattr("client.backup.known.KnownFolder.find_encoded", None)


def test_the_second_backup_compares_no_file_and_keeps_the_tree(
    vault: VaultForTests, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = vault.backup(source)
    forbid_comparing(monkeypatch)

    second = vault.backup(source, parent=first.snapshot)

    assert tree_of(vault, second, source) == tree_of(vault, first, source)
    assert (second.files_unmodified, second.files_new, second.files_changed) == (first.files_new, 0, 0)
    assert (second.dirs, second.total_files, second.total_bytes) == (first.dirs, first.total_files, first.total_bytes)


def test_trees_of_folders_without_folders_are_not_read(vault: VaultForTests, source: Path) -> None:
    for number in range(50):
        (source / "c" / f"{number}").mkdir()
    first = vault.backup(source)
    seen: list[ObjectName] = []
    vault.backup(source, parent=first.snapshot, around=lambda session: Reads(session, seen))
    assert 0 < len(seen) < 20


@pytest.mark.parametrize("where", ["a/plain", "a/below/deep/plain"])
def test_whatever_has_changed_comes_out_as_without_a_memo(vault: VaultForTests, tmp_path: Path, where: str) -> None:
    all_of_them = tmp_path / "source"
    for name in MUTATIONS:
        some_folders(all_of_them / name)
    first = vault.backup(all_of_them)
    for name, mutate in MUTATIONS.items():
        mutate(all_of_them / name / where)

    second = assert_same_as_without(vault, all_of_them, first)

    before, after = (trees_in(vault, summary, all_of_them) for summary in (first, second))
    assert [name for name, tree in before.items() if after[name] == tree] == [b"nothing"]


@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 1 << 30))
def test_whatever_changes_between_backups_each_is_as_without_a_memo(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    random, folder = Random(seed), tmp_path_factory.mktemp("memo")
    vault, source = a_vault(folder / "vault", cache=folder / "home"), some_folders(folder / "source")
    last = vault.backup(source)
    for _ in range(2):
        for _ in range(random.choice([0, 1, 3])):
            files = sorted(path for path in source.glob("*/**/*") if path.is_file() and not path.is_symlink())
            names = [name for name in MUTATIONS if "renamed" not in name]
            if files:
                MUTATIONS[random.choice(names)](random.choice(files))
        last = assert_same_as_without(vault, source, last)


@pytest.mark.parametrize(
    "selection",
    [
        Selection(excludes=("plain",)),
        Selection(iexcludes=("BELOW",)),
        Selection(expressions=("deep/other",)),
        Selection(markers=(Marker(b"other"),)),
        Selection(larger_than=8),
        Selection(one_file_system=True),
    ],
)
def test_what_is_left_out_from_now_on_is_left_out_as_without_a_memo(
    vault: VaultForTests, source: Path, selection: Selection
) -> None:
    first = vault.backup(source)
    second = assert_same_as_without(vault, source, first, selection)
    third = assert_same_as_without(vault, source, second)  # and comes back
    assert third.total_files == first.total_files


def test_a_folder_larger_than_what_is_held_is_remembered_too(
    vault: VaultForTests, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.backup.scan._HELD", 2)
    monkeypatch.setattr("client.backup.scan.AT_ONCE", 2)
    first = vault.backup(source)
    with monkeypatch.context() as patched:
        forbid_comparing(patched)
        second = vault.backup(source, parent=first.snapshot)
    assert tree_of(vault, second, source) == tree_of(vault, first, source)
    rewrite(source / "a" / "plain")
    assert_same_as_without(vault, source, first)


def test_what_cannot_be_read_is_named_in_each_backup(
    vault: VaultForTests, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused, folder = os.fsencode(source / "a" / "plain"), os.fsencode(source / "a" / "below" / "deep")
    real_open, real_list = os.open, os.listdir

    def opening(path: object, *arguments: int, **named: int) -> int:
        if path == refused:
            raise PermissionError(13, "Permission denied")
        return real_open(path, *arguments, **named)  # type: ignore[arg-type]

    def listing(path: object) -> list[bytes]:
        if path == folder:
            raise PermissionError(13, "Permission denied")
        return real_list(path)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(os, "open", opening)
    monkeypatch.setattr(os, "listdir", listing)
    summary = vault.backup(source)
    for _ in range(2):
        summary = assert_same_as_without(vault, source, summary)
        assert {warned.path for warned in summary.warnings} == {refused, folder}


@pytest.mark.parametrize("what", ["unreadable", "gone", "a file"])
def test_a_folder_that_is_lost_after_it_was_listed_leaves_the_snapshot(
    vault: VaultForTests, source: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    first = vault.backup(source)
    folder = source / "a" / "below"
    real_list, real_lstat = os.listdir, os.lstat
    looked: list[object] = []

    def listing(path: object) -> list[bytes]:
        if path == os.fsencode(folder):
            raise PermissionError(13, "Permission denied")
        return real_list(path)  # type: ignore[call-overload, no-any-return]

    def looking(path: object) -> os.stat_result:
        if path == os.fsencode(folder):
            looked.append(path)
            if len(looked) > 1:
                if what == "gone":
                    raise FileNotFoundError(2, "No such file or directory")
                return real_lstat(source / "b" / "plain")
        return real_lstat(path)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        if what == "unreadable":
            patched.setattr(os, "listdir", listing)
        else:
            patched.setattr(os, "lstat", looking)
        second = vault.backup(source, parent=first.snapshot)

    assert [warned.path for warned in second.warnings] == [os.fsencode(folder)]
    assert second.total_files == first.total_files - 6
    assert vault.problems() == []
    assert assert_same_as_without(vault, source, second).total_files == first.total_files


def test_a_folder_in_which_a_file_changed_after_it_was_listed_is_not_remembered(
    vault: VaultForTests, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed, real = source / "c" / "plain", os.open

    def meddling(path: object, *arguments: int, **named: int) -> int:
        if path == os.fsencode(changed):
            rewrite_once(changed)
        return real(path, *arguments, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", meddling)
        first = vault.backup(source)
    looks: list[bytes] = []
    known = "client.backup.known.KnownFolder.find_encoded"
    monkeypatch.setattr(known, lambda _, name, __: looks.append(name))
    vault.backup(source, parent=first.snapshot)
    assert sorted(looks) == [b"other", b"plain", b"zero"]


def rewrite_once(path: Path) -> None:
    if "more" not in path.read_text():
        rewrite(path)


@pytest.mark.skipif(not Path("/proc/sys/kernel/random").is_dir(), reason="there is no /proc")
def test_files_that_announce_another_size_than_they_have_are_read_each_time(vault: VaultForTests) -> None:
    first = vault.backup("/proc/sys/kernel/random")
    second = vault.backup("/proc/sys/kernel/random", parent=first.snapshot)
    assert second.files_changed > 0


def test_what_the_index_has_lost_is_read_again(vault: VaultForTests, source: Path) -> None:
    first = vault.backup(source)
    for path in vault.objects(ObjectKind.INDEX):
        path.unlink()

    second = vault.backup(source, parent=first.snapshot)

    assert first.new_bytes > 5000
    assert second.new_bytes > first.new_bytes - 500  # the folders above have other times
    assert vault.restore(source.parent / "target", second.snapshot.id).damaged == ()


@pytest.mark.parametrize("kind", ["data", "tree"])
def test_what_was_in_an_index_file_that_is_gone_is_stored_anew(
    vault: VaultForTests, source: Path, tmp_path: Path, kind: str
) -> None:
    (source / "a" / "large").write_bytes(Random(1).randbytes(1 << 20))
    first = vault.backup(source)
    before = tree_of(vault, first, source)
    with vault.opened() as opened:
        lost = [name for name, entries in opened.index.packs() if entries[0].kind == kind]
    for name in lost:
        (vault.path / name.path).unlink()
    with vault.opened(Purpose.READ) as opened:
        kept = [pack for pack in opened.index.packs() if pack[0] not in lost]
    for path in vault.objects(ObjectKind.INDEX):
        path.unlink()
    with vault.opened(Purpose.BACKUP) as opened:
        writer = IndexWriter(opened.index, opened)
        for name, entries in kept:
            writer.add_pack(IndexedPack.of(bytes.fromhex(name.id), entries))
        writer.flush()

    second = vault.backup(source, parent=first.snapshot)

    assert vault.restore(tmp_path / "target", second.snapshot.id).damaged == ()
    assert tree_of(vault, second, source) == before


def test_trees_in_a_pack_that_is_gone_are_stored_anew(vault: VaultForTests, source: Path, tmp_path: Path) -> None:
    first = vault.backup(source)
    with vault.opened() as opened:
        packs = [name for name, entries in opened.index.packs() if entries[0].kind == "tree"]
    for name in packs:
        (vault.path / name.path).unlink()

    second = vault.backup(source, parent=first.snapshot)

    assert vault.restore(tmp_path / "target", second.snapshot.id).damaged == ()


def test_after_a_check_that_found_damage_trees_are_read_and_stored_anew(
    vault: VaultForTests, source: Path, tmp_path: Path
) -> None:
    first = vault.backup(source)
    with vault.opened() as opened:
        [(pack, entries)] = [(name, entries) for name, entries in opened.index.packs() if entries[0].kind == "tree"]
        file = vault.path / pack.path
        body = bytearray(file.read_bytes())
        for entry in entries[1:]:  # the first is read, as the one of its pack
            body[entry.offset + 20] ^= 1
        file.chmod(0o600)
        file.write_bytes(body)
        forget(opened)

    second = vault.backup(source, parent=first.snapshot)

    assert vault.restore(tmp_path / "target", second.snapshot.id).damaged == ()


def remembered_in(cache: Path) -> Path:
    [folder] = [path for path in cache.iterdir() if path.name.endswith(".folders")]
    return folder


@pytest.mark.parametrize(
    "harm",
    [
        lambda file: file.write_bytes(b"rubbish" * 5000),
        lambda file: file.write_bytes(b""),
        lambda file: os.truncate(file, 3 * 4096),
        lambda file: file.unlink(),
        lambda file: shutil.rmtree(file.parent),
        lambda file: replace_folder_by_file(file.parent),
    ],
    ids=["rubbish", "emptied", "cut short", "removed", "folder removed", "folder is a file"],
)
def test_a_memo_that_is_broken_is_none(vault: VaultForTests, source: Path, harm: Callable[[Path], None]) -> None:
    first = vault.backup(source)
    harm(remembered_in(vault.cache or source) / "data.mdb")
    rewrite(source / "a" / "below" / "plain")
    assert_same_as_without(vault, source, first)


def test_a_backup_whose_memo_cannot_be_used_tells_it_and_is_whole(vault: VaultForTests, source: Path) -> None:
    said: list[str] = []

    class Hearing(NoProgress):
        def noted(self, text: str) -> None:
            said.append(text)

    first = vault.backup(source)
    replace_folder_by_file(remembered_in(vault.cache or source))

    second = vault.backup(source, parent=first.snapshot, progress=Hearing())

    assert ["File exists" in text for text in said] == [True]
    assert second.warnings == ()
    assert tree_of(vault, second, source) == tree_of(vault, first, source)
