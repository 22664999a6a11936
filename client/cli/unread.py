"""What of a vault cannot be read while a command looks into it: named as it comes, and counted for the exit code."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from client.cli.console import note, printable
from client.errors import WARNINGS_EXIT_CODE, DamagedVault

if TYPE_CHECKING:
    from client.errors import ObjectMissing
    from domain.names import ObjectName


@dataclass(slots=True)
class UnreadParts:
    """`objects` are snapshots and index files, without which the rest is told; `folders` are lost parts of it."""

    objects: int = 0
    folders: int = 0

    def object(self, name: "ObjectName", error: "DamagedVault | ObjectMissing") -> None:
        from client.vault.repository import reason_unread

        self.objects += 1
        note(f"backup-tool: {name} cannot be read: {printable(reason_unread(error))}")

    def folder(self, path: bytes, error: "DamagedVault | ObjectMissing") -> None:
        self.folders += 1
        note(f"backup-tool: {printable(os.fsdecode(path))} cannot be read: {printable(str(error))}")

    @property
    def exit_code(self) -> int:
        if self.folders:
            return DamagedVault.exit_code
        return WARNINGS_EXIT_CODE if self.objects else 0
