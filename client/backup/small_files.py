"""Small files: read whole, hashed, and made into nodes, a batch at once.

Kept true: what a node says about a file was read through the same open file as its content; a batch holds what was
read, whatever the files' sizes were announced as: less than BATCH_BYTES before its last file, and that is small.
"""

import os
from collections.abc import Sequence
from typing import NamedTuple

from client.backup.attributes import storable_attributes
from client.backup.regular import CHANGED, Seen, open_regular, why_unopened
from client.errors import reason_of
from client.platforms.linux import read_attributes
from client.platforms.nodes import encode_file
from client.vault.blobs import BlobId, Buffer, blob_id
from client.vault.chunker import MIN_CHUNK, Chunker

BATCH_BYTES = 2 << 20  # also the size up to which a file is small
MAX_READ = 3 * BATCH_BYTES  # what a batch can hold: a file is small up to twice that size if it grows


class Wanted(NamedTuple):
    """A file to read, and what the scan saw of it."""

    path: bytes
    name: bytes
    seen: Seen


class Remark(NamedTuple):
    """What is to be said of a file, by its number in the batch.

    `left_out` is why it is not in the snapshot. One that `has_grown` is not small any more, and was not read. One that
    is not `as_listed` may not be taken for unchanged by the next backup.
    """

    file: int
    warnings: Sequence[str] = ()
    left_out: str = ""
    has_grown: bool = False
    as_listed: bool = True


class Batch(NamedTuple):
    """What was read: of each file its encoded node, or nothing where there is a remark that says why; `size` in bytes.

    Files that are wanted and have no node here come with another batch. `ids` are those of all files' chunks.
    """

    nodes: list[bytes]
    ids: list[BlobId]
    size: int
    remarks: list[Remark]


class _Read(NamedTuple):
    content: bytes
    found: os.stat_result
    attributes: tuple[tuple[str, bytes], ...]
    remark: Remark


def read_batch(files: Sequence[Wanted], chunker: Chunker) -> tuple[Batch, list[Buffer]]:
    """Read files until enough are read; answers the chunks of all too."""
    batch = Batch([], [], 0, [])
    chunks: list[Buffer] = []
    size = 0
    for number, wanted in enumerate(files):
        if size >= BATCH_BYTES:
            break
        read = _read(number, wanted)
        remark = read if isinstance(read, Remark) else read.remark
        if remark[1:] != _NOTHING:
            batch.remarks.append(remark)
        if isinstance(read, Remark):
            batch.nodes.append(b"")
            continue
        content = read.content
        parts: Sequence[Buffer] = ()
        if len(content) > MIN_CHUNK:
            parts = chunker.cut(content)
        elif content:
            parts = (content,)
        ids = [blob_id(part) for part in parts]
        batch.nodes.append(encode_file(wanted.name, read.found, len(content), read.attributes, ids))
        batch.ids.extend(ids)
        chunks += parts
        size += len(content)
    return batch._replace(size=size), chunks


_NOTHING = Remark(0)[1:]


def _read(number: int, wanted: Wanted) -> _Read | Remark:
    """A file as it was read, or why it was not."""
    try:
        opened, before = open_regular(wanted.path, wanted.seen.owner)
    except OSError as error:
        return Remark(number, left_out=why_unopened(error))
    try:
        content = _content(opened, before.st_size)
        if content is None:
            return Remark(number, has_grown=True, as_listed=False)
        warnings: list[str] = []
        attributes = storable_attributes(read_attributes(opened), warnings.append)
        seen = Seen.of(before)
        is_unchanged = seen.is_unchanged(os.fstat(opened))
    except OSError as error:
        return Remark(number, left_out=reason_of(error))
    finally:
        os.close(opened)
    if not is_unchanged:
        warnings.append(CHANGED)
    # /proc and /sys announce other sizes: the next backup reads such a file again
    as_listed = is_unchanged and seen == wanted.seen and len(content) == before.st_size
    return _Read(content, before, attributes, Remark(number, warnings or (), as_listed=as_listed))


def _content(opened: int, size: int) -> bytes | None:
    """All of an open file that announces `size`; None if it is not small any more. Raises OSError."""
    if size > BATCH_BYTES:
        return None
    content = os.read(opened, size + 1)
    if len(content) == size:
        return content
    # It shrank, or it grows: take what is there, but no more than a batch may hold.
    parts = [content]
    length = len(content)
    while parts[-1]:
        parts.append(os.read(opened, BATCH_BYTES))
        length += len(parts[-1])
        if length > BATCH_BYTES:
            return None
    return b"".join(parts)
