"""What cannot be read, or is missing: nothing goes that anything might need, and it is said."""

from collections.abc import Callable, Iterator, Mapping

import pytest

from client.reachability.tests.a_history import AS_IT_IS, History, chunk, copied, store_blobs
from client.retention.prune import PruneLimits
from client.stores.abc import ObjectInfo
from client.stores.tests.memory import MemoryStore
from client.testing.faults import OneCopyAltered, SessionAround
from client.vault.blobs import BlobKind, blob_id
from client.vault.index import IndexWriter
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose


def objects_of(history: History) -> dict[ObjectName, bytes]:
    assert isinstance(history.store, MemoryStore)
    return history.store.objects


def flip(body: bytes) -> bytes:
    return bytes(byte ^ 1 if at % 50 == 0 else byte for at, byte in enumerate(body))


def a_history() -> History:
    history = History()
    first = history.backup({"a/1": range(40), "a/2": [1, 2]})
    assert first is not None
    history.backup({"a/1": range(0, 40, 3), "b/1": range(50, 60)})
    history.forget(first)
    return history


def packs_of(history: History, kind: BlobKind) -> list[ObjectName]:
    """Packs that hold something needed."""
    needed = set(history.needed())
    with history.opened() as vault:
        return [
            name
            for name, entries in vault.index.packs()
            if entries[0].kind is kind and any(entry.id in needed for entry in entries)
        ]


