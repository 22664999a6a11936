"""Vaults, nodes and snapshots for tests."""

import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from client.stores.abc import ObjectStore, StoreSession
from client.stores.tests.memory import MemoryStore
from client.vault.blobs import BlobId, BlobKind, blob_id
from client.vault.index import IndexWriter
from client.vault.index_files import IndexedPack
from client.vault.keys import DataKeys
from client.vault.modes import NodeType, go_mode
from client.vault.nodes import Node, encode_tree
from client.vault.packs import PackBuilder
from client.vault.repository import Vault, create_vault, open_vault
from client.vault.sealing import seal_batch
from client.vault.snapshots import Snapshot, encode_snapshot
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose

PASSWORD = "5e" * 32
TIME_NS = 1_417_883_423_345_135_380
KEYS = DataKeys(bytes(range(32)), bytes(range(32, 48)), bytes(range(48, 64)))


def a_node(name: bytes, kind: NodeType = NodeType.FILE, **fields: object) -> Node:
    """A node that is right unless `fields` make it wrong."""
    mode = {
        NodeType.FILE: 0o100644,
        NodeType.DIR: 0o040755,
        NodeType.SYMLINK: 0o120777,
        NodeType.DEV: 0o060660,
        NodeType.CHARDEV: 0o020666,
        NodeType.FIFO: 0o010644,
        NodeType.SOCKET: 0o140755,
    }[kind]
    usual: dict[str, object] = {
        "mode": go_mode(mode),
        "mtime_ns": TIME_NS,
        "atime_ns": TIME_NS,
        "ctime_ns": TIME_NS,
        "uid": os.getuid(),
        "gid": os.getgid(),
        "user": "fd0",
        "inode": 7,
        "links": 0 if kind is NodeType.DIR else 1,
    }
    if kind is NodeType.FILE:
        usual["content"] = ()
    if kind is NodeType.SYMLINK:
        usual["linktarget"] = b"target"
    return Node(name=name, type=kind, **(usual | fields))  # type: ignore[arg-type]


class VaultWriter:
    """Writes packs, index files and snapshots step by step, so that a test can do any of them wrong."""

    def __init__(self, store: ObjectStore, *, version: int = 2, cache: Path | None = None) -> None:
        self.store = store
        self.session: StoreSession = store.open(Purpose.BACKUP)
        vault = create_vault(self.session, PASSWORD, b"seal", cache=cache, version=version)
        assert vault is not None
        self.vault: Vault = vault
        self.index = IndexWriter(vault.index, vault)

    def pack(self, kind: BlobKind, plaintexts: Sequence[bytes]) -> IndexedPack:
        builder = PackBuilder(self.vault.keys, kind)
        for blob in seal_batch(self.vault.keys, kind, plaintexts, version=self.vault.config.version):
            builder.add(blob)
        pack, body = builder.finish()
        self.session.put(pack.name, body)
        return pack

    def blobs(self, kind: BlobKind, *plaintexts: bytes) -> list[BlobId]:
        """Store blobs in a pack of their own, listed by the next index file."""
        self.index.add_pack(self.pack(kind, plaintexts))
        return [blob_id(plaintext) for plaintext in plaintexts]

    def file(self, name: bytes, *chunks: bytes, **fields: Any) -> Node:
        content = tuple(self.blobs(BlobKind.DATA, *chunks)) if chunks else ()
        return a_node(name, content=content, size=sum(map(len, chunks)), **fields)

    def tree(self, *nodes: Node) -> BlobId:
        return self.raw_tree(encode_tree(nodes))

    def raw_tree(self, body: bytes) -> BlobId:
        return self.blobs(BlobKind.TREE, body)[0]

    def folder(self, name: bytes, *nodes: Node, **fields: Any) -> Node:
        return a_node(name, NodeType.DIR, subtree=self.tree(*nodes), **fields)

    def snapshot(self, tree: BlobId, **fields: object) -> ObjectName:
        snapshot = Snapshot(TIME_NS, tree, ("/home",), "kasimir", "fd0", **fields)  # type: ignore[arg-type]
        return self.raw_snapshot(encode_snapshot(snapshot))

    def raw_snapshot(self, body: bytes) -> ObjectName:
        self.index.flush()
        name, sealed = self.vault.seal_unpacked(ObjectKind.SNAPSHOT, body)
        self.session.commit(name, sealed)
        return name

    def finish(self) -> Vault:
        """The vault as the next session finds it."""
        self.index.flush()
        self.vault.close()
        self.session.close()
        return open_vault(self.store.open(Purpose.READ), PASSWORD)


def a_writer(*, version: int = 2, needs_locks: bool = False) -> VaultWriter:
    return VaultWriter(MemoryStore(needs_locks=needs_locks), version=version)


def put_raw(store: MemoryStore, kind: ObjectKind, body: bytes) -> ObjectName:
    name = ObjectName(kind, sha256(body).hexdigest())
    store.objects[name] = body
    return name
