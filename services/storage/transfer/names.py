"""Names of objects in messages."""

from collections.abc import Sequence

from domain.names import BadName, ObjectKind, ObjectName
from services.common.errors import InvalidArgument
from services.storage.errors import BadObjectName


def name_of(text: str) -> ObjectName:
    """Read a name. Raises BadObjectName."""
    try:
        return ObjectName.parse(text)
    except BadName:
        raise BadObjectName(name=text[:100], form="KIND/SHA-256, or config") from None


def pack_names(texts: Sequence[str], field: str, limit: int) -> list[ObjectName]:
    """Read names of packs. Raises InvalidArgument for other kinds, and for more than `limit`."""
    if len(texts) > limit:
        raise InvalidArgument(detail=f"{field} may have {limit} names, and has {len(texts)}.")
    packs = [name_of(text) for text in texts]
    for pack in packs:
        if pack.kind is not ObjectKind.PACK:
            raise InvalidArgument(detail=f"{field} are packs, and {pack} is none.")
    return packs