DAMAGES: Mapping[str, Callable[[bytes], bytes | None]] = {
    "altered": flip,
    "cut short": lambda body: body[: len(body) // 2],
    "missing": lambda _: None,
}


@pytest.mark.parametrize(
    ("victim", "way"),
    [
        *(("snapshot", way) for way in ("altered", "cut short")),  # one that is missing was removed
        *(("index file", way) for way in DAMAGES),
        *(("tree pack", way) for way in DAMAGES),
        *(("data pack", way) for way in ("cut short", "missing")),  # what one holds decides nothing: see below
    ],
)
def test_nothing_goes_while_what_decides_cannot_be_read(victim: str, way: str) -> None:
    history = a_history()
    name = {
        "snapshot": lambda: min(history.names(ObjectKind.SNAPSHOT)),
        "index file": lambda: min(history.names(ObjectKind.INDEX)),
        "tree pack": lambda: packs_of(history, BlobKind.TREE)[0],
        "data pack": lambda: packs_of(history, BlobKind.DATA)[0],
    }[victim]()
    objects = objects_of(history)
    body = DAMAGES[way](objects.pop(name))
    if body is not None:
        objects[name] = body
    before = dict(objects)

    report = history.prune(AS_IT_IS)

    assert objects == before
    assert (report.removed_packs, report.new_packs, report.freed_bytes) == (0, 0, 0)
    assert report.problems.count == len(report.problems.named) > 0
    named = victim in ("snapshot", "index file") and body is not None
    told = report.problems.named
    assert any(str(name) in problem if named else "blob" in problem or "tree" in problem for problem in told)


def test_a_pack_that_is_gone_and_not_needed_stops_nothing() -> None:
    history = a_history()
    history.prune(AS_IT_IS)
    extra = history.backup({"extra": range(300, 310)})
    assert extra is not None
    history.forget(extra)
    with history.opened() as vault:
        (gone, *_) = vault.index.packs_of(BlobKind.DATA, blob_id(chunk(300)))
    del objects_of(history)[gone]
    assert history.problems(errors=True) != []

    report = history.prune(AS_IT_IS)

    assert not report.problems
    assert history.problems() == []
    assert history.is_whole()


def test_a_pack_with_a_blob_that_cannot_be_read_is_not_repacked_and_is_named() -> None:
    history = a_history()
    with history.opened() as vault:
        (place,) = vault.index.find_all(BlobKind.DATA, blob_id(chunk(3)))
    objects = objects_of(history)
    body, at = bytearray(objects[place.pack]), place.entry.offset + 20
    body[at] ^= 1
    objects[place.pack] = bytes(body)

    report = history.prune(AS_IT_IS)

    assert place.pack in history.names(ObjectKind.PACK)
    assert [named.partition(":")[0] for named in report.damaged.named] == [str(place.pack)]
    assert blob_id(chunk(3)).hex() in report.damaged.named[0]
    assert report.repacked_packs > 0
    assert {problem.partition(":")[0] for problem in history.problems(errors=True)} == {str(place.pack)}
    again = history.prune(AS_IT_IS)
    assert again.damaged.named == report.damaged.named
    assert (again.removed_packs, again.new_packs) == (0, 0)


def test_of_a_store_with_an_altered_copy_the_other_is_read() -> None:
    history = a_history()
    report = history.prune(AS_IT_IS, around=OneCopyAltered)
    assert not report.problems
    assert not report.damaged
    assert history.problems() == []
    assert history.blobs() == history.needed()
    assert history.is_whole()


@pytest.mark.parametrize("rotten", [0, 1, 2])
def test_of_several_copies_one_is_kept_that_was_read(rotten: int) -> None:
    """Three packs hold the same blobs, two of them altered: which one is whole, no index file tells."""
    history = History()
    history.backup({"a": range(6)}, pack_blobs=6)
    for _ in range(2):
        history.backup({"a": range(6)}, pack_blobs=6, knows=False, steps=2)
    with history.opened() as vault:
        packs = sorted(vault.index.packs_of(BlobKind.DATA, blob_id(chunk(0))))
    assert len(packs) == 3
    objects = objects_of(history)
    for number, pack in enumerate(packs):
        if number != rotten:
            objects[pack] = flip(objects[pack])

    report = history.prune(AS_IT_IS)

    assert not report.problems
    assert history.names(ObjectKind.PACK) & set(packs) == {packs[rotten]}
    assert history.problems() == []
    assert history.is_whole()


def test_where_no_copy_can_be_read_nothing_goes() -> None:
    history = History()
    history.backup({"a": range(6)}, pack_blobs=6)
    history.backup({"a": range(6)}, pack_blobs=6, knows=False, steps=2)
    objects = objects_of(history)
    with history.opened() as vault:
        for pack in vault.index.packs_of(BlobKind.DATA, blob_id(chunk(0))):
            objects[pack] = flip(objects[pack])
    before = dict(objects)
    report = history.prune(AS_IT_IS)
    assert "none of its 2 copies" in report.problems.named[0]
    assert objects == before


def test_the_same_copy_is_kept_whatever_order_index_files_are_read_in() -> None:
    history = History()
    history.backup({"a": range(30)}, pack_blobs=5)
    history.backup({"a": range(30)}, pack_blobs=3, knows=False, steps=2)
    history.backup({"b": range(15, 45)}, pack_blobs=7, knows=False)

    class Reversed(SessionAround):
        def list(self, kind: ObjectKind) -> Iterator[ObjectInfo]:
            found = [*super().list(kind)]
            return iter(found if kind is ObjectKind.PACK else found[::-1])

    one, other = copied(history), copied(history)
    limits = PruneLimits(unused_share=0.9, small_pack=0)
    one.prune(limits)
    other.prune(limits, around=Reversed)
    assert one.names(ObjectKind.PACK) == other.names(ObjectKind.PACK)
    assert one.is_whole()
    assert other.is_whole()


def test_a_data_blob_that_has_the_id_of_a_tree_is_no_substitute_for_it() -> None:
    """A file may hold the bytes of a tree: the same id, another kind, another seal."""
    history = History()
    history.backup({"a/1": range(3)})
    with history.opened(Purpose.BACKUP) as vault:
        writer = IndexWriter(vault.index, vault)
        (snapshot,) = vault.snapshots()
        tree = snapshot.tree
        store_blobs(vault, writer, BlobKind.DATA, [vault.load_blob(BlobKind.TREE, tree)], pack_blobs=1)
        writer.flush()
    history.prune(AS_IT_IS)
    assert history.problems() == []
    assert history.is_whole()
    assert history.blobs() == history.needed()
