"""What the catalogue knows of files that lie on a disk, and of buckets in which such files are being entered."""

from collections.abc import Sequence
from uuid import UUID

from domain.names import ObjectKind
from services.common.database import Unit
from services.storage.store.sessions import NOBODY

_STATES = "select sha256, state from objects where bucket_id = %s and kind = %s and sha256 = any(%s)"

_FINISH = """
update buckets set adopting = false where id = %(bucket)s and not exists (
    select 1 from sessions s where s.bucket_id = %(bucket)s and s.ended_seq is null
      and s.purpose = 'adopt' and s.device_id = %(nobody)s and s.id <> %(session)s)
"""


async def states(unit: Unit, bucket: UUID, kind: ObjectKind, digests: Sequence[bytes]) -> dict[bytes, str]:
    """Of objects with their SHA-256: `live`, `condemned` or `deleting`; what the catalogue does not know is not in."""
    cursor = await unit.execute(_STATES, (bucket, kind.value, list(digests)))
    return {bytes(row[0]): str(row[1]) for row in await cursor.fetchall()}


async def begin(unit: Unit, bucket: UUID) -> None:
    """Files are being entered: nothing that they may need goes until `finish`. The bucket's row is locked."""
    await unit.execute("update buckets set adopting = true where id = %s", (bucket,))


async def finish(unit: Unit, bucket: UUID, session: UUID) -> bool:
    """All files are in, says an adoption; False if another operator's is open. The bucket's row is locked."""
    cursor = await unit.execute(_FINISH, {"bucket": bucket, "session": session, "nobody": NOBODY})
    return cursor.rowcount == 1
