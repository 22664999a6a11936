"""Every fault that the strict check must name, planted one by one."""

import errno
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from client.stores.tests.memory import MemoryStore
from client.vault.blob_figures import BlobFigures
from client.vault.blobs import BlobKind, PackEntry, blob_id
from client.vault.checker import check
from client.vault.index_files import IndexedPack, IndexFile, encode_index_file
from client.vault.locks import Lock, encode_lock
from client.vault.modes import MODE_DIR, MODE_SYMLINK, NodeType
from client.vault.nodes import Node, encode_tree
from client.vault.packs import encode_header
from client.vault.problems import Problem
from client.vault.tests.builders import TIME_NS, VaultWriter, a_node, a_writer, put_raw
from client.vault.times import format_time
from domain.names import ObjectKind, ObjectName


def store_of(writer: VaultWriter) -> MemoryStore:
    assert isinstance(writer.store, MemoryStore)
    return writer.store


def problems_of(writer: VaultWriter, *, read_data: bool = False) -> list[Problem]:
    vault = writer.finish()
    problems = list(check(vault, read_data))
    vault.close()
    return problems


def errors_of(writer: VaultWriter, *, read_data: bool = False) -> list[str]:
    return [str(problem) for problem in problems_of(writer, read_data=read_data) if problem.is_error]


def notes_of(writer: VaultWriter) -> list[str]:
    return [str(problem) for problem in problems_of(writer) if not problem.is_error]


def the_one_error(writer: VaultWriter, *, read_data: bool = False) -> str:
    (error,) = errors_of(writer, read_data=read_data)
    return error


def every_kind_of_node(writer: VaultWriter) -> list[Node]:
    return [
        writer.file(b"file", b"content" * 100, b"more"),
        a_node(b"empty"),
        a_node(b'odd \xff\xe2\x80\x8b "<&>\\'),
        a_node(b"link", NodeType.SYMLINK),
        a_node(b"raw link", NodeType.SYMLINK, linktarget=b"\xff<&"),
        a_node(b"block", NodeType.DEV, device=1792),
        a_node(b"char", NodeType.CHARDEV, device=259),
        a_node(b"fifo", NodeType.FIFO),
        a_node(b"socket", NodeType.SOCKET),
        writer.folder(b"folder", a_node(b"x", extended_attributes=(("user.t", b"\0\xff"),))),
    ]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("read_data", [False, True])
def test_a_sound_vault_has_no_problem(version: int, read_data: bool) -> None:
    writer = a_writer(version=version)
    writer.snapshot(writer.tree(*every_kind_of_node(writer)))
    assert problems_of(writer, read_data=read_data) == []


def test_an_empty_vault_has_no_problem() -> None:
    assert problems_of(a_writer(), read_data=True) == []


# Documents


def with_tree_text(change: Callable[[str], str], *nodes: Node) -> VaultWriter:
    writer = a_writer()
    text = encode_tree(nodes or [a_node(b"a"), a_node(b"b<", group="g")]).decode()
    changed = change(text)
    assert changed != text
    writer.snapshot(writer.raw_tree(changed.encode()))
    return writer


TEXT_FAULTS: list[tuple[Callable[[str], str], str]] = [
    (lambda text: text.removesuffix("\n"), "no newline at its end"),
    (lambda text: text.replace(r"\u003c", "<"), "not written as Go's encoding/json"),
    (lambda text: text.replace('","', '", "'), "not written as Go's encoding/json"),
    (lambda text: text.replace('"inode":7,', '"inode":7,"inode":7,'), "a key comes twice"),
    (lambda text: text.replace('"name":"a"', r'"name":"\\x61"'), "not as strconv.Quote"),
    (lambda text: text.replace('"name":"a"', '"name":"\u200b"'), "not as strconv.Quote"),
    (lambda text: text.replace('"name":"a"', r'"name":"\\u00e9"'), "not as strconv.Quote"),
    (lambda text: text.replace('"name":"a"', '"name":"c"'), "not sorted by the bytes"),
    (lambda text: text.replace('"name":"a"', r'"name":"\\xff"'), "not sorted by the bytes"),
    (lambda text: text.replace("34513538Z", "345135380Z", 1), "mtime '2014-12-06T16:30:23.345135380Z' is not written"),
    (lambda text: text.replace("34513538Z", "34513538+00:00", 1), "is not written as Go does"),
    (lambda text: text.replace('"content":[]', '"content":null', 1), "a file has no content"),
    (lambda text: text.replace('"content":[]', '"size":0,"content":[]', 1), "size must be left out when empty"),
    (lambda text: text.replace('"uid":0,', "", 1).replace(f'"uid":{os.getuid()},', "", 1), "uid must be written"),
    (lambda text: text.replace('"links":1,"content":[]', '"content":[],"links":1', 1), "not in restic's order"),
    (lambda text: text.replace('"nodes"', '"later":1,"nodes"'), "its keys are not as restic writes them"),
    (lambda text: text.replace('"name":"b\\u003c"', '"name":"a"'), "two nodes are named b'a'"),
    (lambda text: text.replace('"name":"a"', '"name":"../a"'), "holds a slash"),
    (lambda text: text[:-20], "no JSON"),
]


