import json
import os
from pathlib import Path

import pytest

from client.errors import DamagedVault, NoSuchSnapshot, ObjectMissing, WrongRepositoryPassword
from client.stores.tests.memory import MemoryStore
from client.testing.faults import OneCopyAltered
from client.vault.blobs import BlobKind
from client.vault.checker import check
from client.vault.keys import DataKeys, create_key_file
from client.vault.nodes import encode_tree
from client.vault.polynomial import is_irreducible
from client.vault.repository import create_vault, encode_config, open_unpacked, open_vault, seal_unpacked
from client.vault.snapshots import Snapshot
from client.vault.tests.builders import KEYS, PASSWORD, TIME_NS, VaultWriter, a_node, a_writer, put_raw
from client.vault.trees import TreeReader
from domain.names import CONFIG, SEAL, ObjectKind, ObjectName
from domain.sessions import Purpose


def test_a_new_vault_opens_with_its_password_and_no_other() -> None:
    store = MemoryStore()
    session = store.open(Purpose.BACKUP)
    created = create_vault(session, PASSWORD, b"sealed E")
    assert created is not None
    opened = open_vault(session, PASSWORD)
    assert (opened.keys, opened.config) == (created.keys, created.config)
    assert opened.config.version == 2
    assert is_irreducible(opened.config.chunker_polynomial)
    assert store.objects[SEAL] == b"sealed E"
    with pytest.raises(WrongRepositoryPassword):
        open_vault(session, "other")


def test_key_files_of_an_initialisation_that_was_broken_off_are_passed_over() -> None:
    store = MemoryStore()
    session = store.open(Purpose.BACKUP)
    created = create_vault(session, PASSWORD)
    assert created is not None
    for _ in range(4):  # some of them come before the vault's own by their names
        stray = create_key_file(PASSWORD, DataKeys.random())
        session.put(ObjectName.of(ObjectKind.KEY, stray), stray)
    assert open_vault(session, PASSWORD).keys == created.keys


def test_a_vault_is_created_once() -> None:
    session = MemoryStore().open(Purpose.BACKUP)
    assert create_vault(session, PASSWORD) is not None
    assert create_vault(session, "other") is None
    open_vault(session, PASSWORD)


def test_where_there_is_no_vault_that_is_said() -> None:
    with pytest.raises(ObjectMissing):
        open_vault(MemoryStore().open(Purpose.READ), PASSWORD)


def test_two_vaults_share_no_keys() -> None:
    one, two = (create_vault(MemoryStore().open(Purpose.BACKUP), PASSWORD) for _ in range(2))
    assert one is not None
    assert two is not None
    assert one.keys != two.keys
    assert one.config.id != two.config.id


@pytest.mark.parametrize("version", [1, 2])
def test_what_was_stored_is_loaded_in_another_session(version: int) -> None:
    writer = a_writer(version=version)
    file = writer.file(b"file", b"first" * 1000, b"second")
    root = writer.tree(file, writer.folder(b"folder", a_node(b"empty")))
    name = writer.snapshot(root, tags=("oort:item=i",))
    vault = writer.finish()
    assert vault.config.version == version
    (snapshot,) = vault.snapshots()
    assert snapshot == Snapshot(TIME_NS, root, ("/home",), "kasimir", "fd0", tags=("oort:item=i",), id=name.id)
    nodes = vault.load_tree(snapshot.tree)
    assert nodes[0] == file
    assert [vault.load_blob(BlobKind.DATA, blob) for blob in nodes[0].content or ()] == [b"first" * 1000, b"second"]
    assert nodes[1].subtree is not None
    assert vault.load_tree(nodes[1].subtree) == [a_node(b"empty")]
    assert vault.find_snapshot(name.id[:5]) == snapshot
    with pytest.raises(NoSuchSnapshot):
        vault.find_snapshot("zz")
    vault.close()


def test_unpacked_files_are_compressed_from_version_2_on() -> None:
    document = b'{"packs":[' + b" " * 5000 + b"]}"
    name, body = seal_unpacked(KEYS, 2, ObjectKind.INDEX, document)
    assert ObjectName.of(ObjectKind.INDEX, body) == name
    assert KEYS.open(body)[0] == 2
    assert len(body) < 200
    assert KEYS.open(seal_unpacked(KEYS, 1, ObjectKind.INDEX, document)[1]) == document
    assert open_unpacked(KEYS, body, "index") == open_unpacked(KEYS, KEYS.seal(document), "index") == document


@pytest.mark.parametrize("plaintext", [b"", b"\1{}", b"\2rubbish", b"x"])
def test_an_encoding_that_is_not_known_is_damaged(plaintext: bytes) -> None:
    with pytest.raises(DamagedVault):
        open_unpacked(KEYS, KEYS.seal(plaintext), "index")


def test_a_blob_is_taken_from_another_pack_when_the_first_has_lost_it() -> None:
    writer = a_writer()
    packs = []
    for _ in range(3):
        pack = writer.pack(BlobKind.DATA, [b"precious", os.urandom(10)])
        writer.index.add_pack(pack)
        packs.append(pack.name)
    vault = writer.finish()
    store = writer.store
    assert isinstance(store, MemoryStore)
    damaged = bytearray(store.objects[packs[0]])
    damaged[20] ^= 1
    store.objects[packs[0]] = bytes(damaged)
    del store.objects[packs[1]]
    identity = vault.index.entries_of_pack(packs[2])[0].id
    assert vault.load_blob(BlobKind.DATA, identity) == b"precious"
    del store.objects[packs[2]]
    with pytest.raises((DamagedVault, ObjectMissing)):
        vault.load_blob(BlobKind.DATA, identity)
    vault.close()


