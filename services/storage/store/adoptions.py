"""What the catalogue knows of files that lie on a disk."""

from collections.abc import Sequence
from uuid import UUID

from domain.names import ObjectKind
from services.common.database import Unit

_STATES = "select sha256, state from objects where bucket_id = %s and kind = %s and sha256 = any(%s)"


async def states(unit: Unit, bucket: UUID, kind: ObjectKind, digests: Sequence[bytes]) -> dict[bytes, str]:
    """Of objects with their SHA-256: `live`, `condemned` or `deleting`; what the catalogue does not know is not in."""
    cursor = await unit.execute(_STATES, (bucket, kind.value, list(digests)))
    return {bytes(row[0]): str(row[1]) for row in await cursor.fetchall()}
