"""What a prune found and did."""

from dataclasses import dataclass, field

from client.reachability.findings import Findings
from client.retention.prune.choice import Amount


@dataclass(slots=True)
class PruneReport:
    """Blobs with their sealed bytes, packs and index files as they are stored.

    `problems` are what cannot be read or is missing though a snapshot needs it: where there is one, nothing was stored
    or removed. `damaged` are packs that could not be repacked, and stay; `refused` is what the store keeps, and why,
    but for what is only in use: that is as it should be, and goes by a later prune. Of a plan (`is_plan`) `freed_bytes`
    and `added_bytes` are what is to be expected. `full` is why packs could not be repacked, if the store had no room.
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
    packs_in_use: int = 0  # kept by the store for sessions that run, or that ended after the prune had begun
    index_files_in_use: int = 0
    repacked_packs: int = 0
    new_packs: int = 0
    replaced_index_files: int = 0
    new_index_files: int = 0
    freed_bytes: int = 0
    added_bytes: int = 0
    problems: Findings = field(default_factory=Findings)
    damaged: Findings = field(default_factory=Findings)
    refused: Findings = field(default_factory=Findings)

    @property
    def in_use(self) -> int:
        """How many packs and index files stay until the sessions that use them are over."""
        return self.packs_in_use + self.index_files_in_use

    @property
    def freed_nothing(self) -> bool:
        """Whether something was to go, and all of it had to stay, for reasons that pass soon.

        What an object lock or a brake holds for days does not count: it would be tried again after each backup.
        """
        return self.freed_bytes == 0 and self.in_use + self.unmoved_packs > 0
