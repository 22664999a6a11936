"""Which ends of commands are right, and what was found wrong.

Kept true: whatever did not end well must be explained, by an outage of all nodes, by a full disk, by a rescan, or by a
conflict between devices that docs/exit-codes.md names; anything else is a finding, and one finding fails the campaign.
"""

import sys
from collections import Counter
from enum import StrEnum
from threading import Lock

from deploy.campaigns.devices.commands import Kind, Run
from deploy.campaigns.devices.outages import Outages

_STAYS, _REFUSED, _FULL, _MISSING = 3, 5, 7, 8  # docs/exit-codes.md


class End(StrEnum):
    """How a command ended; the columns of the table."""

    DONE = "done"
    KILLED = "killed"
    STAYS = "done, some stay"  # a retention: a running backup uses what was to go
    RUNNING = "refused: another retention"
    GONE = "removed meanwhile"  # the snapshot to be restored; whether it was is looked up at the end
    OUTAGE = "all nodes down"
    FULL = "disk full"
    RESCANNED = "not all rescanned yet"
    WRONG = "WRONG"


def end_of(run: Run, outages: Outages) -> End:
    """How a command ended, WRONG if that is not explained."""
    is_retention = run.kind in (Kind.RETENTION, Kind.PRUNE)
    end = End.WRONG
    if run.killed:
        end = End.KILLED
    elif run.code == 0 and run.summary is not None:
        end = End.DONE
    elif is_retention and run.code == _STAYS and _is_in_use(run):
        end = End.STAYS
    elif is_retention and run.error == "RetentionRunning":
        end = End.RUNNING
    elif run.kind is Kind.RESTORE and run.error in ("NoSuchSnapshot", "SnapshotRemoved"):
        end = End.GONE
    elif run.code == _REFUSED and outages.all_down_between(run.started, run.ended):
        end = End.OUTAGE
    elif run.kind is Kind.BACKUP and run.code == _FULL and outages.disk_full_between(run.started, run.ended):
        end = End.FULL
    elif (run.code == _MISSING or _is_braked(run)) and outages.rescanned_between(run.started, run.ended):
        end = End.RESCANNED
    return end


def _is_in_use(run: Run) -> bool:
    """Whether a retention that ended with 3 left only parents of running backups."""
    summary = run.summary
    if summary is None or summary["unread"] or summary["spared_items"]:
        return False
    return bool(summary["in_use"]) and not (summary["prune"] and summary["prune"]["refused"]["count"])


def _is_braked(run: Run) -> bool:
    """Whether a retention that ended with 3 has read all, and was only not allowed to remove what it would have."""
    is_retention, summary = run.kind in (Kind.RETENTION, Kind.PRUNE), run.summary
    return is_retention and run.code == _STAYS and summary is not None and not summary["unread"]


class Findings:
    """What is wrong, told at once; and how commands have ended."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._found: list[str] = []
        self.ends: Counter[tuple[Kind, End]] = Counter()

    def add(self, finding: str) -> None:
        with self._lock:
            self._found.append(finding)
            say(f"FOUND: {finding}")

    def judge(self, run: Run, outages: Outages) -> End:
        """Count a run, and find fault with it if it ended as none may."""
        end = end_of(run, outages)
        with self._lock:
            self.ends[run.kind, end] += 1
        if end is End.WRONG:
            self.add(str(run))
        return end

    def table(self) -> str:
        """How many commands of each kind ended how; those of the proof are among them."""
        rows = [["", "all", *(end.value for end in End)]]
        for kind in Kind:
            counts = [self.ends[kind, end] for end in End]
            rows.append([kind.value, *map(str, (sum(counts), *counts))])
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = []
        for row in rows:
            first, *rest = (
                cell.ljust(width) if not at else cell.rjust(width)
                for at, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            lines.append("  ".join((first, *rest)))
        return "\n".join(lines)

    def __len__(self) -> int:
        return len(self._found)


def say(text: str) -> None:
    """Tell whoever watches the campaign, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
