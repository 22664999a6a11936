"""A move of a file between two disks, killed at one step after the other; `python -m ... FOLDER`. Prints how many."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from services.storage.tests.cluster import a_body, pack
from services.storage.tests.spread import BUCKET, Node, move, put_pack, read
from services.storage.volumes.disks import Disks

_CHANGES = frozenset(("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"))


def _die_at(step: int) -> None:
    """Let this process be killed at a change of a file system, or a sync."""
    left, fsync = step, os.fsync

    def count() -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    def sync(fd: Any) -> None:
        count()
        fsync(fd)

    os.fsync = sync
    sys.addaudithook(lambda event, _: count() if event in _CHANGES else None)


def _dies(node: Node, body: bytes, step: int) -> bool:
    """Move in a process that is killed at a step; False if it came to its end before."""
    child = os.fork()
    if not child:
        with node.up() as disks:
            _die_at(step)
            moved = move(disks, pack(body), body)
            os._exit(0 if moved else 1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert status == 0, status
    return False


def _settle(disks: Disks) -> None:
    """What a start does for an object that the catalogue knows (incoming.py)."""
    for disk in disks:
        disk.drop_parts()
        for waiting in list(disk.staged()):
            disks.place(waiting)


def _try(folder: Path, step: int) -> bool:
    """Answers whether it was killed."""
    folder.mkdir()
    node, body = Node(folder), a_body(100)
    with node.up() as disks:
        name = put_pack(disks, body)
    died = _dies(node, body, step)
    with node.up() as disks:
        assert read(disks, name, 100) == body
        assert disks.lacking(BUCKET, [(name, 100)]) == set()
        _settle(disks)
        assert read(disks, name, 100) == body
        if node.places(name) != ["second"]:
            assert move(disks, name, body)
        assert node.places(name) == ["second"]
        assert read(disks, name, 100) == body
        assert disks.remove(BUCKET, [name]) == {name}
        assert list(folder.rglob("incoming/*/*")) == []
    return died


def main(folder: Path) -> None:
    step = 1
    while _try(folder / str(step), step):
        step += 1
    sys.stdout.write(str(step - 1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
