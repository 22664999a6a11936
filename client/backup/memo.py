"""What this device remembers of folders that it backed up: which listing led to which tree.

Kept true: nothing here is needed. Whatever is missing, damaged, foreign or of another version is as if it had never
been there, and the folder is compared with its parent's tree node by node. What is remembered of a tree does not say
that the vault still has it: that is asked of the index each time. Entries are only added, by any number of processes
at once; those of trees that are in no new snapshot any more go when the whole memo outgrows its budget.
"""

import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

import lmdb

from client.backup.listing import DIGEST_BYTES, Listing
from client.vault.blobs import ID_BYTES, BlobId, Buffer
from client.vault.environments import SPOILED, Database, environments
from client.vault.repository import Vault

BUDGET = 1 << 30  # bytes on disk: about 30 million files
_FOLDERS = b"folders"
_LAYOUT = b"oort memo 1"
_CHECKSUM_BYTES = 16
_HEAD = struct.Struct(f"<{DIGEST_BYTES}sQ")  # of the listing; the number of blobs
_START = _CHECKSUM_BYTES + _HEAD.size
_BATCH_FOLDERS = 512  # each makes a page or more dirty, which waits in memory for the commit; LMDB keeps it afterwards
_BATCH_BYTES = 1 << 20

# In our layout a quote within a string has a backslash before it: these stand for fields, whatever names there are.
_FIELD = b'"content":'
_CONTENT = b'"content":['
_SUBTREE = b',"subtree":"'
_PART = (2 * ID_BYTES + 3) << 10  # so many ids, with quotes and commas


@dataclass(frozen=True, slots=True)
class Remembered:
    """`content` has the blobs of the folder's files, `subtrees` the trees of the folders in it, both in their order."""

    digest: bytes
    content: list[BlobId]
    subtrees: list[BlobId]


class Memo(Protocol):
    """Safe for any thread."""

    def find(self, tree: BlobId) -> Remembered | None:
        """What led to a tree when it was made or kept last."""

    def add(self, tree: BlobId, listing: Listing, body: bytes | bytearray) -> None:
        """The listing led to the tree, whose blob is `body`, in our layout."""

    def close(self) -> None:
        """Keep what is not kept yet."""


class NoMemo:
    """Where there is no place for one."""

    def find(self, tree: BlobId) -> Remembered | None:  # noqa: ARG002 - the protocol's
        return None

    def add(self, tree: BlobId, listing: Listing, body: bytes | bytearray) -> None:
        """It is forgotten."""

    def close(self) -> None:
        """Nothing is kept."""


class DeviceMemo:
    """Kept in a folder of the device. Raises nothing for whatever goes wrong there."""

    def __init__(self, folder: Path, budget: int = BUDGET, *, tell: Callable[[str], None] = lambda _: None) -> None:
        """`tell` gets why it cannot be used, unless that is for what is in it: then it begins anew."""
        self._folder = folder.absolute()
        self._tell = tell
        self._lock = threading.RLock()
        self._new: dict[BlobId, bytes] = {}
        self._new_bytes = 0
        self._environment: Any = None
        with self._careful():
            try:
                self._open(budget)
            except SPOILED:
                environments.drop(self._folder)
                self._open(budget)

    def _open(self, budget: int) -> None:
        opened = environments.open(self._folder, budget, [Database(_FOLDERS)])
        self._environment, (self._database,) = opened.environment, opened.handles

    def find(self, tree: BlobId) -> Remembered | None:
        value = None
        environment = self._environment
        if environment is not None:
            with self._careful(), environment.begin(db=self._database) as reading:
                value = reading.get(tree)
        return None if value is None else _decode(tree, value)

    def add(self, tree: BlobId, listing: Listing, body: bytes | bytearray) -> None:
        value = _encode(tree, listing, body) if self._environment is not None else None
        if value is None:
            return
        with self._lock:
            self._new[tree] = value
            self._new_bytes += len(value)
            if len(self._new) >= _BATCH_FOLDERS or self._new_bytes >= _BATCH_BYTES:
                self._write()

    def close(self) -> None:
        with self._lock:
            self._write()
            self._let_go()

    def _write(self) -> None:
        new, self._new, self._new_bytes = self._new, {}, 0
        if not new or self._environment is None:
            return
        with (
            self._careful(),
            self._environment.begin(write=True, db=self._database) as change,
            change.cursor() as cursor,
        ):
            cursor.putmulti(sorted(new.items()))

    @contextmanager
    def _careful(self) -> Iterator[None]:
        """Go on without a memo from the first error on. One that is damaged or full is dropped."""
        try:
            yield
        except SPOILED:
            self._let_go()
            environments.drop(self._folder)
        except (lmdb.Error, OSError) as error:
            self._let_go()
            self._tell(f"what this device remembers of folders is not used any more: {error}")

    def _let_go(self) -> None:
        with self._lock:
            environment, self._environment = self._environment, None
            if environment is not None:
                environments.close(self._folder, environment)


