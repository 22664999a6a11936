"""A vault of millions of blobs that takes minutes to make and little room, for measuring what its index costs.

Kept true: to a reader it is like any other vault - every pack, index file, tree and snapshot is written by the vault
engine's own code, every blob opens, every blob is reached from the snapshot, and `restic check` passes. Only the
blobs are small: 16 bytes each where others have a mebibyte. What is written is not synced, as nothing depends on it.
"""

import multiprocessing
import os
import secrets
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from multiprocessing.pool import Pool
from pathlib import Path

from client.stores.local import LocalStore
from client.vault.blobs import BlobId, BlobKind, Buffer, blob_id
from client.vault.index_files import IndexedPack, IndexFile, encode_index_file
from client.vault.keys import DataKeys
from client.vault.modes import NodeType, go_mode
from client.vault.nodes import Node, encode_tree
from client.vault.packs import PackBuilder
from client.vault.repository import create_vault, seal_unpacked
from client.vault.sealing import seal_batch
from client.vault.snapshots import Snapshot, encode_snapshot
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose

_FILE_BLOBS = 100
_FOLDER_FILES = 100
_FOLDER_BLOBS = _FILE_BLOBS * _FOLDER_FILES
_INDEX_BLOBS = 40_000
_TREES = 16  # folders in one pack
_UNCOMPRESSED = 1  # the version that seals blobs as they are, which version 2 takes too
_VERSION = 2
_PLAINTEXT = struct.Struct(">QQ")
_TIME_NS = 1_767_355_200_000_000_000

SMALLEST = _FOLDER_BLOBS
_ONE_FILE = "/folder-000000/file-00"


@dataclass(frozen=True, slots=True)
class LargeVault:
    """Where it is and how it is opened; `index_bytes` are in `index_files` files, `packs` counts those of data.

    `later` is the second snapshot, if there is one; `file` the path of one file of the first, with its content.
    """

    path: Path
    repository_password: str
    snapshot: str
    later: str
    file: tuple[str, bytes]
    blobs: int
    packs: int
    index_files: int
    index_bytes: int


@dataclass(frozen=True, slots=True)
class Shape:
    """`pack_blobs` lie in a pack, those of a file side by side or, `interleaved`, one of each file of a folder.

    `later` says which files of a folder, by the folder's number, a second snapshot has; without it there is none.
    """

    pack_blobs: int = 16  # a pack of 16 MiB holds as many chunks of a mebibyte
    interleaved: bool = False
    later: Callable[[int], range] | None = None  # a function of a module, so that other processes can be sent it


_SHAPE = Shape()


@dataclass(frozen=True, slots=True)
class _Place:
    """What every process needs to write a part of the vault."""

    path: Path
    keys: DataKeys
    seed: int
    shape: Shape

    def __reduce__(self) -> tuple[Callable[..., "_Place"], tuple[object, ...]]:
        keys = self.keys.encrypt, self.keys.mac_k, self.keys.mac_r
        return _Place.unpacked, (self.path, keys, self.seed, self.shape)

    @classmethod
    def unpacked(cls, path: Path, keys: tuple[bytes, bytes, bytes], seed: int, shape: Shape) -> "_Place":
        """What another process was sent."""
        return cls(path, DataKeys(*keys), seed, shape)


