"""What sessions are told of objects and their bodies, and what they answer about them."""

from collections.abc import Sequence
from dataclasses import dataclass

from domain.names import ObjectName
from services.storage.store import buckets


@dataclass(frozen=True, slots=True)
class Announced:
    """A put before its body; `packs` are those that an index file lists."""

    name: ObjectName
    size: int
    packs: Sequence[ObjectName] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a put needs: nothing but `put_again` if the object `exists`, else copies on `homes`.

    `frees`: room is made by it, so it is taken below the disks' low-water mark too. `everywhere`: `ack_copies` are not
    enough, every home that lives has to take it. `first`: of a `config` when there is none.
    """

    exists: bool
    ack_copies: int = 0
    homes: Sequence[buckets.Home] = ()
    frees: bool = False
    everywhere: bool = False
    first: bool = False


@dataclass(frozen=True, slots=True)
class Body:
    """A verified body: `durable` are the nodes on which it lies synced, `full` those whose disks had no room for it.

    Which of them are homes is asked when it is entered: that may have changed since it was sent to them.
    """

    name: ObjectName
    sha256: bytes
    size: int
    durable: frozenset[str]
    full: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Entered:
    """What became of a put: `placed_on` are the nodes whose staged copy is wanted."""

    existed: bool
    placed_on: frozenset[str]


@dataclass(frozen=True, slots=True)
class Seen:
    """An object that a session may read."""

    object_id: int
    sha256: bytes
    size: int
    lacking: bool
