"""What comes through a pipe, as one file of a snapshot.

Kept true: there is a snapshot only if all of the stream has come, for what is left of a failed dump must not look like
a backup; a pipe on which nothing comes holds up nobody who wants to end.
"""

import os
import select
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, Self

from client.backup.known import KnownTrees
from client.backup.read import Reader
from client.backup.request import Counters
from client.backup.scan import FileFound
from client.backup.trees import Folder, TreeWriter
from client.errors import StreamIncomplete, UsageError, reason_of
from client.platforms.linux import group_name, user_name
from client.vault.blobs import BlobId
from client.vault.modes import NodeType, go_mode
from client.vault.nodes import Node

_LOOK_MS = 200  # between two looks whether the backup goes on
_FILE_MODE, _FOLDER_MODE = 0o100644, 0o40755


class Source(Protocol):
    """A stream that is open: `descriptor` is where to read it."""

    @property
    def descriptor(self) -> int: ...

    def finish(self, ensure_running: Callable[[], None]) -> None:
        """All was read: see that it was all there is. Raises StreamIncomplete."""


class Stream(Protocol):
    """Something that can be read once; `str` says what it is, for messages."""

    def open(self, complain: Callable[[str], None]) -> AbstractContextManager[Source]:
        """Begin. `complain` hears from any thread what is not as it should be. Raises StreamIncomplete."""


class StandardInput:
    """Standard input, or another open file."""

    def __init__(self, descriptor: int = 0) -> None:
        self.descriptor = descriptor

    def __str__(self) -> str:
        return "standard input"

    def open(self, complain: Callable[[str], None]) -> "StandardInput":  # noqa: ARG002 - the protocol's
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """It is not ours to close."""

    def finish(self, ensure_running: Callable[[], None]) -> None:
        """Its end is all that can be known of it."""


def stream_path(name: str) -> bytes:
    """Where in its snapshot a stream lies that is to be called `name`. Raises UsageError."""
    path = b"/" + os.fsencode(name).strip(b"/")
    parts = path.split(b"/")[1:]
    if b"\0" in path or any(part in (b"", b".", b"..") for part in parts):
        raise UsageError(detail=f"{name!r} is no name for a file in a snapshot")
    return path


class StreamReader:
    """Reads a stream in the thread that calls it, and hands out what comes."""

    def __init__(
        self,
        trees: TreeWriter,
        known: KnownTrees,
        counters: Counters,
        reader: Reader,
        ensure_running: Callable[[], None],
        *,
        time_ns: int,
        owner: tuple[int, int],
    ) -> None:
        """The file belongs to `owner` (uid, gid) and was modified at `time_ns`: a stream has neither of its own."""
        self._trees = trees
        self._known = known
        self._counters = counters
        self._reader = reader
        self._ensure_running = ensure_running
        self._time_ns = time_ns
        self._owner = owner

    def scan(self, path: bytes, stream: Stream, known_tree: BlobId | None) -> None:
        """Read all of `stream` as the file `path`. Raises StreamIncomplete, Stopped."""
        with stream.open(lambda complaint: self._counters.warn(path, complaint)) as source:
            *above, name = path.split(b"/")[1:]
            folders = self._folders(above, known_tree)
            folder = folders[-1]
            known = folder.known.find(name)
            if known is not None and known.type is not NodeType.FILE:
                known = None
            self._trees.expect(folder)
            self._counters.add(total_files=1)
            try:
                found = FileFound(folder, name, path, os.fstat(source.descriptor), known)
                node = self._node(name, NodeType.FILE, _FILE_MODE)
                size = self._reader.take_stream(found, self._patient(source.descriptor), node)
            except OSError as error:
                raise StreamIncomplete(stream=stream, what=f"could not be read: {reason_of(error)}") from None
            source.finish(self._ensure_running)
        if not size:
            raise StreamIncomplete(stream=stream, what="gave nothing")
        for folder in reversed(folders):
            self._trees.finish(folder)

    def _folders(self, names: list[bytes], known_tree: BlobId | None) -> list[Folder]:
        """The root, and the folders below it that lead to the file."""
        folders = [Folder(None, None, self._known.load(known_tree), above_target=True)]
        for name in names:
            above = folders[-1]
            known = above.known.find(name)
            below = self._known.load(known.subtree if known is not None else None)
            self._trees.expect(above)
            node = self._node(name, NodeType.DIR, _FOLDER_MODE)
            folders.append(Folder(above, node, below, above_target=True))
        return folders

    def _node(self, name: bytes, kind: NodeType, mode: int) -> Node:
        uid, gid = self._owner
        time_ns = self._time_ns
        return Node(
            name=name,
            type=kind,
            mode=go_mode(mode),
            mtime_ns=time_ns,
            atime_ns=time_ns,
            ctime_ns=time_ns,
            uid=uid,
            gid=gid,
            user=user_name(uid),
            group=group_name(gid),
        )

    def _patient(self, descriptor: int) -> Callable[[memoryview], int]:
        """What reads as much as has come, and while nothing comes looks whether the backup goes on."""
        coming = select.poll()
        coming.register(descriptor, select.POLLIN)

        def readinto(room: memoryview) -> int:
            while not coming.poll(_LOOK_MS):
                self._ensure_running()
            read = os.readv(descriptor, [room])
            self._counters.add(total_bytes=read)
            return read

        return readinto
