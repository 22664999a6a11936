"""The mark of a restore that is under way, or was ended before it was done.

Kept true: a target that was empty is marked before anything else comes into it, and loses the mark when all that can
be restored is; so what lies in a marked target came from that restore, or from somebody after it was ended. What was
written before the machine was last started may not have reached the disk, whatever its size and time say.
"""

import contextlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from client.errors import UsageError
from client.platforms.linux import Identity, create_file, identity_of, open_within, write_all

MARKER = b".oort-restore"
_MOST = 64 << 10  # bytes that are read of a mark
_BOOT = Path("/proc/sys/kernel/random/boot_id")


def _boot() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


@dataclass(slots=True)
class Unfinished:
    """The mark of a restore of one snapshot, 64 hex digits; `scope` says which of its paths.

    `identity` tells it from a file that was restored. `same_boot`: the machine has run ever since it was made.
    """

    snapshot: str
    scope: str = ""
    boot: str = field(default_factory=_boot)
    identity: Identity | None = None
    same_boot: bool = True

    def begin(self, target: int) -> None:
        """Mark the open folder `target`. Raises OSError."""
        opened = create_file(MARKER, target)
        try:
            write_all(opened, json.dumps({"snapshot": self.snapshot, "scope": self.scope, "boot": self.boot}).encode())
            self.identity = identity_of(os.fstat(opened))
        finally:
            os.close(opened)

    def check(self, target: int, path: Path) -> None:
        """See that the open folder `target` holds this restore unfinished. Raises UsageError, OSError."""
        try:
            found = self._find(target)
        except OSError:
            raise UsageError(
                detail=f"{path} is not empty: restore into a new or an empty folder, or say with --overwrite "
                "what gives way"
            ) from None
        snapshot, scope = found
        if snapshot != self.snapshot:
            raise UsageError(
                detail=f"{path} holds an unfinished restore of snapshot {snapshot[:8] or 'unknown'}: go on with that "
                "one, choose another folder, or say with --overwrite what gives way"
            )
        if scope != self.scope:
            raise UsageError(
                detail=f"{path} holds an unfinished restore of other paths of this snapshot: give the same patterns, "
                "choose another folder, or say with --overwrite what gives way"
            )

    def adopt(self, target: int) -> None:
        """Finish what is marked in the open folder `target`, if it is this restore."""
        try:
            if self._find(target) != (self.snapshot, self.scope):
                self.identity = None
        except OSError:
            return

    def _find(self, target: int) -> tuple[str, str]:
        """Snapshot and scope of the mark in a folder; remembers the rest of it. Raises OSError."""
        opened = open_within(MARKER, target)
        try:
            snapshot, scope, boot = _read(os.read(opened, _MOST))
            self.identity = identity_of(os.fstat(opened))
        finally:
            os.close(opened)
        self.same_boot = boot == self.boot != ""
        return snapshot, scope

    def end(self, target: int) -> None:
        """Take the mark away, if it is this restore's own."""
        with contextlib.suppress(OSError):
            if identity_of(os.stat(MARKER, dir_fd=target, follow_symlinks=False)) == self.identity:
                os.unlink(MARKER, dir_fd=target)


def _read(body: bytes) -> tuple[str, str, str]:
    """Snapshot, scope and boot of a mark; empty where it is none."""
    try:
        document = json.loads(body)
        found = [document[key] for key in ("snapshot", "scope", "boot")]
    except (ValueError, KeyError, TypeError):
        return "", "", ""
    snapshot, scope, boot = (text if isinstance(text, str) else "" for text in found)
    return (snapshot, scope, boot) if snapshot.isalnum() else ("", "", "")
