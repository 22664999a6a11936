"""A mount point and the channel to the kernel: had from fusermount3, which may mount also for a user without rights.

Kept true: whatever ends this process, the mount point is let go: a shell waits for that. fusermount3's own
`auto_unmount` does not do it for a user without rights (3.14). Who still has a file of it open gets an error.
"""

import errno
import os
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from client.errors import OortError, UsageError, reason_of
from client.platforms.linux import Identity, identity_of

HELPER = "fusermount3"
_PATIENCE_SECONDS = 60.0
_WATCH = f'read -r _; exec {HELPER} -u -z -q -- "$1"'


class CannotMount(OortError):
    """{mountpoint} cannot be mounted: {detail}."""


class NoFuse(OortError):
    """This machine cannot mount a vault: {detail}."""


def ensure_can_mount() -> None:
    """See that there is what a mount takes. Raises NoFuse."""
    if not hasattr(socket, "recv_fds") or not Path("/proc/filesystems").exists():
        raise NoFuse(detail="that takes Linux")
    if shutil.which(HELPER) is None:
        raise NoFuse(detail=f"{HELPER} is not installed: install the package fuse3")
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        raise NoFuse(detail="/dev/fuse is missing: the kernel has no FUSE, or its module is not loaded") from None
    except OSError as error:
        raise NoFuse(detail=f"/dev/fuse cannot be opened: {reason_of(error)}") from None


def ensure_mountpoint(mountpoint: Path, protected: frozenset[Identity] = frozenset()) -> None:
    """See that it is an empty folder, and lies in no folder that is `protected`. Raises UsageError."""
    try:
        if not stat.S_ISDIR(mountpoint.stat().st_mode):
            raise UsageError(detail=f"{mountpoint} is no folder")
        if mountpoint.is_mount():
            raise UsageError(detail=f"something is mounted at {mountpoint} already")
        if any(mountpoint.iterdir()):
            raise UsageError(detail=f"{mountpoint} is not empty: make an empty folder to mount at")
        if any(identity_of(folder.stat()) in protected for folder in (mountpoint, *mountpoint.parents)):
            raise UsageError(detail=f"{mountpoint} lies in the folder of a vault, or in this device's home")
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            left = f"a mount was left behind there: `{HELPER} -u {mountpoint}` removes it"
            raise UsageError(detail=f"{mountpoint} cannot be used: {left}") from None
        raise UsageError(detail=f"{mountpoint} cannot be used: {reason_of(error)}") from None


@contextmanager
def mounted(mountpoint: Path, name: str, *, allow_other: bool) -> Iterator[int]:
    """Mount at an absolute path; answers the open channel, which is the caller's. Unmounted at the end.

    Raises CannotMount.
    """
    ours, theirs = socket.socketpair()
    with (
        ours,
        theirs,
        tempfile.TemporaryFile() as said,
        subprocess.Popen(
            [HELPER, "-o", _options(name, allow_other=allow_other), "--", str(mountpoint)],
            env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
        ) as helper,
    ):
        theirs.close()
        channel = _received(ours, mountpoint, helper, said)
    with _watched(mountpoint):
        try:
            yield channel
        finally:
            unmount(mountpoint)


@contextmanager
def _watched(mountpoint: Path) -> Iterator[None]:
    """Have it unmounted when this process is gone, in whatever way: the kernel then closes the pipe."""
    command = ["sh", "-c", _WATCH, "sh", str(mountpoint)]
    quiet = subprocess.DEVNULL
    # In a session of its own, as Ctrl-C is for us alone.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True) as watch:
        try:
            yield
        finally:
            watch.kill()


def _received(ours: socket.socket, mountpoint: Path, helper: "subprocess.Popen[bytes]", said: IO[bytes]) -> int:
    """The channel that the helper sends. Raises CannotMount."""
    ours.settimeout(_PATIENCE_SECONDS)
    try:
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    except OSError as error:
        helper.kill()
        raise CannotMount(mountpoint=mountpoint, detail=reason_of(error)) from None
    if descriptors:
        return descriptors[0]
    helper.wait()
    said.seek(0)
    lines = said.read().decode(errors="replace").split("\n")
    detail = next((line.removeprefix(f"{HELPER}: ") for line in lines if line), f"{HELPER} does not say why")
    raise CannotMount(mountpoint=mountpoint, detail=detail.rstrip("."))


def unmount(mountpoint: Path) -> None:
    """Take it away now; nothing happens if nothing is mounted there."""
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            [HELPER, "-u", "-z", "-q", "--", str(mountpoint)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )


def _options(name: str, *, allow_other: bool) -> str:
    escaped = "".join("\\" + character if character in ",\\" else character for character in name)
    options = ["ro", "nosuid", "nodev", "subtype=oort", f"fsname={escaped}"]
    if allow_other:
        options += ["allow_other", "default_permissions"]
    return ",".join(options)
