"""The parent's folders, read beside the walk."""

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from client.backup.known import KnownFolder
from client.errors import DamagedVault
from client.testing.vaults import VaultForTests, a_vault
from client.vault.modes import NodeType
from client.vault.nodes import Node, encode_node, encode_tree, iterate_tree

TREE = bytes(32)
NAMES = [b"a", b"a b", b"a-b", b"a.b", b"aa", b"b", b"\xc3\xa9", b"\xff"]


def a_tree(*names: bytes) -> bytes:
    return encode_tree([a_node(name) for name in names])


def a_node(name: bytes, content: int = 0) -> Node:
    return Node(name, NodeType.FILE, mode=0o644, content=tuple(bytes([number % 256]) * 32 for number in range(content)))


def test_nodes_are_found_in_the_order_of_their_names() -> None:
    known = KnownFolder(TREE, a_tree(*NAMES))
    for name in sorted([*NAMES, b"", b"aab", b"c", b"\xff\xff"]):
        node = known.find(name)
        assert (node.name if node else None) == (name if name in NAMES else None)


@pytest.mark.parametrize("left_out", [0, 3, len(NAMES) - 1, None])
def test_a_tree_is_all_reused_only_if_no_node_is_left_out(left_out: int | None) -> None:
    known = KnownFolder(TREE, a_tree(*NAMES))
    kept = [name for number, name in enumerate(sorted(NAMES)) if number != left_out]
    for name in kept:
        assert known.find(name) is not None
        known.reuse(known.position)
    assert known.is_all_reused() is (left_out is None)
    assert [name for name, _ in known.reused()] == kept


def test_where_there_is_no_parent_nothing_is_known() -> None:
    known = KnownFolder()
    assert known.find(b"a") is None
    assert not known.is_all_reused()
    assert KnownFolder(TREE, a_tree()).is_all_reused()


@pytest.mark.parametrize("where", [12, 200, 400, -3])
def test_a_damaged_tree_is_known_up_to_the_damage(where: int) -> None:
    body = bytearray(a_tree(*NAMES))
    body[where] = 0xFF
    known = KnownFolder(TREE, bytes(body))
    for name in sorted(NAMES):
        if known.find(name):
            known.reuse(known.position)
    assert not known.is_all_reused()


def test_a_tree_out_of_order_is_known_up_to_there() -> None:
    body = a_tree(b"a", b"b", b"c").replace(b'"b"', b'"d"')
    known = KnownFolder(TREE, body)
    assert [known.find(name) is not None for name in (b"a", b"c", b"d")] == [True, False, True]
    known.reuse(0)
    assert not known.is_all_reused()


def test_trees_larger_than_a_window_are_read_node_by_node() -> None:
    nodes = [a_node(f"gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n {number:05}".encode()) for number in range(3000)]
    nodes += [a_node(b"large", content=20_000), a_node(b"small", content=1)]
    nodes.sort(key=lambda node: node.name)
    body = encode_tree(nodes)
    assert len(body) > 1 << 20
    assert list(iterate_tree(body)) == nodes
    spaced = body.replace(b'{"nodes":[', b'{ "nodes" : [', 1)
    assert list(iterate_tree(spaced)) == nodes
    for cut in (11, 300_000, len(body) - 4):
        with pytest.raises(DamagedVault):
            list(iterate_tree(body[:cut]))


def head_of(node: Node) -> bytes:
    head, start, _ = encode_node(node).partition(b'"content":[')
    return head + start


def test_files_are_told_by_their_encoded_nodes_as_by_their_decoded_ones() -> None:
    nodes = [a_node(name, content=number % 3) for number, name in enumerate(sorted(NAMES))]
    known = KnownFolder(TREE, encode_tree(nodes))
    for number, node in enumerate(nodes):
        assert known.find_encoded(node.name, head_of(replace(node, uid=7))) is None
        if number % 2:
            assert known.find(node.name) == node
        assert known.find_encoded(node.name, head_of(node)) == list(node.content or ())
        assert known.find_encoded(node.name + b"!", head_of(replace(node, name=node.name + b"!"))) is None
        assert known.position == number + 1
        known.reuse(number)
    assert known.is_all_reused()
    assert list(known.reused()) == [(node.name, encode_node(node)) for node in nodes]


def test_a_file_with_more_than_usual_is_not_told_by_its_encoded_node() -> None:
    node = replace(a_node(b"a"), extended_attributes=(("user.a", b"1"),))
    known = KnownFolder(TREE, encode_tree([node, replace(a_node(b"b"), error="lost")]))
    assert known.find_encoded(b"a", head_of(a_node(b"a"))) is None
    assert known.find(b"a") == node
    assert known.find_encoded(b"b", head_of(a_node(b"b"))) is None


def test_encoded_nodes_of_a_tree_out_of_order_are_not_taken_for_others() -> None:
    known = KnownFolder(TREE, a_tree(b"a", b"b", b"c").replace(b'"b"', b'"d"'))
    assert known.find_encoded(b"a", head_of(a_node(b"a"))) == []
    assert known.find_encoded(b"d", head_of(a_node(b"d"))) == []
    assert known.find(b"e") is None
    assert not known.is_all_reused()


@pytest.fixture
def vault(tmp_path: Path) -> VaultForTests:
    return a_vault(tmp_path / "vault")


def test_a_second_snapshot_has_what_was_added_changed_and_removed(vault: VaultForTests, tmp_path: Path) -> None:
    source, random = tmp_path / "source", Random(5)
    for number in range(60):
        path = source / "folder" / f"{'below/' if number % 3 else ''}{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"first {number}")
    first = vault.backup(source)
    for path in sorted(source.rglob("*")):
        what = random.choice(["keep", "keep", "change", "remove", "add"])
        if not path.is_file() or what == "keep":
            continue
        if what == "add":
            path.with_name(f"{path.name}-new").write_text("added")
        elif what == "change":
            path.write_text(f"changed {path.name}")
        else:
            path.unlink()
    expected = {str(path.relative_to(source)): path.read_text() for path in source.rglob("*") if path.is_file()}

    second = vault.backup(source, parent=first.snapshot)

    vault.restore(tmp_path / "target", second.snapshot.id)
    restored = tmp_path / "target" / source.relative_to("/")
    assert {str(at.relative_to(restored)): at.read_text() for at in restored.rglob("*") if at.is_file()} == expected
    assert vault.problems() == []


def test_removing_the_last_file_of_a_folder_is_a_change(vault: VaultForTests, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in "abc":
        (source / name).write_text(name)
    first = vault.backup(source)
    (source / "c").unlink()

    second = vault.backup(source, parent=first.snapshot)

    vault.restore(tmp_path / "target", second.snapshot.id)
    assert sorted(path.name for path in (tmp_path / "target" / source.relative_to("/")).iterdir()) == ["a", "b"]
