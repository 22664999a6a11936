"""Blobs read in the order in which they lie: neighbours come with one request to the store.

Kept true: what is answered as read was opened, and has the SHA-256 that is its name; where a range does not open, the
pack is fetched whole, which a store of several copies answers from one that is not altered.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from client.errors import DamagedVault, ObjectMissing
from client.stores.abc import Buffer
from client.vault.blobs import PackEntry
from client.vault.repository import Vault, reason_unread
from client.vault.sealing import open_blob
from domain.names import ObjectName

_REQUEST = 4 << 20  # bytes read at once, or one blob that is larger
_GAP = 64 << 10  # bytes between two blobs that are read along rather than asked for anew


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A blob that no copy of its pack gives, and why."""

    reason: str


class Opened(NamedTuple):
    """A blob as it was asked for, as it is sealed, and its plaintext, or why there is none."""

    number: int
    entry: PackEntry
    sealed: Buffer
    plaintext: bytes | Unreadable


class Run(NamedTuple):
    """Blobs of one pack that lie close together, by their offsets, each with a number; what was read from `start` on.

    `body` is shorter than the blobs take, or empty, if the range could not be read.
    """

    pack: ObjectName
    entries: Sequence[tuple[int, PackEntry]]
    start: int
    body: Buffer


def read_entries(vault: Vault, pack: ObjectName, entries: Iterable[tuple[int, PackEntry]]) -> Iterator[Opened]:
    """Open blobs of one pack, each given with a number that comes back. Raises StoreError if the store itself fails."""
    for run in read_runs(vault, pack, entries):
        yield from open_run(vault, run)


def read_runs(vault: Vault, pack: ObjectName, entries: Iterable[tuple[int, PackEntry]]) -> Iterator[Run]:
    """Read blobs of one pack, with as few requests as that takes. Raises StoreError if the store itself fails."""
    for run in _runs(sorted(entries, key=_offset)):
        start = run[0][1].offset
        end = max(entry.offset + entry.length for _, entry in run)
        try:
            body: Buffer = memoryview(vault.session.get(pack, start, end - start))
        except (DamagedVault, ObjectMissing):
            body = b""
        yield Run(pack, run, start, body)


def open_run(vault: Vault, run: Run) -> Iterator[Opened]:
    """Open the blobs of a run, from any copy of its pack. Raises StoreError if the store itself fails."""
    keys, whole = vault.keys, None
    for number, entry in run.entries:
        at = entry.offset - run.start
        sealed = run.body[at : at + entry.length]
        try:
            plaintext = open_blob(keys, entry, sealed)
        except DamagedVault:
            whole = whole if whole is not None else _fetch(vault, run.pack)
            yield _open_from(vault, number, entry, whole)
        else:
            yield Opened(number, entry, sealed, plaintext)


def as_sealed(run: Run) -> Iterator[Opened]:
    """The blobs of a run of which all are known to open, without their plaintexts."""
    for number, entry in run.entries:
        at = entry.offset - run.start
        yield Opened(number, entry, run.body[at : at + entry.length], b"")


def _offset(numbered: tuple[int, PackEntry]) -> int:
    return numbered[1].offset


def _runs(entries: Sequence[tuple[int, PackEntry]]) -> Iterator[Sequence[tuple[int, PackEntry]]]:
    """Parts that are read with one request each."""
    first = start = end = 0
    for at, (_, entry) in enumerate(entries):
        if at > first and (entry.offset > end + _GAP or entry.offset + entry.length > start + _REQUEST):
            yield entries[first:at]
            first = at
        if at == first:
            start = end = entry.offset
        end = max(end, entry.offset + entry.length)
    if entries:
        yield entries[first:]


def _fetch(vault: Vault, pack: ObjectName) -> Buffer | Unreadable:
    try:
        return memoryview(vault.session.get(pack))
    except (DamagedVault, ObjectMissing) as error:
        return Unreadable(reason_unread(error))


def _open_from(vault: Vault, number: int, entry: PackEntry, whole: Buffer | Unreadable) -> Opened:
    if isinstance(whole, Unreadable):
        return Opened(number, entry, b"", whole)
    sealed = whole[entry.offset : entry.offset + entry.length]
    try:
        return Opened(number, entry, sealed, open_blob(vault.keys, entry, sealed))
    except DamagedVault as error:
        return Opened(number, entry, b"", Unreadable(reason_unread(error)))
