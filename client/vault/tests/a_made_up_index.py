"""Index files of a vault that there is not."""

import os

from client.vault.blobs import BlobId, BlobKind, PackEntry
from client.vault.index import Index
from client.vault.index_files import IndexedPack, IndexFile, decode_index_file
from domain.names import ObjectKind, ObjectName

Pack = tuple[ObjectName, list[PackEntry]]


def an_entry(offset: int = 0, kind: BlobKind = BlobKind.DATA, identity: BlobId | None = None) -> PackEntry:
    return PackEntry(identity or os.urandom(32), kind, offset, 100, 500)


def a_pack(*entries: PackEntry) -> Pack:
    name = ObjectName(ObjectKind.PACK, os.urandom(32).hex())
    return name, list(entries) or [an_entry(100 * number) for number in range(3)]


def indexed(pack: Pack) -> IndexedPack:
    return IndexedPack.of(bytes.fromhex(pack[0].id), pack[1])


class Files:
    """Index files of a made-up vault; counts how often one is read."""

    def __init__(self, *files: list[Pack]) -> None:
        self.files: dict[ObjectName, IndexFile] = {}
        self.reads = 0
        self.session_number = 0
        self.declared: list[list[ObjectName]] = []
        self.failure: Exception | None = None
        for packs in files:
            self.add(packs)

    def add(self, packs: list[Pack]) -> ObjectName:
        name = ObjectName(ObjectKind.INDEX, os.urandom(32).hex())
        self.files[name] = IndexFile([indexed(pack) for pack in packs])
        return name

    def list_index_files(self) -> list[ObjectName]:
        return list(self.files)

    def read_index_file(self, name: ObjectName) -> IndexFile:
        self.reads += 1
        return self.files[name]

    def save_unpacked(self, kind: ObjectKind, plaintext: bytes, packs: object = ()) -> ObjectName:
        if self.failure:
            raise self.failure
        assert kind is ObjectKind.INDEX
        self.declared.append(list(packs))  # type: ignore[call-overload]
        name = ObjectName.of(kind, plaintext)
        self.files[name] = decode_index_file(plaintext, str(name))
        return name


def found_all(index: Index, *packs: Pack) -> bool:
    return all(index.find(BlobKind.DATA, entry.id) == (name, entry) for name, entries in packs for entry in entries)