@pytest.mark.parametrize(("change", "expected"), TEXT_FAULTS)
def test_a_tree_that_restic_would_write_otherwise_is_named(change: Callable[[str], str], expected: str) -> None:
    errors = errors_of(with_tree_text(change))
    assert any(expected in error for error in errors), errors
    assert all(error.startswith("tree ") and "/ in snapshot" in error for error in errors)


NODE_FAULTS: list[tuple[Node, str]] = [
    (a_node(b"n", mode=0o100644), "bits that are not Go's: 0o100000"),
    (a_node(b"n", mode=0o4755), "bits that are not Go's: 0o4000"),
    (a_node(b"n", NodeType.FIFO, mode=0o644), "not that of a fifo"),
    (a_node(b"n", mode=MODE_DIR | 0o755), "not that of a file"),
    (a_node(b"n", NodeType.DIR), "a dir has no subtree"),
    (a_node(b"n", NodeType.SYMLINK, linktarget=b""), "a symlink has no target"),
    (a_node(b"n", linktarget=b"x"), "a file has a link target"),
    (a_node(b"n", device=3), "a file has a device number"),
    (a_node(b"n", NodeType.SYMLINK, size=3), "a symlink has a size"),
    (a_node(b"n", size=3), "its size is 3, that of its blobs 0"),
    (a_node(b"n", content=(b"\1" * 32,), size=3), f"data blob {'01' * 32} is in no index file"),
]


@pytest.mark.parametrize(("node", "expected"), NODE_FAULTS)
def test_a_node_that_cannot_be_right_is_named(node: Node, expected: str) -> None:
    writer = a_writer()
    writer.snapshot(writer.tree(node))
    error = the_one_error(writer)
    assert expected in error
    assert "b'n'" in error


def test_content_of_what_is_no_file_and_raw_targets_that_are_text_are_named() -> None:
    def change(text: str) -> str:
        return text.replace('"content":null', '"content":[]').replace(
            '"linktarget":"target"', '"linktarget":"target","linktarget_raw":"dGFyZ2V0"'
        )

    errors = errors_of(with_tree_text(change, a_node(b"l", NodeType.SYMLINK, mode=MODE_SYMLINK | 0o777)))
    assert any("a symlink has content" in error for error in errors)
    assert any("linktarget_raw is only for" in error for error in errors)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"time": "2014-12-06T16:30:23.10Z"}, "is not written as Go does"),
        ({"paths": []}, "names no path"),
        ({"tags": ["<"]}, "not written as Go's encoding/json"),
        ({"tree": "ab"}, "tree is no SHA-256"),
        ({"time": 5}, "time is no string"),
    ],
)
def test_a_snapshot_that_is_not_as_restic_writes_it_is_named(change: dict[str, Any], expected: str) -> None:
    writer = a_writer()
    tree = writer.tree()
    fields = {"time": format_time(TIME_NS), "tree": tree.hex(), "paths": ["/"]} | change
    name = writer.raw_snapshot(json.dumps(fields, separators=(",", ":")).encode())
    error = the_one_error(writer)
    assert error.startswith(str(name))
    assert expected in error


def test_keys_of_a_snapshot_in_another_order_are_named() -> None:
    writer = a_writer()
    tree = writer.tree()
    writer.raw_snapshot(f'{{"tree":"{tree.hex()}","time":"{format_time(TIME_NS)}","paths":["/"]}}'.encode())
    assert "not in restic's order" in the_one_error(writer)


# Objects


def tamper(store: MemoryStore, name: ObjectName, change: Callable[[bytes], bytes]) -> None:
    store.objects[name] = change(store.objects[name])


def flip(position: int) -> Callable[[bytes], bytes]:
    def change(body: bytes) -> bytes:
        changed = bytearray(body)
        changed[position] ^= 1
        return bytes(changed)

    return change


def a_stored_file() -> tuple[VaultWriter, ObjectName, list[PackEntry]]:
    writer = a_writer()
    pack = writer.pack(BlobKind.DATA, [b"content" * 50, b"more"])
    writer.index.add_pack(pack)
    writer.snapshot(writer.tree(a_node(b"f", content=tuple(pack.ids), size=354)))
    return writer, pack.name, pack.entries


