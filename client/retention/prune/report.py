"""What a prune found and did."""

from dataclasses import dataclass, field

from client.retention.prune.choice import Amount
from client.retention.prune.findings import Findings


@dataclass(slots=True)
class PruneReport:
    """Blobs with their sealed bytes, packs and index files as they are stored.

    `problems` are what cannot be read or is missing though a snapshot needs it: where there is one, nothing was stored
    or removed. `damaged` are packs that could not be repacked, and stay; `refused` is what the store keeps, and why. Of
    a plan (`is_plan`) `freed_bytes` and `added_bytes` are what is to be expected. `full` is why packs could not be
    repacked, if the store had no room for it.
    """

    is_plan: bool = False
    snapshots: int = 0
    needed: Amount = field(default_factory=Amount)
    unused: Amount = field(default_factory=Amount)
    duplicate: Amount = field(default_factory=Amount)  # further copies of what is needed
    left: Amount = field(default_factory=Amount)  # unused and duplicate blobs in packs that stay, by the limits
    postponed_packs: int = 0  # that are to be repacked by another run, by the limit
    unmoved_packs: int = 0  # that stay as there was no room to repack them
    full: str = ""
    kept_packs: int = 0
    removed_packs: int = 0
    unlisted_packs: int = 0  # of those removed: in no index file, left by a backup that was ended
    unlisted_refused: int = 0  # in no index file yet, and kept by the store: a backup that runs has put them
    repacked_packs: int = 0
    new_packs: int = 0
    replaced_index_files: int = 0
    new_index_files: int = 0
    freed_bytes: int = 0
    added_bytes: int = 0
    problems: Findings = field(default_factory=Findings)
    damaged: Findings = field(default_factory=Findings)
    refused: Findings = field(default_factory=Findings)
