"""What lies in `incoming/` of a disk: bodies on their way in. What has a foreign name is left alone."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import structlog

from services.storage.volumes.folders import entries
from services.storage.volumes.staging import PART, StagedName, nonce_of

_log = structlog.get_logger("storage")


def of_bucket(incoming: Path, bucket: UUID) -> Iterator[tuple[Path, StagedName]]:
    """Those of a bucket, begun or whole. Raises OSError."""
    for path in entries(incoming / str(bucket)):
        known = StagedName.parse(bucket, path.name)
        if known is not None:
            yield path, known


def readable(incoming: Path, bucket: UUID | None = None) -> Iterator[tuple[Path, StagedName]]:
    """Those of one bucket, or of all. A folder that cannot be read is passed over, with a line in the log."""
    folders = [incoming / str(bucket)] if bucket else _entries(incoming)
    for folder in folders:
        try:
            owner = UUID(folder.name)
        except ValueError:
            continue
        for path in _entries(folder):
            known = StagedName.parse(owner, path.name)
            if known is not None:
                yield path, known


def drop_parts(incoming: Path, mark: str) -> int:
    """As Volume.drop_parts, of those whose nonce begins with `mark`. What resists is logged."""
    dropped = 0
    for path, _ in readable(incoming):
        if path.name.endswith(PART) and nonce_of(path.name).startswith(mark):
            try:
                path.unlink(missing_ok=True)
                dropped += 1
            except OSError as error:
                _log.error("an incoming file cannot be removed", path=str(path), cause=str(error))
    return dropped


def _entries(folder: Path) -> list[Path]:
    try:
        return entries(folder)
    except OSError as error:
        _log.error("a folder of incoming files cannot be read", path=str(folder), cause=str(error))
        return []
