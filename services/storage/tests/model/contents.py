"""What the objects of the model hold: bodies of a few bytes, named by their SHA-256, that say in clear what they name.

Kept true: the same content has the same name, so putting it again is putting the same object.
"""

import json
from dataclasses import dataclass

from domain.names import ObjectKind, ObjectName


@dataclass(frozen=True, slots=True)
class Made:
    """An object's name and body; `holds` are blobs of a pack or of a snapshot, `lists` packs of an index file."""

    name: ObjectName
    body: bytes
    holds: frozenset[str] = frozenset()
    lists: frozenset[ObjectName] = frozenset()


def _made(kind: ObjectKind, holds: frozenset[str], salt: str) -> Made:
    body = json.dumps({"blobs": sorted(holds), "salt": salt}).encode()
    return Made(ObjectName.of(kind, body), body, holds)


def a_pack(blobs: frozenset[str], salt: str = "") -> Made:
    return _made(ObjectKind.PACK, blobs, salt)


def a_snapshot(blobs: frozenset[str], salt: str) -> Made:
    return _made(ObjectKind.SNAPSHOT, blobs, salt)


def an_index(packs: dict[ObjectName, frozenset[str]]) -> Made:
    """Every pack in full, with all of its blobs."""
    body = json.dumps({pack.id: sorted(blobs) for pack, blobs in sorted(packs.items())}).encode()
    return Made(ObjectName.of(ObjectKind.INDEX, body), body, lists=frozenset(packs))


def packs_of(index: bytes) -> dict[ObjectName, frozenset[str]]:
    """What an index file says."""
    return {ObjectName(ObjectKind.PACK, pack): frozenset(blobs) for pack, blobs in json.loads(index).items()}


def blobs_of(body: bytes) -> frozenset[str]:
    """What a pack or a snapshot says."""
    return frozenset(json.loads(body)["blobs"])
