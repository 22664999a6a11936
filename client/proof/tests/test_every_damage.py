"""Whatever bit of whatever object changes, is cut off or gone: check names it, repair puts right what it can."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.errors import DamagedVault, ObjectMissing
from client.proof.repair import Repair
from client.stores.tests.memory import MemoryStore
from client.vault.blobs import BlobId, BlobKind
from client.vault.checker import Check
from client.vault.problems import Problem
from client.vault.repository import Vault, open_vault
from client.vault.tests.builders import PASSWORD, VaultWriter
from domain.names import CONFIG, SEAL, ObjectKind, ObjectName
from domain.sessions import Purpose

KINDS = (ObjectKind.SNAPSHOT, ObjectKind.INDEX, ObjectKind.PACK)
Files = dict[bytes, bytes]


def a_vault_in_memory(cache: Path) -> MemoryStore:
    """Three snapshots with files in common, packs of several blobs, and two index files."""
    store = MemoryStore(needs_locks=True)
    writer = VaultWriter(store, cache=cache)
    for number in range(3):
        files = [writer.file(b"f%d" % one, b"content %d" % one * 50, b"more %d" % one) for one in range(number + 1)]
        folder = writer.folder(b"sub", *files[:2])
        writer.snapshot(writer.tree(folder, *files), tags=(str(number),))
    writer.finish().close()
    return store


def files_of(vault: Vault, tree: BlobId, path: bytes = b"/") -> Files:
    """The files of a snapshot that open, with their content."""
    found: Files = {}
    try:
        nodes = vault.load_tree(tree)
    except (DamagedVault, ObjectMissing):
        return found
    for node in nodes:
        if node.subtree is not None:
            found |= files_of(vault, node.subtree, path + node.name + b"/")
        elif node.content is not None:
            try:
                found[path + node.name] = b"".join(vault.load_blob(BlobKind.DATA, blob) for blob in node.content)
            except (DamagedVault, ObjectMissing):
                continue
    return found


def checked(store: MemoryStore, cache: Path) -> list[Problem]:
    with store.open(Purpose.READ) as session, open_vault(session, PASSWORD, cache) as vault:
        with Check(vault, read_data=True) as checking:
            problems = [problem for problem in checking.problems() if problem.is_error]
            assert not list(checking.touches()) or problems
        return problems


def left_of(store: MemoryStore, cache: Path) -> Iterator[tuple[str, Files]]:
    """What opens of each snapshot that can be read, by its tag."""
    with store.open(Purpose.READ) as session, open_vault(session, PASSWORD, cache) as vault:
        for snapshot in vault.snapshots(lambda *_: None):
            yield snapshot.tags[0], files_of(vault, snapshot.tree)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.integers(0, 20),
    st.sampled_from(("flip", "cut", "remove")),
    st.floats(0, 0.9999),
    st.integers(0, 7),
)
def test_it_is_found_and_named_and_repaired(kind: ObjectKind, number: int, way: str, part: float, bit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        store = a_vault_in_memory(cache)
        whole = dict(left_of(store, cache))
        victims = [name for name in store.objects if name.kind is kind]  # as they were stored
        victim = victims[number % len(victims)]
        harm(store, victim, way, part, bit)
        found = checked(store, cache)
        if kind is ObjectKind.PACK or way != "remove":
            assert str(victim) in {problem.name for problem in found}
        opens = dict(left_of(store, cache))
        with (
            store.open(Purpose.RETENTION) as session,
            open_vault(session, PASSWORD, cache) as vault,
            Repair(vault) as repair,
        ):
            repair.look()
            repair.carry_out(forgets=True)
        assert checked(store, cache) == []
        left = dict(left_of(store, cache))
        for tag, files in left.items():
            assert files == {path: whole[tag][path] for path in files}  # nothing is other than it was
            assert files.items() >= opens[tag].items()  # and nothing that opened is lost
        hopeless = {tag for tag in opens if tag not in left}
        assert all(not opens[tag] for tag in hopeless)
        if kind is ObjectKind.INDEX:
            assert left == whole  # the packs have it all


def harm(store: MemoryStore, victim: ObjectName, way: str, part: float, bit: int) -> None:
    body = bytearray(store.objects[victim])
    at = int(part * len(body))
    if way == "remove":
        del store.objects[victim]
        return
    if way == "cut":
        del body[at:]
    else:
        body[at] ^= 1 << bit
    store.objects[victim] = bytes(body)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from((CONFIG, None)), st.floats(0, 0.9999), st.integers(0, 7))
def test_a_vault_whose_config_or_only_key_is_damaged_does_not_open(
    name: ObjectName | None, part: float, bit: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = a_vault_in_memory(Path(folder))
        victim = name or next(one for one in store.objects if one.kind is ObjectKind.KEY)
        harm(store, victim, "flip", part, bit)
        with store.open(Purpose.READ) as session, pytest.raises(DamagedVault) as error:
            open_vault(session, PASSWORD)
        assert str(victim) in str(error.value)
    assert SEAL in store.objects  # which Place.seal_problems looks at, and nothing else needs
