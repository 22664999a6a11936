"""Parts of a snapshot as a stream of bytes: one file, or an archive of all below a path.

Kept true: memory does not grow with what is dumped; no byte of a file is written that does not have its blob's SHA-256.
A file that the vault has lost something of is left out of an archive and named; one so large that this is seen only
when its beginning has been written ends the archive there, with an error.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import tee
from typing import IO

from client.errors import DamagedVault, ObjectMissing, UsageError
from client.restore.archive import Archive
from client.restore.readahead import Content, contents
from client.restore.request import Counters
from client.vault.blobs import BlobKind
from client.vault.index import Location
from client.vault.modes import NodeType
from client.vault.nodes import Node
from client.vault.repository import Vault
from client.vault.snapshots import Snapshot
from client.vault.trees import TreeReader
from client.vault.walk import list_snapshot

_HELD = 8 << 20  # plain bytes of a file that are seen to be whole before its entry is begun


@dataclass(slots=True)
class _Entry:
    """What comes into an archive, or only into its warnings. `first` is the same file's name in it."""

    name: bytes
    path: bytes
    node: Node
    locations: Sequence[Location] = ()
    size: int = 0
    first: bytes | None = None
    loss: str = ""


@dataclass(slots=True)
class _Walked:
    path: bytes
    nodes: Iterator[Node] = field(default_factory=lambda: iter(()))


def dump_file(vault: Vault, snapshot: Snapshot, path: bytes, output: IO[bytes]) -> int:
    """Write the file at an absolute path of the snapshot; answers its size in bytes.

    Raises NoSuchPath, UsageError for what is no file, DamagedVault (what was written until then is right), StoreError,
    and the OSError of `output`.
    """
    node = _node_at(vault, snapshot, path)
    if node is None or node.type is not NodeType.FILE:
        kind = "folder: choose an archive with --archive" if node is None or node.type is NodeType.DIR else node.type
        raise UsageError(detail=f"{os.fsdecode(path)} is no file but a {kind}")
    locations = _located(vault, node)
    if isinstance(locations, str):
        raise DamagedVault(name=os.fsdecode(path), detail=locations)
    size = 0
    with closing(contents(vault, locations)) as found:
        for part in found:
            output.write(_whole(part, path))
            size += len(part)
    return size


def dump_archive(vault: Vault, snapshot: Snapshot, path: bytes, archive: Archive, counters: Counters) -> None:
    """Write what is at `path` and all below it; names begin with that of the last folder of `path`.

    Raises as `dump_file`. What is left out is told to `counters`.
    """
    entries, ahead = tee(_Walk(vault, archive, counters).below(snapshot, path))
    with closing(contents(vault, _locations(ahead))) as found:
        lost: set[bytes] = set()
        for entry in entries:
            _add(archive, entry, found, lost, counters)


def _add(archive: Archive, entry: _Entry, found: Iterator[Content], lost: set[bytes], counters: Counters) -> None:
    if entry.first is not None:
        if entry.first in lost:
            counters.lose(entry.path, "it is the same file as another one, which is lost")
        else:
            archive.link(entry.name, entry.node, entry.first)
            counters.add(others=1)
        return
    parts = (next(found) for _ in entry.locations)
    held = list(parts) if entry.size <= _HELD else []
    loss = entry.loss or next((part for part in held if isinstance(part, str)), "")
    if loss:
        lost.add(entry.name)
        counters.lose(entry.path, loss)
        return
    stream = (_whole(part, entry.path) for part in (held or parts))
    for complaint in archive.add(entry.name, entry.node, entry.size, stream):
        counters.warn(entry.path, complaint)
    kind = {NodeType.FILE: "files", NodeType.DIR: "dirs"}.get(entry.node.type, "others")
    counters.add(**{kind: 1}, done_bytes=entry.size)


def _whole(part: Content, path: bytes) -> bytes:
    if isinstance(part, str):
        raise DamagedVault(name=os.fsdecode(path), detail=f"{part}; what was written ends there")
    return part


def _locations(entries: Iterator[_Entry]) -> Iterator[Location | None]:
    """The blobs of the entries; None for an entry without."""
    for entry in entries:
        if entry.locations:
            yield from entry.locations
        else:
            yield None


def _node_at(vault: Vault, snapshot: Snapshot, path: bytes) -> Node | None:
    """The node at a path, None for the root. Raises NoSuchPath."""
    if not path.strip(b"/"):
        return None
    return next(list_snapshot(vault, snapshot, path)).node


def _located(vault: Vault, node: Node) -> list[Location] | str:
    """Where a file's blobs lie, or why they cannot be had."""
    locations = []
    for blob in node.content or ():
        location = vault.index.find(BlobKind.DATA, blob)
        if location is None:
            return f"no index file lists its blob {blob.hex()}"
        locations.append(location)
    return locations


class _Walk:
    """Goes over a part of a snapshot once, for an archive."""

    def __init__(self, vault: Vault, archive: Archive, counters: Counters) -> None:
        self._vault = vault
        self._archive = archive
        self._counters = counters
        self._trees = TreeReader(vault)
        self._linked: dict[tuple[int, int], _Entry] = {}

    def below(self, snapshot: Snapshot, path: bytes) -> Iterator[_Entry]:
        node = _node_at(self._vault, snapshot, path)
        above, _, _ = path.rstrip(b"/").rpartition(b"/")
        nodes = iter([node]) if node is not None else iter(self._trees.load(snapshot.tree))
        stack = [_Walked(above, nodes)]
        while stack:
            walked = stack[-1]
            inner = next(walked.nodes, None)
            if inner is None:
                stack.pop()
                continue
            entry = self._entry(inner, walked.path + b"/" + inner.name, len(above) + 1)
            if entry is not None:
                yield entry
            if inner.type is NodeType.DIR:
                stack.append(_Walked(walked.path + b"/" + inner.name, self._inside(inner, walked.path)))

    def _inside(self, node: Node, above: bytes) -> Iterator[Node]:
        try:
            if node.subtree is not None:
                return iter(self._trees.load(node.subtree))
            why = "its list of files is missing"
        except (DamagedVault, ObjectMissing) as error:
            why = f"its list of files is lost ({error})"
        self._counters.lose(above + b"/" + node.name, f"{why}: nothing in it was dumped")
        return iter(())

    def _entry(self, node: Node, path: bytes, cut: int) -> _Entry | None:
        if not self._archive.takes(node):
            if node.type is not NodeType.SOCKET:  # as in a restore
                self._counters.warn(path, f"left out: the archive has no place for a node of type {node.type}")
            return None
        entry = _Entry(path[cut:], path, node)
        if node.type is not NodeType.FILE:
            return entry
        if node.links > 1 and self._archive.has_links:
            first = self._linked.setdefault((node.device_id, node.inode), entry)
            if first is not entry and first.node.content == node.content:
                entry.first = first.name
                return entry
        located = _located(self._vault, node)
        if isinstance(located, str):
            entry.loss = located
        else:
            entry.locations = located
            entry.size = sum(location.entry.length_plain for location in located)
        return entry
