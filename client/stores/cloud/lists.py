"""What lists of a store are worth.

Kept true: what lies elsewhere than its name says is no object; a list that lacks what the session has stored is an old
list, and is not believed, for it may lack what others stored as well. Nor is one, where things are to be removed, that
lacks what this device stored in earlier sessions and what is still there. What others stored is not known.
"""

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from client.stores.abc import ObjectInfo
from clouds.failures import Failure, Trouble
from clouds.operations import listing
from clouds.operator import Entry, Operator
from domain.names import BadName, ObjectKind, ObjectName


def complete_listing(
    folder: str, expected: Callable[[], frozenset[ObjectName]], earlier: frozenset[ObjectName] = frozenset()
) -> Callable[[Operator], Awaitable[list[Entry]]]:
    """What lies in a folder, with all that is expected to: where it is both before the list is asked for, and after.

    So it is with what was stored there `earlier`, and was found there by its name.
    """

    async def entries(operator: Operator) -> list[Entry]:
        before = expected()
        found = await listing(folder)(operator)
        listed = {entry.path for entry in found}
        lacking = [name for name in before & expected() if name.path.startswith(folder) and name.path not in listed]
        if lacking:
            said = f"its list lacks {min(lacking)}, which was just stored there: check the address, or try again later"
            raise Failure(Trouble.BEHIND, f"{said}, also if another program removed it")
        for name in sorted(earlier):
            if name.path not in listed:
                said = f"its list lacks {name}, which this device stored and which is there: try again later"
                raise Failure(Trouble.BEHIND, said)
        return found

    return entries


def is_of_packs(folder: str) -> bool:
    name = folder.strip("/").rpartition("/")[2]
    return len(name) == 2 and all(digit in "0123456789abcdef" for digit in name)  # noqa: PLR2004 - `data/xx/`


def objects_among(found: Iterable[Entry], kind: ObjectKind) -> list[ObjectInfo]:
    """The objects among what was listed, each once and by name; whatever else lies there is not ours.

    A copy of an object in another folder is no object either: prune would take it for a pack that nothing needs, and
    remove by its name the one that is needed.
    """
    objects = {}
    for entry in found:
        with suppress(BadName):
            name = ObjectName(kind, entry.path.rpartition("/")[2])
            if entry.metadata.is_file and entry.path == name.path:
                objects[name] = ObjectInfo(name, entry.metadata.content_length)
    return [objects[name] for name in sorted(objects)]
