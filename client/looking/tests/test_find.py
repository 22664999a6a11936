import os
from collections.abc import Sequence

import pytest

from client.looking import find
from client.looking.find import Finder, Found, Wanted
from client.looking.tests.a_history import CountedTrees, History, Told
from client.patterns import Pattern
from client.vault.modes import NodeType
from client.vault.snapshots import Snapshot
from client.vault.tests.builders import TIME_NS, a_node
from client.vault.trees import TreeReader


def looked_for(trees: TreeReader, snapshots: Sequence[Snapshot], *patterns: str, **others: int) -> list[Found]:
    wanted = Wanted([Pattern(pattern) for pattern in patterns], **others)
    return list(Finder(trees, wanted, Told()).find(snapshots))


def paths(found: Sequence[Found]) -> list[str]:
    return [os.fsdecode(one.path) for one in found]


def test_a_path_is_told_once_with_its_versions_and_the_snapshots_that_hold_each() -> None:
    history = History()
    first = history.writer.file(b"a.txt", b"first")
    second = history.writer.file(b"a.txt", b"second", mtime_ns=TIME_NS + 1)
    other = history.writer.file(b"b.txt", b"other")
    ids = [
        history.snapshot(history.writer.folder(b"home", *nodes))
        for nodes in ([first], [first, other], [second, other], [first])
    ]
    with history.read() as (vault, snapshots):
        a, b = looked_for(TreeReader(vault), snapshots, "*.txt")
    assert (a.path, b.path) == (b"/home/a.txt", b"/home/b.txt")
    seen = [(version.node.size, [one.id for one in version.snapshots]) for version in a.versions]
    assert seen == [(5, [ids[0], ids[1], ids[3]]), (6, [ids[2]])]
    (version,) = b.versions
    assert [one.id for one in version.snapshots] == ids[1:3]


def test_each_tree_is_read_once_however_many_snapshots_share_it() -> None:
    history = History()
    still = history.writer.folder(b"still", history.writer.folder(b"below", history.writer.file(b"x", b"still")))
    for number in range(5):
        moving = history.writer.folder(b"moving", history.writer.file(b"x", b"%d" % (number // 3)))
        history.snapshot(still, moving)
    with history.read() as (vault, snapshots):
        trees = CountedTrees(vault)
        found = looked_for(trees, snapshots, "x")
    assert paths(found) == ["/moving/x", "/still/below/x"]
    assert set(trees.read.values()) == {1}
    assert len(trees.read) == 2 + 2 + 2  # roots, `moving`, `still` with what is below


def test_folders_in_which_nothing_can_match_are_not_read() -> None:
    history = History()
    folders = [history.writer.folder(name, a_node(b"x", size=len(name))) for name in (b"here", b"there")]
    history.snapshot(*folders)
    with history.read() as (vault, snapshots):
        trees = CountedTrees(vault)
        assert paths(looked_for(trees, snapshots, "/here/x")) == ["/here/x"]
    assert folders[1].subtree not in trees.read


def test_what_is_in_a_folder_that_matches_does_not_match_by_that() -> None:
    history = History()
    history.snapshot(history.writer.folder(b"a.txt", a_node(b"a.txt"), a_node(b"b.md")))
    with history.read() as (vault, snapshots):
        assert paths(looked_for(TreeReader(vault), snapshots, "*.txt")) == ["/a.txt", "/a.txt/a.txt"]
        assert paths(looked_for(TreeReader(vault), snapshots, "/a.txt")) == ["/a.txt"]
        assert paths(looked_for(TreeReader(vault), snapshots, "b.*", "/a.txt")) == ["/a.txt", "/a.txt/b.md"]
        assert paths(looked_for(TreeReader(vault), snapshots, "B.MD")) == []
        ignoring = Wanted([Pattern("B.MD", ignore_case=True)])
        assert paths(list(Finder(TreeReader(vault), ignoring, Told()).find(snapshots))) == ["/a.txt/b.md"]


def test_sizes_and_times_are_limits_that_count() -> None:
    history = History()
    sizes = [history.writer.file(b"%d" % size, b"x" * size, mtime_ns=TIME_NS + size) for size in (10, 20, 30)]
    history.snapshot(*sizes, a_node(b"link", NodeType.SYMLINK), a_node(b"dir", NodeType.DIR, mtime_ns=TIME_NS))
    with history.read() as (vault, snapshots):
        for limits, expected in (
            ({"smallest": 20}, ["/20", "/30"]),
            ({"largest": 20}, ["/10", "/20"]),
            ({"smallest": 0}, ["/10", "/20", "/30"]),
            ({"oldest": TIME_NS + 20}, ["/20", "/30"]),
            ({"newest": TIME_NS + 9}, ["/dir", "/link"]),
            ({"oldest": TIME_NS + 10, "smallest": 11, "largest": 29}, ["/20"]),
        ):
            assert paths(looked_for(TreeReader(vault), snapshots, "*", **limits)) == expected


def test_names_that_are_not_text_are_found() -> None:
    history = History()
    history.snapshot(a_node(b"caf\xe9"), a_node(b"two\nlines"))
    with history.read() as (vault, snapshots):
        assert [one.path for one in looked_for(TreeReader(vault), snapshots, os.fsdecode(b"caf\xe9"))] == [b"/caf\xe9"]
        assert paths(looked_for(TreeReader(vault), snapshots, "*s")) == ["/two\nlines"]


def test_a_folder_with_more_names_than_are_held_is_told_in_order_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "FOLDER_NAMES", 10)
    history = History()
    names = [b"%03d" % number for number in range(95)]
    ids = []
    for start in (0, 1, 2):
        nodes = [history.writer.folder(name, a_node(b"below")) for name in names[start::3]]
        ids.append(history.snapshot(*nodes, a_node(b"shared")))
    with history.read() as (vault, snapshots):
        found = looked_for(TreeReader(vault), snapshots, "*")
    expected = [path for name in names for path in (b"/" + name, b"/" + name + b"/below")]
    assert [one.path for one in found] == [*expected, b"/shared"]
    assert [snapshot.id for snapshot in found[-1].versions[0].snapshots] == ids


def test_a_folder_that_cannot_be_read_is_told_and_the_search_goes_on() -> None:
    history = History()
    lost, other = (history.writer.folder(name, a_node(b"x", size=len(name))) for name in (b"lost", b"other"))
    history.snapshot(lost, other)
    history.snapshot(lost, other, a_node(b"y"))
    told = Told()
    with history.read() as (vault, snapshots):
        finder = Finder(CountedTrees(vault, lost.subtree), Wanted([Pattern("x")]), told)
        assert paths(list(finder.find(snapshots))) == ["/other/x"]
    assert told.paths == [b"/lost"]


def test_without_snapshots_nothing_is_found() -> None:
    with History().read() as (vault, snapshots):
        assert looked_for(TreeReader(vault), snapshots, "*") == []
