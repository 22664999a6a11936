"""A vault, mounted until somebody unmounts it."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from client.errors import OortError
from client.mount.filesystem import Filesystem
from client.mount.history import REFRESH_SECONDS, Choice, History, Unread
from client.mount.mounting import mounted
from client.mount.server import Server
from client.vault.repository import Vault
from client.vault.snapshots import Snapshot

_TOLD = 10_000
_END_SECONDS = 1.0

Failed = Callable[[bytes, str], None]


@dataclass(frozen=True, slots=True)
class MountRequest:
    """What is mounted, and where: at an absolute path.

    `choice` says which snapshots are shown, `devices` answers names of devices by id. With `allow_other` other users of
    the machine may look into it, as far as the files' modes and ACLs let them.
    """

    name: str
    mountpoint: Path
    choice: Choice
    devices: Callable[[], Mapping[str, str]]
    allow_other: bool = False
    refresh_seconds: float = REFRESH_SECONDS


class _Failures:
    """Tells of each failing once."""

    def __init__(self, tell: Failed, path: Callable[[int], bytes]) -> None:
        self._tell = tell
        self._path = path
        self._told: set[tuple[int, str]] = set()

    def failed(self, node: int, error: Exception) -> None:
        reason = str(error) or type(error).__name__
        if not isinstance(error, OortError) and type(error).__module__ == "builtins":
            reason = f"{type(error).__name__}: {reason}"
        key = (node, reason)
        if key not in self._told:
            if len(self._told) >= _TOLD:
                self._told.clear()
            self._told.add(key)
            self._tell(self._path(node), reason)


def mount(
    vault: Vault,
    request: MountRequest,
    *,
    unread: Unread,
    failed: Failed,
    started: Callable[[Sequence[Snapshot]], None],
) -> None:
    """Serve the vault until it is unmounted.

    `failed` is told of each path of which something could not be read, from any thread, `started` when the mount can be
    looked into. Raises CannotMount, OortError.
    """
    filesystem: Filesystem | None = None

    def changed() -> None:
        if filesystem is not None:
            filesystem.blobs.forget_losses()

    history = History(vault, request.choice, request.devices, unread, changed, refresh_seconds=request.refresh_seconds)
    filesystem = Filesystem(vault, history.view)
    failures = _Failures(failed, filesystem.path)
    with mounted(request.mountpoint, request.name, allow_other=request.allow_other) as channel:
        server = Server(
            channel,
            filesystem.operations,
            filesystem.undoing,
            failures.failed,
            lambda: started(history.shown),
            checks_permissions=request.allow_other,
        )
        with suppress(KeyboardInterrupt):  # the usual end
            server.serve()
    filesystem.blobs.close()
    if server.join(_END_SECONDS):
        os.close(channel)  # else the kernel still asks, for who has a file open, until this process ends


def absolute(path: Path) -> Path:
    """Without links and `..`, as the kernel will know it."""
    return Path(os.path.realpath(path))
