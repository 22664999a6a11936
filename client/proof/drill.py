"""`verify`: a restore drill. Files are really fetched, opened and hashed, and compared with the live ones.

Kept true: a file is called whole only when each of its chunks was fetched from the store and has the SHA-256 that the
snapshot records, and together they have its size. It is called the same as the live file only when that one is
unchanged by its metadata before and after, and every byte is equal. Nothing is written but the report.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from itertools import tee
from typing import Self

from client.platforms.linux import open_for_reading
from client.restore.readahead import Content, contents
from client.vault.blobs import BlobKind
from client.vault.index import Location
from client.vault.nodes import Node
from client.vault.repository import Vault
from client.vault.walk import Listed


class Live(StrEnum):
    """What the file on this machine had to say."""

    SAME = "same"  # byte by byte
    DIFFERS = "differs"  # though size, time of modification and inode are as recorded
    CHANGED = "changed"  # since the snapshot, so that there is nothing to compare
    ABSENT = "absent"
    UNREADABLE = "unreadable"
    NOT_HERE = "not here"  # the snapshot is another device's


@dataclass(frozen=True, slots=True)
class Drilled:
    """One file: the SHA-256 of its content, or why it is lost; and what the live one said."""

    path: bytes
    node: Node
    digest: bytes | None
    reason: str
    live: Live

    @property
    def is_damaged(self) -> bool:
        """Whether the vault has lost it, or it is another than the live one."""
        return self.digest is None or self.live is Live.DIFFERS


def drill(vault: Vault, files: Iterable[Listed], *, is_here: bool) -> Iterator[Drilled]:
    """Fetch the files, in their order; `is_here` says that they were backed up from this machine. Raises StoreError."""
    found, ahead = tee((listed, *_located(vault, listed)) for listed in files)
    with closing(contents(vault, _locations(ahead))) as parts:
        for listed, locations, loss in found:
            with _LiveFile(listed) if is_here else _Elsewhere() as live:
                yield _drilled(listed, loss, (next(parts) for _ in locations), live)


def _located(vault: Vault, listed: Listed) -> tuple[list[Location], str]:
    """Where a file's blobs lie; or nothing, and why they cannot be had."""
    locations = []
    for blob in listed.node.content or ():
        location = vault.index.find(BlobKind.DATA, blob)
        if location is None:
            return [], f"no index file lists its blob {blob.hex()}"
        locations.append(location)
    return locations, ""


def _locations(found: Iterator[tuple[Listed, list[Location], str]]) -> Iterator[Location | None]:
    """What is to be fetched; None for a file of which nothing is, so that no more of those are looked at ahead."""
    for _, locations, _ in found:
        yield from locations
        if not locations:
            yield None


def _drilled(listed: Listed, loss: str, parts: Iterator[Content], live: "_LiveFile | _Elsewhere") -> Drilled:
    digest = sha256()
    size = 0
    for part in parts:
        if isinstance(part, str):
            loss = loss or part
            continue
        digest.update(part)
        size += len(part)
        live.compare(part)
    if not loss and size != listed.node.size:
        loss = f"its blobs have {size} bytes, and it has {listed.node.size}"
    if loss:
        return Drilled(listed.path, listed.node, None, loss, live.state)
    return Drilled(listed.path, listed.node, digest.digest(), "", live.finish())


class _Elsewhere:
    """Of a file of another machine nothing can be said."""

    state = Live.NOT_HERE

    def compare(self, part: bytes) -> None:
        """There is nothing to compare with."""

    def finish(self) -> Live:
        return self.state

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""


class _LiveFile:
    """The file as it is on this machine now, read beside what comes from the vault."""

    def __init__(self, listed: Listed) -> None:
        self._node = listed.node
        self._opened: int | None = None
        self.state = self._open(listed.path)

    def _open(self, path: bytes) -> Live:
        try:
            status = os.lstat(path)
            if not self._is_as_recorded(status):
                return Live.CHANGED
            self._opened = open_for_reading(path, status.st_uid)
            return Live.SAME if self._is_as_recorded(os.fstat(self._opened)) else Live.CHANGED
        except (FileNotFoundError, NotADirectoryError):
            return Live.ABSENT
        except (OSError, ValueError):
            return Live.UNREADABLE

    def compare(self, part: bytes) -> None:
        """The next bytes of the file."""
        if self.state is not Live.SAME or self._opened is None:
            return
        try:
            if _read(self._opened, len(part)) != part:
                self.state = Live.DIFFERS
        except OSError:
            self.state = Live.UNREADABLE

    def finish(self) -> Live:
        """What came of it. What changed while it was read is no other content, but another file."""
        if self.state in (Live.SAME, Live.DIFFERS) and self._opened is not None:
            with suppress(OSError):
                if not self._is_as_recorded(os.fstat(self._opened)):
                    self.state = Live.CHANGED
        return self.state

    def _is_as_recorded(self, status: os.stat_result) -> bool:
        node = self._node
        recorded = (node.size, node.mtime_ns, node.inode)
        return stat.S_ISREG(status.st_mode) and (status.st_size, status.st_mtime_ns, status.st_ino) == recorded

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._opened is not None:
            os.close(self._opened)


def _read(opened: int, length: int) -> bytes:
    parts = []
    while length:
        part = os.read(opened, length)
        if not part:
            break
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
