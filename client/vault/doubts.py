"""Packs that this device found damaged or missing, so that a backup stores again what was in them.

Kept true: nothing here is believed. A pack that is named is looked at once more before anything is done about it, and
the file may be deleted, be full of rubbish or be on a full disk at any time: then the damage is found by the next that
meets it. Several processes may add at once.
"""

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from domain.names import BadName, ObjectKind, ObjectName

_MODE = 0o600


class Doubts:
    """The packs named in a file of the device; none are kept where there is no place for one. Raises nothing."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._added: set[ObjectName] = set()

    def add(self, pack: ObjectName) -> None:
        """A pack was found damaged or missing."""
        with self._lock:
            if self._file is None or pack in self._added:
                return
            self._added.add(pack)
            with suppress(OSError):
                descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, _MODE)
                try:
                    os.write(descriptor, f"{pack.id}\n".encode())
                finally:
                    os.close(descriptor)

    def all(self) -> frozenset[ObjectName]:
        """The packs that are named."""
        found = set()
        with suppress(OSError):
            for line in self._file.read_bytes().split() if self._file else ():
                with suppress(BadName):
                    found.add(ObjectName(ObjectKind.PACK, line.decode("ascii", "replace")))
        return frozenset(found)

    def settle(self, packs: Iterable[ObjectName]) -> None:
        """These were looked at and are whole, or are gone for good: they are doubted no more."""
        settled = frozenset(packs)
        before = self.all()
        if self._file is None or not settled & before:
            return
        with self._lock, suppress(OSError):
            self._added -= settled
            beside = self._file.with_name(f"{self._file.name}.new")
            beside.write_text("".join(f"{pack.id}\n" for pack in sorted(before - settled)))
            beside.replace(self._file)
