import pytest

from client.errors import NoSuchPath
from client.looking.diff import Change, Differ
from client.looking.tests.a_history import CountedTrees, History, Told
from client.vault.modes import NodeType
from client.vault.nodes import Node, encode_node, join_tree
from client.vault.snapshots import Snapshot, encode_snapshot
from client.vault.tests.builders import TIME_NS, a_node


def differences(history: History, path: bytes = b"/") -> list[tuple[str, str]]:
    with history.read() as (vault, (old, new)):
        found = Differ(CountedTrees(vault), Told()).diff(old, new, path)
        return [(one.path.decode(), one.change.value) for one in found]


def test_every_kind_of_difference_is_told_in_order_and_counted() -> None:
    history = History()
    file, folder = history.writer.file, history.writer.folder
    same = folder(b"same", file(b"x", b"x"))
    history.snapshot(
        *(file(b"a", b"old"), file(b"gone", b"12345"), a_node(b"link", NodeType.SYMLINK), file(b"mode", b"m")),
        *(folder(b"away", file(b"in", b"1")), same, folder(b"turned", file(b"deep", b"22"))),
    )
    history.snapshot(
        *(file(b"a", b"newer", mtime_ns=TIME_NS + 1), a_node(b"link", NodeType.SYMLINK, linktarget=b"other")),
        *(file(b"mode", b"m", mode=0o600, atime_ns=1, ctime_ns=2, inode=3), same, file(b"turned", b"333")),
        *(folder(b"new", file(b"in", b"4444")), a_node(b"pipe", NodeType.FIFO)),
    )
    with history.read() as (vault, (old, new)):
        trees = CountedTrees(vault)
        differ = Differ(trees, Told())
        found = list(differ.diff(old, new))
        assert [*differ.diff(old, old)] == []
    assert [(one.path, one.change) for one in found] == [
        (b"/a", Change.CONTENT),
        (b"/away", Change.REMOVED),
        (b"/away/in", Change.REMOVED),
        (b"/gone", Change.REMOVED),
        (b"/link", Change.CONTENT),
        (b"/mode", Change.METADATA),
        (b"/new", Change.ADDED),
        (b"/new/in", Change.ADDED),
        (b"/pipe", Change.ADDED),
        (b"/turned", Change.TYPE),
        (b"/turned/deep", Change.REMOVED),
    ]
    assert {one.path: one.metadata for one in found if one.metadata} == {
        b"/a": ("mtime",),
        b"/mode": ("mode",),
        b"/turned": ("mode",),
    }
    totals = differ.totals
    assert (totals.added.files, totals.added.dirs, totals.added.others, totals.added.bytes) == (2, 1, 1, 7)
    assert (totals.removed.files, totals.removed.dirs, totals.removed.others, totals.removed.bytes) == (3, 2, 0, 8)
    assert (totals.changed.files, totals.changed.others, totals.changed.bytes) == (1, 1, 5)
    assert (totals.types, totals.metadata) == (1, 1)
    assert same.subtree not in trees.read


def test_a_path_narrows_the_comparison() -> None:
    history = History()
    for content in (b"1", b"22"):
        inner = history.writer.folder(b"inner", history.writer.file(b"x", content))
        history.snapshot(history.writer.folder(b"home", inner, history.writer.file(content, content)))
    assert differences(history, b"/home/inner") == [("/home/inner/x", "content")]
    assert differences(history, b"/home/inner/x") == [("/home/inner/x", "content")]
    assert differences(history, b"/home/22") == [("/home/22", "added")]
    assert differences(history, b"/home/1") == [("/home/1", "removed")]
    with pytest.raises(NoSuchPath):
        differences(history, b"/home/none")


def test_a_folder_that_cannot_be_read_is_told_and_the_rest_compared() -> None:
    history = History()
    lost = history.writer.folder(b"lost", a_node(b"x"))
    history.snapshot(lost, history.writer.file(b"other", b"1"))
    history.snapshot(history.writer.folder(b"lost", a_node(b"y")), history.writer.file(b"other", b"2"))
    told = Told()
    with history.read() as (vault, (old, new)):
        found = [one.path for one in Differ(CountedTrees(vault, lost.subtree), told).diff(old, new)]
    assert (found, told.paths) == ([b"/other"], [b"/lost"])


def test_names_out_of_order_are_told_not_compared_wrongly() -> None:
    history = History()
    history.snapshot(a_node(b"a"), a_node(b"b"))
    tree = history.writer.raw_tree(bytes(join_tree(map(encode_node, disordered()))))
    history.writer.raw_snapshot(encode_snapshot(Snapshot(TIME_NS * 2, tree, ("/",))))
    told = Told()
    with history.read() as (vault, (old, new)):
        list(Differ(CountedTrees(vault), told).diff(old, new))
    assert told.paths == [b"/"]


def disordered() -> list[Node]:
    return [a_node(b"b"), a_node(b"a")]
