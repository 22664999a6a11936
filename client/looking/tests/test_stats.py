import os

import pytest

from client.looking import stats
from client.looking.stats import Stats, measure, stored_size
from client.looking.tests.a_history import CountedTrees, History, Told
from client.vault.blob_numbers import BlobNumbers, BlobSet, Renumbered
from client.vault.blobs import BlobKind
from client.vault.index_tables import BrokenTable, MemoryTable
from client.vault.index_view import View
from client.vault.modes import NodeType
from client.vault.nodes import Node
from client.vault.repository import Vault
from client.vault.snapshots import Snapshot


def measured(vault: Vault, snapshots: list[Snapshot], told: Told | None = None) -> Stats:
    return measure(vault, snapshots, told or Told())


def data_of(vault: Vault, *nodes: Node) -> tuple[int, int]:
    """Plain and sealed bytes of the blobs of files and folders, each once."""
    blobs = {(BlobKind.DATA, blob) for node in nodes for blob in node.content or ()}
    blobs |= {(BlobKind.TREE, node.subtree) for node in nodes if node.subtree}
    entries = [found.entry for kind, blob in blobs if (found := vault.index.find(kind, blob))]
    return sum(entry.length_plain for entry in entries), sum(entry.length for entry in entries)


def test_each_snapshot_has_its_size_and_what_no_older_one_has() -> None:
    history = History()
    shared = history.writer.file(b"shared", b"x" * 5000, b"y" * 5000)
    new = history.writer.file(b"new", os.urandom(3000), b"y" * 5000)
    below = history.writer.folder(b"below", shared)
    history.snapshot(below)
    history.snapshot(below, new)
    history.snapshot(below)
    with history.read() as (vault, snapshots):
        found = measured(vault, snapshots[::-1])
        roots = [Node(b"", NodeType.DIR, subtree=snapshot.tree) for snapshot in snapshots]
        first = data_of(vault, shared, below, roots[0])
        everything = data_of(vault, shared, below, new, roots[0], roots[1])
        alone = measured(vault, [snapshots[1]])
    sizes = [(one.snapshot, one.files, one.total_bytes) for one in found.snapshots]
    assert sizes == [(snapshots[0], 1, 10_000), (snapshots[1], 2, 18_000), (snapshots[2], 1, 10_000)]
    added = [(one.added_bytes, one.added_stored_bytes) for one in found.snapshots]
    assert added == [first, (everything[0] - first[0], everything[1] - first[1]), (0, 0)]
    assert (found.total_bytes, found.unique_bytes, found.stored_bytes) == (38_000, *everything)
    assert found.compression_ratio == everything[0] / everything[1]
    assert (alone.snapshots[0].added_bytes, alone.unique_bytes) == (alone.unique_bytes, alone.unique_bytes)
    assert 0 < alone.unique_bytes < found.unique_bytes


def test_each_tree_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    history = History()
    same = history.writer.folder(b"same", history.writer.folder(b"deep", history.writer.file(b"x", b"1")))
    twin = history.writer.folder(b"twin", history.writer.folder(b"deep", history.writer.file(b"x", b"1")))
    for number in range(4):
        history.snapshot(same, twin, history.writer.file(b"new", b"%d" % (number // 2)))
    with history.read() as (vault, snapshots):
        trees = CountedTrees(vault)
        monkeypatch.setattr(stats, "TreeReader", lambda _: trees)
        found = measured(vault, snapshots)
    assert [one.files for one in found.snapshots] == [3, 3, 3, 3]
    assert set(trees.read.values()) == {1}
    assert len(trees.read) == 2 + 2  # roots; `same` and `twin` are the same trees


def test_what_cannot_be_read_is_told_once_and_missing_from_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    history = History()
    lost = history.writer.folder(b"lost", history.writer.file(b"x", b"1"))
    unlisted = Node(b"unlisted", NodeType.DIR, subtree=bytes(32))
    for content in (b"22", b"333"):
        history.snapshot(lost, history.writer.file(b"other", content))
    history.snapshot(unlisted)
    told = Told()
    with history.read() as (vault, snapshots):
        monkeypatch.setattr(stats, "TreeReader", lambda vault: CountedTrees(vault, lost.subtree))
        found = measured(vault, snapshots, told)
    assert [one.total_bytes for one in found.snapshots] == [2, 3, 0]
    assert told.paths == [b"/lost", b"/unlisted"]


def test_a_blob_that_lies_twice_counts_once() -> None:
    history = History()
    once = history.writer.file(b"a", b"same" * 100)
    again = history.writer.file(b"b", b"same" * 100)
    history.snapshot(once)
    history.snapshot(once, again)
    with history.read() as (vault, snapshots):
        assert len(vault.index.find_all(BlobKind.DATA, (once.content or ())[0])) == 2
        trees = [Node(b"", NodeType.DIR, subtree=one.tree) for one in snapshots]
        assert measured(vault, snapshots).unique_bytes == data_of(vault, once, *trees)[0]


def test_the_stored_size_is_that_of_all_objects() -> None:
    history = History()
    history.snapshot(history.writer.file(b"a", b"1"))
    with history.read() as (vault, _):
        assert stored_size(vault) == sum(map(len, history.store.objects.values()))
        assert measured(vault, []) == Stats((), 0, 0)
        assert measured(vault, []).compression_ratio is None


def test_numbers_are_close_together_and_each_blob_s_own() -> None:
    history = History()
    texts = [[b"%d %d" % (part, number) for number in range(9)] for part in range(5)]
    blobs = [blob for part in texts for blob in history.writer.blobs(BlobKind.DATA, *part)]
    with history.read() as (vault, _):
        numbers = BlobNumbers(vault.index, BlobKind.DATA)
        given = [found[0] for blob in [*blobs, *blobs] if (found := numbers.find(blob))]
        assert BlobNumbers(vault.index, BlobKind.TREE).find(blobs[0]) is None
    assert sorted(given[:45]) == list(range(45))
    assert given[45:] == given[:45]
    seen = BlobSet()
    assert [seen.add(number) for number in (3, 1000, 3, 11, 1000)] == [True, True, False, True, False]


def test_an_index_that_is_read_anew_meanwhile_is_measured_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    history = History()
    history.snapshot(history.writer.folder(b"a", history.writer.file(b"x", b"1" * 50)))
    history.snapshot(history.writer.file(b"y", b"2" * 50))
    with history.read() as (vault, snapshots):
        expected = measured(vault, snapshots)
        places, left = MemoryTable.places, [3]

        def breaking(table: MemoryTable, blob: bytes) -> object:
            left[0] -= 1
            if not left[0]:
                raise BrokenTable("full")
            return places(table, blob)

        numbers = BlobNumbers(vault.index, BlobKind.TREE)
        assert numbers.find(snapshots[0].tree)
        monkeypatch.setattr("client.vault.index.TemporaryTable", MemoryTable)
        monkeypatch.setattr(vault.index, "_view", View(MemoryTable()))
        vault.index._loaded = False
        monkeypatch.setattr(MemoryTable, "places", breaking)
        assert measured(vault, snapshots) == expected
        assert left[0] < 0
        with pytest.raises(Renumbered):
            numbers.find(snapshots[0].tree)
