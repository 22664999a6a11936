"""The local folder into which a body is written and hashed before any of it goes to a store.

Kept true: nothing in it is needed after its put: what an earlier run left is thrown away; one process has the folder.
"""

import errno
import fcntl
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from services.common.errors import StartError
from services.storage.errors import DiskFull
from services.storage.volumes.folders import free_bytes
from services.storage.volumes.staging import PART, ArrivingFile, StagedName

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))


class Spool:
    def __init__(
        self, folder: Path, node: str, low_water_bytes: int, *, free_bytes: Callable[[Path], int] = free_bytes
    ) -> None:
        """Open the folder, making it if it is missing. Raises StartError when another process has it."""
        self._folder = folder
        self._node = node
        self._low_water = low_water_bytes
        self._free_bytes = free_bytes
        try:
            folder.mkdir(0o700, parents=True, exist_ok=True)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartError(f"OORT_SPOOL_DIR: cannot use {folder}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise StartError(f"OORT_SPOOL_DIR: another storage node has {folder} open") from None

    def close(self) -> None:
        os.close(self._lock)

    @property
    def free_bytes(self) -> int:
        """Free bytes above the low-water mark."""
        return self._room(self._low_water)

    def _room(self, mark: int) -> int:
        return max(0, self._free_bytes(self._folder) - mark)

    def clear(self) -> int:
        """Remove what an earlier run left. Answers how many files. Raises OSError."""
        left = list(self._folder.glob(f"*{PART}"))
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)

    def begin(self, staged: StagedName, size: int, *, frees: bool) -> ArrivingFile:
        """A file for a body of `size` bytes. Raises DiskFull, as Volume.stage says."""
        mark = self._low_water // 2 if frees else self._low_water
        if size > self._room(mark):
            raise DiskFull(node=self._node)
        try:
            name = f"{staged.bucket}.{staged.file_name(secrets.token_hex(4))}"
            return ArrivingFile(self._folder / f"{name}{PART}", staged, size)
        except OSError as error:
            raise self.explain(error) from error

    def sessions_of(self, bucket: UUID) -> set[UUID]:
        """Whose bodies of a bucket are in here."""
        found = (StagedName.parse(bucket, path.name.partition(".")[2]) for path in self._folder.glob(f"{bucket}.*"))
        return {staged.session for staged in found if staged is not None}

    def explain(self, error: OSError) -> Exception:
        """DiskFull where the error means that; the error itself otherwise."""
        return DiskFull(node=self._node) if error.errno in _FULL else error
