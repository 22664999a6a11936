"""What a copy says while it works, and what it answers."""

from collections.abc import Callable
from dataclasses import dataclass, field

from client.reachability.findings import Progress
from client.vault.snapshots import Snapshot
from domain.names import ObjectName


@dataclass(frozen=True, slots=True)
class Copied:
    """A snapshot and the id of its copy."""

    snapshot: Snapshot
    copy: str


@dataclass(slots=True)
class CopySummary:
    """What came of a copy, of all its sessions together: one that goes on fills that of the one before.

    `present` had copies already; `lost` are those that cannot be copied, by id, and why. `unread_source` and
    `unread_target` are snapshots and index files that cannot be read, and why.

    All sizes in bytes: the plain and the sealed size of the blobs that the target did not have, and all that was sent.
    """

    copied: list[Copied] = field(default_factory=list)
    present: int = 0
    lost: dict[str, str] = field(default_factory=dict)
    unread_source: dict[ObjectName, str] = field(default_factory=dict)
    unread_target: dict[ObjectName, str] = field(default_factory=dict)
    new_bytes: int = 0
    stored_bytes: int = 0
    uploaded_bytes: int = 0


@dataclass(frozen=True, slots=True)
class CopyTally:
    """How far it is. Sizes in bytes: `done_bytes` of `total_bytes`, plain, as far as is known what is needed."""

    snapshots: int
    total_snapshots: int
    done_bytes: int
    total_bytes: int
    uploaded_bytes: int


@dataclass(frozen=True, slots=True)
class CopyListener:
    """Hears how a copy goes; each must return soon.

    `looking`: what is looked at before anything is copied (client/reachability); `advanced`: how far it is, one call at
    a time, from several threads; `copied`: a snapshot has a copy now.
    """

    looking: Progress = lambda *_: None
    advanced: Callable[[CopyTally], None] = lambda _: None
    copied: Callable[[Copied], None] = lambda _: None