def test_what_one_altered_copy_spoils_is_read_from_the_other() -> None:
    writer = a_writer()
    file = writer.file(b"file", b"precious" * 1000)
    writer.snapshot(writer.tree(file))
    with writer.finish() as before:
        session = OneCopyAltered(before.session)
        with before.in_session(session) as vault:
            (snapshot,) = vault.snapshots()
            assert vault.load_tree(snapshot.tree) == [file]
            assert TreeReader(vault).load(snapshot.tree) == [file]
            assert vault.load_blob(BlobKind.DATA, (file.content or ())[0]) == b"precious" * 1000
            assert [*check(vault), *check(vault, read_data=True)] == []
    assert session.altered


def test_a_pack_of_which_no_copy_is_whole_is_fetched_whole_once() -> None:
    writer = a_writer()
    blobs = writer.blobs(BlobKind.DATA, *(b"%d" % number * 1000 for number in range(5)))
    vault = writer.finish()
    store = writer.store
    assert isinstance(store, MemoryStore)
    (pack,) = vault.index.packs_of(BlobKind.DATA, blobs[0])
    store.objects[pack] = bytes(byte ^ 1 for byte in store.objects[pack])
    session = OneCopyAltered(vault.session)
    with vault.in_session(session) as vault:
        for blob in blobs:
            with pytest.raises(DamagedVault, match=blob.hex()):
                vault.load_blob(BlobKind.DATA, blob)
    assert session.whole == [pack]


def test_a_blob_that_no_index_file_lists_is_named() -> None:
    vault = a_writer().finish()
    with pytest.raises(DamagedVault, match=f"data blob {'00' * 32}.*no index file"):
        vault.load_blob(BlobKind.DATA, bytes(32))
    vault.close()


def test_a_snapshot_that_cannot_be_read_is_told_and_the_others_are_listed() -> None:
    writer = a_writer()
    good = writer.snapshot(writer.tree())
    store = writer.store
    assert isinstance(store, MemoryStore)
    bad = put_raw(store, ObjectKind.SNAPSHOT, b"rubbish" * 20)
    vault = writer.finish()
    with pytest.raises(DamagedVault):
        vault.snapshots()
    told: list[ObjectName] = []
    assert [snapshot.id for snapshot in vault.snapshots(lambda name, _: told.append(name))] == [good.id]
    assert told == [bad]
    assert vault.find_snapshot("latest").id == good.id
    vault.close()


def test_an_object_under_another_name_is_damaged() -> None:
    writer = a_writer()
    name = writer.snapshot(writer.tree())
    store = writer.store
    assert isinstance(store, MemoryStore)
    other = ObjectName(ObjectKind.SNAPSHOT, "ab" * 32)
    store.objects[other] = store.objects[name]
    vault = writer.finish()
    with pytest.raises(DamagedVault, match="SHA-256"):
        vault.load_snapshot(other)
    vault.close()


def test_a_damaged_key_file_does_not_hide_a_good_one() -> None:
    writer = a_writer()
    writer.finish().close()
    store = writer.store
    assert isinstance(store, MemoryStore)
    put_raw(store, ObjectKind.KEY, b"rubbish")
    session = store.open(Purpose.READ)
    assert open_vault(session, PASSWORD).keys == writer.vault.keys
    with pytest.raises(DamagedVault):
        open_vault(session, "other")


@pytest.mark.parametrize("change", [{"version": 3}, {"chunker_polynomial": "2"}, {"chunker_polynomial": "?"}])
def test_a_config_that_cannot_be_trusted_is_damaged(change: dict[str, object]) -> None:
    writer = a_writer()
    document = json.loads(encode_config(writer.vault.config)) | change
    store = writer.store
    assert isinstance(store, MemoryStore)
    store.objects[CONFIG] = writer.vault.keys.seal(json.dumps(document).encode())
    with pytest.raises(DamagedVault, match="config"):
        open_vault(writer.session, PASSWORD)


def test_the_index_of_each_vault_has_a_cache_of_its_own(tmp_path: Path) -> None:
    for _ in range(2):
        writer = VaultWriter(MemoryStore(), cache=tmp_path)
        tree = writer.tree()
        writer.index.flush()
        with writer.vault.in_session(writer.store.open(Purpose.READ)) as vault:
            assert vault.load_tree(tree) == []
            assert (tmp_path / vault.config.id).is_dir()
        writer.vault.close()
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 2


def test_another_session_asks_anew_which_index_files_there_are() -> None:
    writer = a_writer()
    before = writer.vault.in_session(writer.store.open(Purpose.READ))
    assert before.index.files == ()
    tree = writer.tree(a_node(b"x"))
    writer.index.flush()
    assert before.index.find(BlobKind.TREE, tree) is None
    with before.in_session(writer.store.open(Purpose.READ)) as after:
        assert after.load_blob(BlobKind.TREE, tree) == encode_tree([a_node(b"x")])
    before.close()
    writer.finish().close()
