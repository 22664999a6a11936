"""What a restore takes, what it refuses, and what it says of a vault that has lost something."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from client.errors import DamagedVault, ServerUnreachable, TargetFull, UsageError
from client.restore import plan
from client.restore.compare import differences
from client.restore.patterns import NothingMatches
from client.restore.request import Counters, NoProgress
from client.restore.run import restore
from client.stores.abc import StoreSession
from client.testing.faults import OneCopyAltered, SessionAround
from client.testing.files import random_bytes
from client.testing.threads import none_left
from client.testing.vaults import NOON, VaultForTests, a_vault
from client.vault.blobs import BlobId, BlobKind, blob_id
from client.vault.index import IndexWriter
from client.vault.modes import MODE_DIR, NodeType
from client.vault.nodes import Node, encode_tree
from client.vault.packs import PackBuilder
from client.vault.sealing import seal_batch
from client.vault.snapshots import Snapshot
from client.vault.walk import list_snapshot
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose


def some_files(folder: Path) -> Path:
    (folder / "docs" / "old").mkdir(parents=True)
    (folder / "docs" / "a.txt").write_text("a")
    (folder / "docs" / "b.md").write_text("b")
    (folder / "docs" / "old" / "c.txt").write_text("c")
    (folder / "pictures").mkdir()
    (folder / "pictures" / "large").write_bytes(random_bytes(5 << 20, 1))
    os.link(folder / "pictures" / "large", folder / "pictures" / "the same")
    for number in range(20):
        (folder / "pictures" / f"{number}").write_bytes(random_bytes(50_000, number + 2))
    return folder


def restored(target: Path, source: Path) -> set[str]:
    """The files in the target, by their paths in the source."""
    below = target / source.relative_to("/")
    return {str(path.relative_to(below)) for path in below.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["*.txt"], {"docs/a.txt", "docs/old/c.txt"}),
        (["docs"], {"docs/a.txt", "docs/b.md", "docs/old/c.txt"}),
        (["docs/*.txt"], {"docs/a.txt"}),
        (["{source}/docs/old"], {"docs/old/c.txt"}),
        (["{source}/**/c.*", "b.m?"], {"docs/old/c.txt", "docs/b.md"}),
    ],
)
def test_patterns_choose_what_is_restored(tmp_path: Path, patterns: list[str], expected: set[str]) -> None:
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    vault.backup(source)
    chosen = [pattern.format(source=source) for pattern in patterns]

    vault.restore(tmp_path / "target", includes=chosen)

    assert restored(tmp_path / "target", source) == expected


def test_an_empty_pattern_is_refused_before_the_target_is_made(tmp_path: Path) -> None:
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    vault.backup(source)
    with pytest.raises(UsageError, match="matches nothing"):
        vault.restore(tmp_path / "target", includes=["/"])
    assert not (tmp_path / "target").exists()


def test_a_target_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    vault.backup(source)
    with pytest.raises(UsageError, match="is not empty"):
        vault.restore(source)
    with pytest.raises(UsageError, match="cannot restore to"):
        vault.restore(source / "docs" / "a.txt")


def test_files_with_lost_blobs_are_named_and_all_others_are_restored(tmp_path: Path) -> None:
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    first = vault.backup(source / "docs")
    packs = set(vault.objects(ObjectKind.PACK))
    second = vault.backup(source, parent=first.snapshot)
    for path in set(vault.objects(ObjectKind.PACK)) - packs:
        if kind_of(vault, path) is BlobKind.DATA:
            path.unlink()

    summary = vault.restore(tmp_path / "target", second.snapshot.id)

    assert restored(tmp_path / "target", source) == {"docs/a.txt", "docs/b.md", "docs/old/c.txt"}
    assert len(summary.damaged) == 22
    assert os.fsencode(source / "pictures" / "the same") in {lost.path for lost in summary.damaged}
    assert summary.exit_code == 8


def test_an_altered_blob_is_never_restored(tmp_path: Path) -> None:
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    vault.backup(source)
    name = "pictures/3"
    flip_a_bit_of(vault, blob_id((source / name).read_bytes()))

    summary = vault.restore(tmp_path / "target")

    assert [lost.path for lost in summary.damaged] == [os.fsencode(source / name)]
    assert restored(tmp_path / "target", source) == restored(Path("/"), source) - {name}


def test_a_truncated_pack_costs_only_what_is_cut_off(tmp_path: Path) -> None:
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    vault.backup(source)
    largest = max(vault.objects(ObjectKind.PACK), key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)

    summary = vault.restore(tmp_path / "target")

    lost = {os.fsdecode(found.path) for found in summary.damaged}
    assert lost
    present = restored(tmp_path / "target", source)
    assert present == {name for name in restored(Path("/"), source) if str(source / name) not in lost}
    for name in present:
        assert (tmp_path / "target" / source.relative_to("/") / name).read_bytes() == (source / name).read_bytes()


def test_a_lost_tree_costs_its_folder_alone(tmp_path: Path) -> None:
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    vault.backup(source)
    with vault.opened() as opened:
        listed = list(list_snapshot(opened, opened.find_snapshot("latest")))
    tree = next(found.node.subtree for found in listed if found.node.name == b"old")
    assert tree is not None
    flip_a_bit_of(vault, tree, BlobKind.TREE)

    summary = vault.restore(tmp_path / "target")

    assert [lost.path for lost in summary.damaged] == [os.fsencode(source / "docs" / "old")]
    assert restored(tmp_path / "target", source) == restored(Path("/"), source) - {"docs/old/c.txt"}


def test_a_blob_that_one_pack_has_lost_is_taken_from_another(tmp_path: Path) -> None:
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    vault.backup(source)
    first = vault.objects(ObjectKind.PACK)
    kept = [(path, path.read_bytes()) for path in vault.objects(ObjectKind.INDEX)]
    for path, _ in kept:
        path.unlink()
    second = vault.backup(source)
    for path, body in kept:
        path.write_bytes(body)
    for path in first:
        path.write_bytes(bytes(path.stat().st_size))

    assert vault.restore(tmp_path / "target", second.snapshot.id).damaged == ()


def test_a_pack_altered_in_one_copy_costs_nothing(tmp_path: Path) -> None:
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    vault.backup(source)
    sessions: list[OneCopyAltered] = []

    def around(session: StoreSession) -> OneCopyAltered:
        sessions.append(OneCopyAltered(session))
        return sessions[0]

    summary = vault.restore(tmp_path / "target", around=around)

    assert summary.exit_code == 0
    assert sessions[0].altered
    assert len(sessions[0].whole) == len(set(sessions[0].whole)) == len(vault.objects(ObjectKind.PACK))
    assert not list(differences(source, tmp_path / "target" / source.relative_to("/")))


def test_a_full_target_is_one_clear_error_and_leaves_no_partial_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    vault.backup(source)
    written: list[int] = []
    real = os.pwrite

    def filling(opened: int, content: bytes, offset: int) -> int:
        written.append(len(content))
        if len(written) > 5:
            raise OSError(28, "No space left on device")
        return real(opened, content, offset)

    monkeypatch.setattr(os, "pwrite", filling)
    with none_left(), pytest.raises(TargetFull, match="is full"):
        vault.restore(tmp_path / "target")
    monkeypatch.undo()

    for path in (path for path in (tmp_path / "target").rglob("*") if path.is_file() and path.name != ".oort-restore"):
        assert path.read_bytes() == (Path("/") / path.relative_to(tmp_path / "target")).read_bytes()


def test_a_store_that_goes_away_ends_the_restore_with_its_error(tmp_path: Path) -> None:
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    vault.backup(source)
    lost = ServerUnreachable(server="node", reason="connection refused")
    large = max(vault.objects(ObjectKind.PACK), key=lambda path: path.stat().st_size).name

    class Unreachable(SessionAround):
        def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
            if name.id == large:
                raise lost
            return super().get(name, offset, length)

    with pytest.raises(ServerUnreachable):
        vault.restore(tmp_path / "target", around=Unreachable)
    assert (tmp_path / "target" / ".oort-restore").is_file()


def test_a_hostile_snapshot_writes_nothing_outside_the_target(tmp_path: Path) -> None:
    vault = a_vault(tmp_path / "vault")
    outside = tmp_path / "outside"
    outside.mkdir()
    content = b"evil"
    inner = encode_tree([a_file(b"file", content)])
    harmless = encode_tree(
        [
            Node(b"link", NodeType.SYMLINK, linktarget=os.fsencode(outside), mode=0o777),
            Node(b"zz", NodeType.DIR, mode=MODE_DIR | 0o755, subtree=blob_id(inner)),
        ]
    )
    # Once a folder by the link's name, in the same tree; once a name that climbs; once one that is absolute.
    double = harmless.replace(b'"name":"zz"', b'"name":"link"')
    climbing = harmless.replace(b'"name":"zz"', b'"name":"../outside/zz"')
    dots = harmless.replace(b'"name":"zz"', b'"name":".."')
    for number, tree in enumerate((double, climbing, dots)):
        assert tree != harmless
        snapshot = stored(vault, [content], [inner, tree])
        with (
            vault.store.open(Purpose.READ) as session,
            vault.opened() as opened,
            pytest.raises(DamagedVault),
        ):
            restore(opened, session, snapshot, tmp_path / f"target {number}")
    assert list(outside.iterdir()) == []
    assert not (tmp_path / "outside" / "zz").exists()


def test_listing_names_every_path_below_the_one_given(tmp_path: Path) -> None:
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    vault.backup(source)
    with vault.opened() as opened:
        snapshot = opened.find_snapshot("latest")
        below = [found.path for found in list_snapshot(opened, snapshot, os.fsencode(source / "docs"))]
        everything = [found.path for found in list_snapshot(opened, snapshot)]
    expected = [
        os.fsencode(source / name) for name in ("docs", "docs/a.txt", "docs/b.md", "docs/old", "docs/old/c.txt")
    ]
    assert below == expected
    assert everything[0] == b"/" + os.fsencode(source).split(b"/")[1]
    assert set(below) < set(everything)


def a_file(name: bytes, content: bytes) -> Node:
    return Node(name, NodeType.FILE, mode=0o644, size=len(content), content=(blob_id(content),))


def stored(vault: VaultForTests, contents: list[bytes], trees: list[bytes]) -> Snapshot:
    """Blobs put into the vault as they are, and a snapshot of the last tree."""
    with vault.opened(Purpose.BACKUP) as opened:
        writer = IndexWriter(opened.index, opened)
        for kind, plaintexts in ((BlobKind.DATA, contents), (BlobKind.TREE, trees)):
            builder = PackBuilder(opened.keys, kind)
            for blob in seal_batch(opened.keys, kind, plaintexts):
                builder.add(blob)
            pack, body = builder.finish()
            opened.session.put(pack.name, body)
            writer.add_pack(pack)
        writer.flush()
    return replace(Snapshot(time_ns=int(NOON.timestamp()) * 10**9, tree=blob_id(trees[-1])), id="00" * 32)


def kind_of(vault: VaultForTests, path: Path) -> BlobKind:
    with vault.opened() as opened:
        return opened.index.entries_of_pack(ObjectName(ObjectKind.PACK, path.name))[0].kind


def flip_a_bit_of(vault: VaultForTests, blob: BlobId, kind: BlobKind = BlobKind.DATA) -> None:
    with vault.opened() as opened:
        location = opened.index.find(kind, blob)
    assert location is not None
    path = vault.path / location.pack.path
    body = bytearray(path.read_bytes())
    body[location.entry.offset + location.entry.length // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(body)


@pytest.mark.parametrize("pattern", ["*.doc", "/docs", "/nowhere/at/all", "docs/a.txt/below"])
def test_patterns_that_match_nothing_are_an_error_and_leave_no_target(tmp_path: Path, pattern: str) -> None:
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    vault.backup(source)
    (tmp_path / "empty").mkdir()
    for target in (tmp_path / "target", tmp_path / "empty"):
        with pytest.raises(NothingMatches, match=r"[Nn]o path of snapshot .* matches") as refused:
            vault.restore(target, includes=[pattern])
        assert refused.value.exit_code == 6
    assert not (tmp_path / "target").exists()
    assert list((tmp_path / "empty").iterdir()) == []


def test_one_pattern_that_matches_is_enough(tmp_path: Path) -> None:
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    vault.backup(source)
    vault.restore(tmp_path / "target", includes=["*.doc", "old"])
    assert restored(tmp_path / "target", source) == {"docs/old/c.txt"}


def test_losses_are_all_counted_and_told_but_only_the_first_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.restore.request.KEPT_WARNINGS", 3)
    counters = Counters(NoProgress())
    for number in range(10):
        counters.warn(b"%d" % number, "no owner")
        counters.lose(b"%d" % number, "gone")
    assert (len(counters.warnings), len(counters.losses)) == (3, 3)
    assert (counters.warned, counters.lost) == (10, 10)


def test_copies_that_lie_near_each_other_are_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vault, source = a_vault(tmp_path / "vault"), tmp_path / "source"
    source.mkdir()
    for number in range(24):
        (source / f"{number:02d}").write_bytes(random_bytes(100_000, number // 3))
    vault.backup(source)
    for size in ("_FIRST_WINDOW", "_WINDOW"):
        monkeypatch.setattr(plan, size, 5)  # ends between copies

    summary = vault.restore(tmp_path / "target")

    assert not list(differences(source, tmp_path / "target" / source.relative_to("/")))
    with vault.opened() as opened:
        entries = [entry for _, entries in opened.index.packs() for entry in entries]
    assert summary.fetched_bytes == sum(entry.length for entry in entries if entry.kind is BlobKind.DATA)