def memo_of(vault: Vault, tell: Callable[[str], None]) -> Memo:
    """The memo of this device for a vault, beside the cache of its index; `tell` gets why it cannot be used."""
    folder = _folder_of(vault)
    return DeviceMemo(folder, tell=tell) if folder else NoMemo()


def forget(vault: Vault) -> None:
    """Something in the vault is damaged: have the next backup read its parent's trees, and store again those lost."""
    folder = _folder_of(vault)
    if folder is not None and folder.exists():
        environments.drop(folder.absolute())


def _folder_of(vault: Vault) -> Path | None:
    return vault.cache_folder / f"{vault.config.id}.folders" if vault.cache_folder else None


def _encode(tree: BlobId, listing: Listing, body: bytes | bytearray) -> bytes | None:
    """None if the tree is not of exactly what was listed, as when something was unreadable, or in another layout."""
    value = bytearray(_START)
    files = _gather(_CONTENT, b"]", body, value)
    end = len(value)
    folders = _gather(_SUBTREE, b'"', body, value)
    if (body.count(_FIELD), files, folders) != (listing.entries, listing.files, listing.folders):
        return None
    _HEAD.pack_into(value, _CHECKSUM_BYTES, listing.digest, (end - _START) // ID_BYTES)
    value[:_CHECKSUM_BYTES] = _checksum(tree, memoryview(value)[_CHECKSUM_BYTES:])
    return bytes(value)


def _gather(begin: bytes, end: bytes, body: bytes | bytearray, ids: bytearray) -> int:
    """Add to `ids` all that stand between `begin` and `end`, a part at a time: a file may have millions of blobs."""
    count = at = 0
    while (at := body.find(begin, at)) >= 0:
        count += 1
        at += len(begin)
        stop = body.index(end, at)
        while at < stop:
            part = body[at : min(at + _PART, stop)]
            ids += bytes.fromhex(part.translate(None, b'",').decode("ascii"))
            at += len(part)
    return count


def _decode(tree: BlobId, value: bytes) -> Remembered | None:
    if len(value) < _START or value[:_CHECKSUM_BYTES] != _checksum(tree, memoryview(value)[_CHECKSUM_BYTES:]):
        return None
    digest, blobs = _HEAD.unpack_from(value, _CHECKSUM_BYTES)
    end = _START + blobs * ID_BYTES
    return Remembered(digest, _ids(value, _START, end), _ids(value, end, len(value)))


def _ids(value: bytes, start: int, end: int) -> list[BlobId]:
    return [value[at : at + ID_BYTES] for at in range(start, end, ID_BYTES)]


def _checksum(tree: BlobId, value: Buffer) -> bytes:
    return blake2b(value, digest_size=_CHECKSUM_BYTES, key=tree, person=_LAYOUT).digest()