def make_large_vault(path: Path, blobs: int, shape: Shape = _SHAPE) -> LargeVault:
    """Make a vault with one snapshot of `blobs` data blobs, a multiple of SMALLEST, in a folder that is not there."""
    if not blobs or blobs % SMALLEST:
        raise ValueError(f"{blobs} blobs do not fill folders of {SMALLEST}")
    password = secrets.token_hex(32)
    with LocalStore(path).open(Purpose.BACKUP) as session:
        vault = create_vault(session, password)
        if vault is None:
            raise FileExistsError(path)
        vault.close()
    place = _Place(path, vault.keys, secrets.randbits(63), shape)
    parts = [range(first, min(first + _INDEX_BLOBS, blobs)) for first in range(0, blobs, _INDEX_BLOBS)]
    folders = blobs // _FOLDER_BLOBS
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        sizes = pool.starmap(_write_data, [(place, part) for part in parts], chunksize=1)
        snapshot, size = _write_snapshot(place, pool, folders)
        sizes.append(size)
        later = ""
        if shape.later is not None:
            later, size = _write_snapshot(place, pool, folders, shape.later)
            sizes.append(size)
    file = _ONE_FILE, b"".join(_plaintexts(place, range(_FILE_BLOBS)))
    return LargeVault(
        path, password, snapshot, later, file, blobs, -(-blobs // shape.pack_blobs), len(sizes), sum(sizes)
    )


def _every_file(folder: int) -> range:  # noqa: ARG001 - as what `Shape.later` says
    return range(_FOLDER_FILES)


def _write_snapshot(
    place: _Place, pool: Pool, folders: int, files: Callable[[int], range] = _every_file
) -> tuple[str, int]:
    """A snapshot's trees, the index file that lists them, and itself: its id, and the size of the index file."""
    batches = [range(first, min(first + _TREES, folders)) for first in range(0, folders, _TREES)]
    trees = pool.starmap(_write_folders, [(place, batch, files) for batch in batches], chunksize=1)
    packs = [pack for pack, _ in trees if pack]
    ids = enumerate(tree for _, part in trees for tree in part)
    root = encode_tree(_node(f"folder-{number:06d}", NodeType.DIR, subtree=tree) for number, tree in ids if tree)
    packs.append(_write_pack(place, BlobKind.TREE, [root]))
    size = _write_index(place, packs)
    snapshot = Snapshot(_TIME_NS + (files is not _every_file), blob_id(root), ("/",), "machine", "anna")
    name, _ = _write_unpacked(place, ObjectKind.SNAPSHOT, encode_snapshot(snapshot))
    return name.id, size


def _write_data(place: _Place, part: range) -> int:
    """Packs of data blobs and the one index file that lists them, of which the size is answered."""
    plaintexts = _plaintexts(place, _interleaved(part) if place.shape.interleaved else part)
    packs = []
    while batch := list(islice(plaintexts, place.shape.pack_blobs)):
        packs.append(_write_pack(place, BlobKind.DATA, batch, version=_UNCOMPRESSED))
    return _write_index(place, packs)


def _interleaved(part: range) -> Iterator[int]:
    """The blobs of each folder, first the first of every file."""
    for folder in range(part.start, part.stop, _FOLDER_BLOBS):
        for at in range(folder, folder + _FILE_BLOBS):
            yield from range(at, folder + _FOLDER_BLOBS, _FILE_BLOBS)


def _write_folders(
    place: _Place, folders: range, files: Callable[[int], range]
) -> tuple[IndexedPack | None, list[BlobId | None]]:
    """A pack with the trees of some folders; None for a folder without files, and without a tree that is new."""
    trees = {folder: _folder(place, folder, files(folder)) for folder in folders if files(folder)}
    new = [tree for folder, tree in trees.items() if files is _every_file or files(folder) != _every_file(folder)]
    pack = _write_pack(place, BlobKind.TREE, new) if new else None
    return pack, [blob_id(trees[folder]) if folder in trees else None for folder in folders]


def _folder(place: _Place, folder: int, files: range) -> bytes:
    nodes = []
    for file in files:
        first = folder * _FOLDER_BLOBS + file * _FILE_BLOBS
        content = tuple(map(blob_id, _plaintexts(place, range(first, first + _FILE_BLOBS))))
        nodes.append(_node(f"file-{file:02d}", NodeType.FILE, content=content, size=len(content) * _PLAINTEXT.size))
    return encode_tree(nodes)


def _node(name: str, kind: NodeType, **fields: object) -> Node:
    mode = 0o040755 if kind is NodeType.DIR else 0o100644
    common = {"mode": go_mode(mode), "mtime_ns": _TIME_NS, "atime_ns": _TIME_NS, "ctime_ns": _TIME_NS}
    return Node(name.encode(), kind, **common, **fields)  # type: ignore[arg-type]


def _plaintexts(place: _Place, blobs: Iterable[int]) -> Iterator[bytes]:
    return (_PLAINTEXT.pack(place.seed, number) for number in blobs)


def _write_pack(place: _Place, kind: BlobKind, plaintexts: Sequence[bytes], version: int = _VERSION) -> IndexedPack:
    builder = PackBuilder(place.keys, kind)
    for blob in seal_batch(place.keys, kind, plaintexts, version=version, verify=False):
        builder.add(blob)
    pack, body = builder.finish()
    _write(place, pack.name, body)
    return pack


def _write_index(place: _Place, packs: Sequence[IndexedPack]) -> int:
    _, size = _write_unpacked(place, ObjectKind.INDEX, encode_index_file(IndexFile(packs)))
    return size


def _write_unpacked(place: _Place, kind: ObjectKind, plaintext: bytes) -> tuple[ObjectName, int]:
    name, body = seal_unpacked(place.keys, _VERSION, kind, plaintext)
    _write(place, name, body)
    return name, len(body)


def _write(place: _Place, name: ObjectName, body: Buffer) -> None:
    path = place.path / name.path
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with path.open("xb") as file:
        file.write(body)
