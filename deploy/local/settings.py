"""What the operator sets for one process of a role alone, in `settings/NAME`.

Kept true: nothing that is written there is passed over: what no process or no role would take is refused, and so is
what the stack itself relies on.
"""

import importlib
import re
from collections.abc import Sequence

from deploy.local import roles
from deploy.local.errors import StackError
from deploy.local.folder import StackFolder

# Where a process listens is in stack.json, and its name is that of its certificate.
_THE_STACKS_OWN = re.compile("OORT_INSTANCE|OORT_[A-Z]+_LISTEN")


def check(folder: StackFolder) -> None:
    """Raises StackError for the first file, line or name that cannot be meant; nodes may be those to come."""
    known = {instance.name: instance for instance in roles.instances(roles.MOST_NODES)}
    for name in folder.settings_names():
        if name not in known:
            raise StackError(
                detail=f"{folder.settings_file(name)} is for no process of a role: {', '.join(known)} have settings."
            )
        chosen(folder, known[name])


def chosen(folder: StackFolder, instance: roles.Instance) -> dict[str, str]:
    """What is set for one process. Raises StackError as `check` does."""
    found = folder.settings(instance.name)
    path = folder.settings_file(instance.name)
    taken = _taken(instance.role) if found else set()
    for name in found:
        if name not in taken:
            raise StackError(detail=f"{path}: the role {instance.role} has no {name}: docs/settings.md has all.")
        if _THE_STACKS_OWN.fullmatch(name):
            raise StackError(detail=f"{path}: {name} is chosen by the stack: remove the line.")
    return found


def further_workers(folder: StackFolder, nodes: Sequence[roles.Instance]) -> int:
    """Processes that storage nodes have besides the first one of each. What is no number the node itself refuses."""
    told = (chosen(folder, node).get("OORT_WORKERS", "1") for node in nodes)
    return sum(int(count) - 1 for count in told if re.fullmatch("[1-9][0-9]?", count))


def _taken(role: str) -> set[str]:
    """The variables that a role reads. Imported when asked for, since hardly any stack has such a file."""
    kind = getattr(importlib.import_module(f"services.{role}.settings"), f"{role.title()}Settings")
    return {f"OORT_{name.upper()}" for name in kind.model_fields}
