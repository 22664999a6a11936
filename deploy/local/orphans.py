"""Processes of a stack whose supervisor was killed.

Kept true: only processes of this very stack are ended. They are known by the stack's mark in their environment together
with the folder that they run in, so neither a pid given to another program nor a copy of the folder misleads.
"""

import contextlib
import signal
from pathlib import Path

import psutil

from deploy.local import roles
from deploy.local.folder import StackFolder
from deploy.local.postgres import PostgresServer
from deploy.local.processes import ProcessId, stop

_PATIENCE_SECONDS = 20.0


def stop_all(folder: StackFolder, stack_id: str) -> list[str]:
    """End what is left of a stack: roles, then Redis, then Postgres. Answers what was found.

    To be called by who holds the folder's lock.
    """
    left = find(folder, stack_id)
    own = {process: name for process, name in left.items() if name != "redis"}
    for process in own:
        if living := process.find():
            with contextlib.suppress(psutil.NoSuchProcess):
                living.send_signal(signal.SIGTERM)
    for process in (*own, *(process for process in left if process not in own)):
        stop(process, patience=_PATIENCE_SECONDS)
    found = list(dict.fromkeys(left.values()))  # several workers of a node are one to whoever reads it
    if PostgresServer(folder.path / "postgres", log=folder.log("postgres")).stop():
        found.append("postgres")
    return found


def find(folder: StackFolder, stack_id: str) -> dict[ProcessId, str]:
    """Processes with their names; Postgres is not among them: it has a pid file of its own."""
    here = folder.path.resolve()
    found = {}
    for process in psutil.process_iter():
        # A process of another user, or one that ends meanwhile, tells nothing.
        with contextlib.suppress(psutil.Error, OSError):
            name = _name(process, here, stack_id)
            if name and process.status() != psutil.STATUS_ZOMBIE:
                found[ProcessId(process.pid, process.create_time())] = name
    return found


def _name(process: psutil.Process, here: Path, stack_id: str) -> str:
    """What a process is to this stack; empty if it is nothing of it."""
    if process.name() == "redis-server":  # overwrites its environment with its title
        return "redis" if process.cwd() == str(here / "redis") else ""
    if process.cwd() != str(here):
        return ""
    environ = process.environ()
    return environ.get("OORT_INSTANCE", "") if environ.get(roles.MARK) == stack_id else ""
