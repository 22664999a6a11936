"""What a damage touches: the files and snapshots that are named for it."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from client.errors import DamagedVault
from client.stores.tests.memory import MemoryStore
from client.vault.blobs import BlobId, BlobKind
from client.vault.checker import Check
from client.vault.nodes import Node
from client.vault.problems import Problem
from client.vault.repository import Vault
from client.vault.subsets import Part
from client.vault.tests.builders import VaultWriter, a_node, a_writer
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose

Said = set[tuple[bytes, tuple[str, ...], frozenset[str]]]


def store_of(writer: VaultWriter) -> MemoryStore:
    assert isinstance(writer.store, MemoryStore)
    return writer.store


def checked(writer: VaultWriter, *, read_data: bool = True) -> tuple[list[Problem], Said]:
    vault = writer.finish()
    with vault, Check(vault, read_data=read_data) as checking:
        problems = list(checking.problems())
        said = [
            (found.path, found.objects, frozenset(one.id for one in found.snapshots)) for found in checking.touches()
        ]
    assert len(said) == len(set(said))
    return problems, set(said)


def pack_of(writer: VaultWriter, kind: BlobKind, blob: BlobId) -> ObjectName:
    (pack,) = writer.vault.index.packs_of(kind, blob)
    return pack


def flip(writer: VaultWriter, name: ObjectName, at: int) -> None:
    body = bytearray(store_of(writer).objects[name])
    body[at] ^= 1
    store_of(writer).objects[name] = bytes(body)


def file_with(name: bytes, content: Sequence[BlobId], size: int) -> Node:
    return a_node(name, content=tuple(content), size=size)


def test_a_pack_names_its_files_in_every_snapshot_that_has_them() -> None:
    writer = a_writer()
    lost = writer.file(b"lost", b"one" * 100)
    kept = writer.file(b"kept", b"two" * 100)
    folder = writer.folder(b"folder", lost, kept)
    first = writer.snapshot(writer.tree(folder))
    second = writer.snapshot(writer.tree(folder, kept))
    third = writer.snapshot(writer.tree(kept))
    content = lost.content or ()
    pack = pack_of(writer, BlobKind.DATA, content[0])
    del store_of(writer).objects[pack]
    problems, said = checked(writer)
    assert [problem.name for problem in problems if problem.is_error] == [str(pack)]
    assert said == {(b"/folder/lost", (str(pack),), frozenset((first.id, second.id)))}
    assert third.id not in str(said)


def test_a_lost_list_of_a_folder_is_named_as_the_folder() -> None:
    writer = a_writer()
    folder = writer.folder(b"folder", writer.file(b"f", b"x"))
    snapshot = writer.snapshot(writer.tree(folder))
    assert folder.subtree
    pack = pack_of(writer, BlobKind.TREE, folder.subtree)
    flip(writer, pack, 5)
    assert checked(writer)[1] == {(b"/folder/", (str(pack),), frozenset((snapshot.id,)))}


def test_one_bit_in_a_pack_touches_one_file_of_those_in_it() -> None:
    writer = a_writer()
    blobs = writer.blobs(BlobKind.DATA, b"a" * 100, b"b" * 100)
    nodes = [file_with(name, [blob], 100) for name, blob in zip((b"a", b"b"), blobs, strict=True)]
    snapshot = writer.snapshot(writer.tree(*nodes))
    pack = pack_of(writer, BlobKind.DATA, blobs[0])
    flip(writer, pack, 5)
    assert checked(writer)[1] == {(b"/a", (str(pack),), frozenset((snapshot.id,)))}
    assert checked(writer, read_data=False) == ([], set())


def test_what_lies_whole_in_another_pack_is_not_touched() -> None:
    writer = a_writer()
    node = writer.file(b"f", b"x" * 100)
    pack = pack_of(writer, BlobKind.DATA, (node.content or ())[0])
    writer.index.add_pack(writer.pack(BlobKind.DATA, [b"x" * 100]))
    writer.snapshot(writer.tree(node))
    flip(writer, pack, 5)
    problems, said = checked(writer)
    assert str(pack) in {problem.name for problem in problems if problem.is_error}
    assert said == set()


def test_a_broken_header_touches_nothing_while_the_blobs_open() -> None:
    writer = a_writer()
    node = writer.file(b"f", b"x" * 100)
    writer.snapshot(writer.tree(node))
    pack = pack_of(writer, BlobKind.DATA, (node.content or ())[0])
    flip(writer, pack, -10)
    problems, said = checked(writer, read_data=False)
    assert [problem.name for problem in problems] == [str(pack)]
    assert said == set()


def test_an_index_file_that_cannot_be_read_is_named_with_what_it_alone_listed() -> None:
    writer = a_writer()
    kept = writer.file(b"kept", b"k")
    trees = writer.tree(kept, a_node(b"lost", content=(b"\1" * 32,), size=1))
    first = writer.snapshot(trees)
    before = {info.name for info in writer.session.list(ObjectKind.INDEX)}
    writer.file(b"unneeded", b"u")
    writer.index.flush()
    (index,) = {info.name for info in writer.session.list(ObjectKind.INDEX)} - before
    flip(writer, index, 20)
    assert checked(writer)[1] == {(b"/lost", (str(index),), frozenset((first.id,)))}


def test_a_subset_reads_its_packs_alone() -> None:
    writer = a_writer()
    for number in range(20):
        writer.file(b"f%d" % number, b"content %d" % number)
    vault = writer.finish()
    read = 0
    with vault:
        for number in (1, 2, 3):
            with Check(vault, subset=Part(number, 3)) as checking:
                assert [problem for problem in checking.problems() if problem.is_error] == []
                read += checking.packs_read
    assert read == 20


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_exactly_those_files_are_named_that_do_not_open_any_more(data: st.DataObject) -> None:
    """Of random snapshots with random blobs in common, whatever packs come to harm."""
    writer = a_writer()
    blobs = [writer.blobs(BlobKind.DATA, b"blob %d" % number * 20)[0] for number in range(6)]
    a_file = st.lists(st.sampled_from(range(6)), min_size=1, max_size=3)
    for at, files in enumerate(data.draw(st.lists(st.lists(a_file, max_size=3), min_size=1, max_size=3))):
        nodes = [
            file_with(b"f%d" % number, [blobs[one] for one in content], sum(len(b"blob 0") * 20 for _ in content))
            for number, content in enumerate(files)
        ]
        writer.snapshot(writer.tree(*nodes, writer.folder(b"sub", *nodes)), tags=(str(at),))
    writer.index.flush()
    packs = [name for name in store_of(writer).objects if name.kind is ObjectKind.PACK]  # as they were stored
    for number, part in data.draw(st.dictionaries(st.integers(0, 30), st.floats(0, 0.999), max_size=4)).items():
        pack = packs[number % len(packs)]
        flip(writer, pack, int(part * len(store_of(writer).objects[pack])))
    _, said = checked(writer)
    named = {(path, snapshot) for path, _, snapshots in said for snapshot in snapshots}
    with writer_vault(writer) as vault:
        all_lost = (lost_below(vault, snapshot.tree, snapshot.id) for snapshot in vault.snapshots())
        assert named == set().union(*all_lost)


def writer_vault(writer: VaultWriter) -> Vault:
    return writer.vault.in_session(writer.store.open(Purpose.READ))


def lost_below(vault: Vault, tree: BlobId, snapshot: str, path: bytes = b"/") -> set[tuple[bytes, str]]:
    try:
        nodes = vault.load_tree(tree)
    except DamagedVault:
        return {(path, snapshot)}
    found: set[tuple[bytes, str]] = set()
    for node in nodes:
        if node.subtree is not None:
            found |= lost_below(vault, node.subtree, snapshot, path + node.name + b"/")
        try:
            for blob in node.content or ():
                vault.load_blob(BlobKind.DATA, blob)
        except DamagedVault:
            found.add((path + node.name, snapshot))
    return found