def test_a_missing_pack_is_named() -> None:
    writer, pack, _ = a_stored_file()
    del store_of(writer).objects[pack]
    assert the_one_error(writer) == f"{pack}: index files list it, but it is missing"


def test_a_flipped_bit_in_a_blob_is_found_when_data_is_read() -> None:
    writer, pack, entries = a_stored_file()
    tamper(store_of(writer), pack, flip(40))
    assert errors_of(writer) == []
    errors = errors_of(writer, read_data=True)
    assert [error.startswith(str(pack)) for error in errors] == [True, True]
    assert "another SHA-256 than its name" in errors[0]
    assert f"data blob {entries[0].id.hex()} is damaged" in errors[1]


@pytest.mark.parametrize("read_data", [False, True])
@pytest.mark.parametrize("change", [flip(-10), flip(-1), lambda body: body[:-5], lambda body: body[:40]])
def test_a_broken_header_is_found_always(change: Callable[[bytes], bytes], read_data: bool) -> None:
    writer, pack, _ = a_stored_file()
    tamper(store_of(writer), pack, change)
    errors = errors_of(writer, read_data=read_data)
    assert all(error.startswith(str(pack)) for error in errors)
    assert errors


def test_a_truncated_pack_is_told_by_its_size() -> None:
    writer, pack, _ = a_stored_file()
    tamper(store_of(writer), pack, lambda body: body[10:])
    assert any("bytes of blobs" in error for error in errors_of(writer))


def relisted(writer: VaultWriter, pack: ObjectName, entries: list[PackEntry]) -> None:
    """Replace all index files by one that lists `pack` with other entries."""
    writer.index.flush()
    store = store_of(writer)
    packs = [
        IndexedPack.of(bytes.fromhex(name.id), entries if name == pack else found)
        for name, found in writer.vault.index.packs()
    ]
    for info in list(writer.session.list(ObjectKind.INDEX)):
        del store.objects[info.name]
    writer.vault.save_unpacked(ObjectKind.INDEX, encode_index_file(IndexFile(packs)))


ENTRY_FAULTS: list[tuple[Callable[[list[PackEntry]], list[PackEntry]], str]] = [
    (lambda entries: entries[:1], "which no index file has"),
    (lambda entries: [entries[0]._replace(offset=1), entries[1]], "which its header has not"),
    (lambda entries: [entries[0]._replace(length=entries[0].length + 1), entries[1]], "which its header has not"),
    (lambda entries: [entries[0]._replace(uncompressed_length=349), entries[1]], "which its header has not"),
    (lambda entries: [*entries, entries[1]._replace(id=bytes(32))], "which its header has not"),
]


@pytest.mark.parametrize(("change", "expected"), ENTRY_FAULTS)
def test_an_index_that_differs_from_a_header_is_named(
    change: Callable[[list[PackEntry]], list[PackEntry]], expected: str
) -> None:
    writer, pack, entries = a_stored_file()
    relisted(writer, pack, change(entries))
    errors = errors_of(writer)
    assert any(error.startswith(str(pack)) and expected in error for error in errors), errors


def test_a_pack_that_is_listed_twice_or_without_blobs_is_named() -> None:
    writer, pack, entries = a_stored_file()
    identity = bytes.fromhex(pack.id)
    packs = [IndexedPack.of(identity, entries), IndexedPack.of(identity, entries), IndexedPack.of(bytes(32), [])]
    name = writer.vault.save_unpacked(ObjectKind.INDEX, encode_index_file(IndexFile(packs)))
    errors = errors_of(writer)
    assert f"{name}: pack {pack.id} is listed twice" in errors
    assert f"{name}: pack {'00' * 32} is listed without blobs" in errors


def test_an_index_file_that_cannot_be_read_is_named_and_so_is_what_it_hides() -> None:
    writer, _, _ = a_stored_file()
    (name,) = [info.name for info in writer.session.list(ObjectKind.INDEX)]
    tamper(store_of(writer), name, flip(20))
    errors = errors_of(writer)
    assert errors[0].startswith(f"{name}: ")
    assert any("tree" in error and "no index file lists it" in error for error in errors)


def test_an_index_file_that_is_not_as_go_writes_it_is_named() -> None:
    writer = a_writer()
    name = writer.vault.save_unpacked(ObjectKind.INDEX, b'{"packs": []}\n')
    assert the_one_error(writer) == f"{name}: it is not written as Go's encoding/json does"


