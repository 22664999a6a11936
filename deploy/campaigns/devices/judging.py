"""Which ends of commands are right, and what was found wrong.

Kept true: whatever did not end well must be explained, by the kill of both nodes or by a conflict between devices that
docs/exit-codes.md names; anything else is a finding, and one finding fails the campaign.
"""

import sys
from collections import Counter
from enum import StrEnum
from threading import Lock

from deploy.campaigns.devices.commands import Kind, Run
from deploy.campaigns.devices.killing import Outages

_STAYS, _REFUSED = 3, 5  # docs/exit-codes.md


class End(StrEnum):
    """How a command ended; the columns of the table."""

    DONE = "done"
    KILLED = "killed"
    STAYS = "done, some stay"  # a retention: a running backup uses what was to go
    RUNNING = "refused: another retention"
    GONE = "removed meanwhile"  # the snapshot to be restored; whether it was is looked up at the end
    OUTAGE = "both nodes down"
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
    return end


def _is_in_use(run: Run) -> bool:
    """Whether a retention that ended with 3 left only parents of running backups."""
    summary = run.summary
    if summary is None or summary["unread"] or summary["spared_items"]:
        return False
    return bool(summary["in_use"]) and not (summary["prune"] and summary["prune"]["refused"]["count"])


class Findings:
    """What is wrong, told at once; and how commands have ended."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._found: list[str] = []
        self.ends: Counter[tuple[Kind, End]] = Counter()

    def add(self, finding: str) -> None:
        with self._lock:
            self._found.append(finding)
            sys.stdout.write(f"FOUND: {finding}\n")
            sys.stdout.flush()

    def judge(self, run: Run, outages: Outages) -> End:
        """Count a run, and find fault with it if it ended as none may."""
        end = end_of(run, outages)
        with self._lock:
            self.ends[run.kind, end] += 1
        if end is End.WRONG:
            self.add(str(run))
        return end

    def __len__(self) -> int:
        return len(self._found)
