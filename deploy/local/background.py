"""A supervisor in the background: how it is started, and what it tells whoever waits for it.

Kept true: it has a session of its own and none of its parent's files, so it outlives the terminal and never holds a
pipe open. What it says goes to `logs/supervisor.log`, and as JSON lines to its parent until the stack is ready.
"""

import argparse
import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from client.errors import OortError
from deploy.local.errors import StackError
from deploy.local.folder import StackFolder
from deploy.local.roles import inherited

_STOP_PATIENCE_SECONDS = 60.0

Say = Callable[[str], None]


def start(folder: StackFolder, restart_delay: float, say: Say) -> None:
    """Start a supervisor and wait until the stack is ready. Raises StackError with what it said."""
    log = os.open(folder.log("supervisor"), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    command = [sys.executable, "-P", "-m", "deploy.local.background", str(folder.path), str(restart_delay)]
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=inherited(),
            cwd=folder.path,
            start_new_session=True,
            umask=0o077,
        )
    finally:
        os.close(log)
    try:
        _listen(child, folder, say)
    except BaseException:  # Ctrl-C too: nothing may stay behind that the operator does not know of
        child.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_STOP_PATIENCE_SECONDS)
        raise
    finally:
        if child.stdout is not None:
            child.stdout.close()
    # The supervisor is on its own now; it is not waited for.
    child.returncode = 0


def _listen(child: subprocess.Popen[bytes], folder: StackFolder, say: Say) -> None:
    for line in child.stdout or ():
        event = json.loads(line)
        if "ready" in event:
            return
        if "failed" in event:
            child.wait()
            raise StackError(detail=event["failed"])
        say(event["say"])
    child.wait()
    raise StackError(detail=f"the supervisor ended with {child.returncode}, see {folder.log('supervisor')}")


class _Parent:
    """The other end of the pipe, while there is one."""

    def __init__(self) -> None:
        self._listening = True

    def tell(self, **event: Any) -> None:
        if self._listening:
            try:
                sys.stdout.write(json.dumps(event) + "\n")
                sys.stdout.flush()
            except OSError:  # it was killed; the stack goes on
                self.leave()

    def leave(self) -> None:
        self._listening = False
        # Whatever prints later must meet no broken pipe.
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


def main() -> int:
    # What is imported is no garbage, and stays for good.
    gc.disable()
    from deploy.local.supervisor import Supervisor

    gc.freeze()
    gc.enable()
    parser = argparse.ArgumentParser(description="hold a stack in the background; use `oort stack up --detach`")
    parser.add_argument("folder", type=Path)
    parser.add_argument("restart_delay", type=float)
    arguments = parser.parse_args()
    parent = _Parent()

    def say(text: str) -> None:
        sys.stderr.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {text}\n")
        parent.tell(say=text)

    def ready() -> None:
        parent.tell(ready=True)
        parent.leave()

    try:
        folder = StackFolder.find(arguments.folder)
        with folder.held():
            Supervisor(folder, restart_delay=arguments.restart_delay, say=say).run(ready)
    except OortError as error:
        sys.stderr.write(f"{error}\n")
        parent.tell(failed=str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