@pytest.mark.parametrize(("version", "is_error"), [(1, False), (2, True)])
def test_data_and_trees_in_one_pack_are_named(version: int, is_error: bool) -> None:
    writer = a_writer(version=version)
    keys = writer.vault.keys
    data, tree = b"some data", encode_tree([])
    bodies = [keys.seal(data), keys.seal(tree)]
    entries = [
        PackEntry(blob_id(data), BlobKind.DATA, 0, len(bodies[0]), 0),
        PackEntry(blob_id(tree), BlobKind.TREE, len(bodies[0]), len(bodies[1]), 0),
    ]
    name = put_raw(store_of(writer), ObjectKind.PACK, b"".join(bodies) + encode_header(keys, entries))
    writer.index.add_pack(IndexedPack.of(bytes.fromhex(name.id), entries))
    writer.snapshot(blob_id(tree))
    assert problems_of(writer, read_data=True) == [Problem(str(name), "it holds data and tree blobs", is_error)]


def test_compression_in_version_1_is_named() -> None:
    writer = a_writer(version=1)
    writer.vault.config = replace(writer.vault.config, version=2)
    pack = writer.pack(BlobKind.DATA, [bytes(1000)])
    writer.vault.config = replace(writer.vault.config, version=1)
    writer.index.add_pack(pack)
    assert the_one_error(writer) == f"{pack.name}: it holds compressed blobs, which version 1 does not know"


def test_a_tree_that_is_missing_is_named_by_its_path() -> None:
    writer = a_writer()
    writer.snapshot(writer.tree(a_node(b"folder", NodeType.DIR, subtree=b"\1" * 32)))
    error = the_one_error(writer)
    assert error.startswith(f"tree {'01' * 32} (/folder/ in snapshot ")
    assert "no index file lists it" in error


def test_a_blob_of_the_wrong_kind_is_as_good_as_missing() -> None:
    writer = a_writer()
    (data,) = writer.blobs(BlobKind.DATA, encode_tree([]))
    writer.snapshot(data)
    assert "no index file lists it" in the_one_error(writer)


def test_a_snapshot_that_cannot_be_read_is_named() -> None:
    writer = a_writer()
    name = put_raw(store_of(writer), ObjectKind.SNAPSHOT, os.urandom(100))
    assert the_one_error(writer).startswith(f"{name}: ")


def test_a_lock_that_cannot_be_read_is_named() -> None:
    writer = a_writer()
    name = put_raw(store_of(writer), ObjectKind.LOCK, b"")
    assert the_one_error(writer).startswith(f"{name}: ")


# What costs space or speed only


def test_a_pack_in_no_index_file_is_noted_and_read_all_the_same() -> None:
    writer = a_writer()
    name = writer.pack(BlobKind.DATA, [b"orphan"]).name
    assert notes_of(writer) == [f"{name}: no index file lists it: retention will remove it"]


def test_what_is_stored_or_listed_more_than_once_is_noted() -> None:
    writer = a_writer()
    for _ in range(2):
        writer.index.add_pack(writer.pack(BlobKind.DATA, [b"twice", os.urandom(5)]))
    pack = writer.pack(BlobKind.DATA, [b"x"])
    writer.index.add_pack(pack)
    writer.index.flush()
    writer.vault.save_unpacked(ObjectKind.INDEX, encode_index_file(IndexFile([pack])))
    assert sorted(notes_of(writer)) == [
        f"{pack.name}: 2 index files list it",
        "index: 2 entries of blobs that lie in more than one place",
    ]
    assert errors_of(writer) == []


def test_an_exclusive_lock_is_noted() -> None:
    writer = a_writer()
    lock = Lock(time.time_ns(), exclusive=True, hostname="kasimir", username="fd0")
    name = writer.vault.save_unpacked(ObjectKind.LOCK, encode_lock(lock))
    (note,) = notes_of(writer)
    assert note.startswith(f"{name}: an exclusive lock of fd0@kasimir")


def test_trees_that_snapshots_share_are_named_once() -> None:
    writer = a_writer()
    tree = writer.tree(a_node(b"n", device=3))
    for user in (1, 2, 3):
        writer.snapshot(tree, uid=user)
    assert len(errors_of(writer)) == 1


@pytest.mark.parametrize("call", ["__init__", "add", "finish"])
def test_a_disk_without_room_for_lengths_changes_no_verdict(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    writer = a_writer()
    missing = a_node(b"missing", content=(b"\1" * 32,), size=1)
    wrong = replace(writer.file(b"wrong", b"content"), size=8)
    writer.snapshot(writer.tree(writer.file(b"right", b"more content"), missing, wrong))
    expected = errors_of(writer)
    assert len(expected) == 2
    monkeypatch.setattr(BlobFigures, call, full)
    assert errors_of(writer) == expected
