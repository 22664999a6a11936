"""Where a vault's objects live: names and bytes, nothing of what they mean.

Kept true, and checked by the contract suite in tests/ on every store:
- an object that `put` returned from is durable, whole, and has the content that its name says;
- an object that is read whole has the content that its name says, whatever became of the store;
- objects never change; a put of a name that exists stores nothing and makes the session a user of the object;
- all reads and lists happen in a session, which sees what existed when it was opened until it ends; one of
  Purpose.RETENTION sees only what is not removed;
- methods may be called from several threads at once.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object as listed; `size` in bytes."""

    name: ObjectName
    size: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an object is not condemned; with `in_use` a session needs it that was not over before the mark."""

    reason: str
    in_use: bool = False


class StoreSession(Protocol):
    """Everything that one backup, restore or look does to a store.

    Every method raises StoreError or one of its kinds (client/errors.py); SessionOver when the node has ended the
    session, after which nothing but a new session helps.
    """

    @property
    def lost(self) -> frozenset[ObjectName]:
        """Packs of which the store knows, at the opening of a backup, that no copy is whole."""

    @property
    def has_more_lost(self) -> bool:
        """Whether there may be others besides: then only what is reserved is sure to be there."""

    def initialise(self, key: ObjectName, key_body: Buffer, config: Buffer, seal: Buffer) -> bool:
        """First use in one atomic step: store a first key, `config` and, if not empty, the seal.

        False, and nothing stored, if the vault has a `config` already.
        """

    def put(self, name: ObjectName, body: Buffer, packs: Sequence[ObjectName] = ()) -> bool:
        """Store an object durably. False if it was there already. Raises NameMismatch, StoreFull.

        An index file declares with `packs` every pack that it lists: a store that keeps sessions apart refuses it
        when the session is not a user of all of them (docs/sessions.md, rule 7).
        """

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        """Read bytes `offset` to `offset + length`, or to the end. Raises ObjectMissing; TruncatedObject if shorter.

        A whole object (no `offset`, no `length`) that has an id is verified against it: where a store keeps several
        copies, one that was altered is passed over for another, and DamagedVault says that none is whole. A part of
        an object has no name to be verified against.
        """

    def list(self, kind: ObjectKind) -> Iterator[ObjectInfo]:
        """The objects of a kind that the session sees, by name."""

    def reserve(self, packs: Sequence[ObjectName]) -> frozenset[ObjectName]:
        """Keep packs that an index names from removal while this session commits. Answers those that are gone."""

    def commit(self, snapshot: ObjectName, body: Buffer) -> None:
        """Store a snapshot: the last step, after its packs and then its index files."""

    def remove(self, name: ObjectName) -> None:
        """Remove an object: sessions that are opened from now on do not see it. Raises ObjectMissing.

        A store that keeps sessions apart lets a session of Purpose.RETENTION do so, with snapshots: NotSupported else,
        SnapshotInUse while an open backup has the snapshot as its parent. Sessions that are open go on seeing it.
        """

    def mark(self) -> str:
        """Draw the mark of a retention, once: what a session that is open now has made, reserved or put again stays.

        Everything that decides what is unneeded is listed and read after it: first snapshots, then the index
        (docs/sessions.md, rule 9). A second mark in one session is refused. Only in a session of Purpose.RETENTION:
        NotSupported else. Answers why the store lets nothing be condemned for now, for a person; empty if it does.
        """

    def condemn(self, names: Sequence[ObjectName]) -> Mapping[ObjectName, Refusal]:
        """Remove objects for every session that is opened from now on. Answers those that stay, each with the reason.

        After `mark` only; index files, packs and keys. What is condemned or gone already counts as done. A store
        without sessions of its own removes at once, under restic's exclusive lock, which its caller holds.
        """

    def replace_seal(self, body: Buffer, replaced: Buffer | None) -> None:
        """Store another seal in place of the one with the content `replaced`, None if there is none, in one step.

        Raises SealChanged, and leaves what is there, when that is another one by now. Where sessions are kept apart:
        NotSupported in one that is not of Purpose.RETENTION, if there is a seal.
        """

    def close(self) -> None:
        """End the session. What was put stays, and is removed by retention if nothing refers to it."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class ObjectStore(Protocol):
    """A place that holds one vault."""

    @property
    def needs_locks(self) -> bool:
        """True where sessions are not kept apart by the store: the vault then keeps restic's lock files."""

    @property
    def place(self) -> str:
        """Where it is, for messages to a person."""

    def allows(self, purpose: Purpose) -> bool:
        """Whether this device may open such a session: one that may only add opens none of retention."""

    def open(self, purpose: Purpose, parent: ObjectName | None = None) -> StoreSession:
        """Open a session; a backup pins its parent snapshot.

        Raises ParentGone: open with another, or none; AppendOnly.
        """

    def close(self) -> None:
        """Let go of connections."""
