"""A mount point and the channel to the kernel: had from fusermount3, which may mount also for a user without rights.

Kept true: whatever ends this process, the mount is taken away, and nothing that another has mounted in its place: a
shell that is there before the mount waits for that, and it is the one who does it in any case. fusermount3's own
`auto_unmount` does not do it for a user without rights (3.14). Who still has a file of it open gets an error.
"""

import errno
import os
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from client.errors import OortError, UsageError, reason_of
from client.platforms.linux import Identity, identity_of

HELPER = "fusermount3"
_PATIENCE_SECONDS = 60.0
_MOUNTS = Path("/proc/self/mountinfo")
_TYPE = "fuse.oort"
_NOTHING = b"none"
# $1 is the mount point, and $2 as /proc has it. It is told which mount is ours, then nothing until the end: if the end
# comes before, ours is what has come there since.
_WATCH = f"""trap '' HUP INT TERM
read -r ours
read -r _
there=
while read -r id _ device _ point rest; do
    [ "$point" = "$2" ] || continue
    case $rest in *" - {_TYPE} "*) there="$id $device" ;; *) there= ;; esac
done <{_MOUNTS}
[ -n "$there" ] && [ "${{ours:-$there}}" = "$there" ] || exit 0
exec {HELPER} -u -z -q -- "$1"
"""


class CannotMount(OortError):
    """{mountpoint} cannot be mounted: {detail}."""


class StillMounted(OortError):
    """{mountpoint} is still mounted: {detail}. `fusermount3 -u` with its path takes it away."""


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

    Raises CannotMount; at the end StillMounted.
    """
    before = _there(mountpoint)
    with _watched(mountpoint) as tell:
        try:
            channel = _channel(mountpoint, name, allow_other=allow_other)
        finally:
            there = _there(mountpoint)
            tell(_NOTHING if there == before else there)
        yield channel


def _channel(mountpoint: Path, name: str, *, allow_other: bool) -> int:
    """Mount. Raises CannotMount."""
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
        return _received(ours, mountpoint, helper, said)


@contextmanager
def _watched(mountpoint: Path) -> Iterator[Callable[[bytes], None]]:
    """Have unmounted what is told when this ends, or this process: the kernel then closes the pipe.

    Raises CannotMount; at the end StillMounted.
    """
    ours = _NOTHING
    end, pipe = os.pipe()
    try:
        watch = subprocess.Popen(
            ["sh", "-c", _WATCH, "sh", str(mountpoint), _as_listed(mountpoint)],
            stdin=end,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # as Ctrl-C is for us alone
        )
    except OSError as error:
        os.close(pipe)
        raise CannotMount(mountpoint=mountpoint, detail=f"sh cannot be run: {reason_of(error)}") from None
    finally:
        os.close(end)

    def tell(mount: bytes) -> None:
        nonlocal ours
        ours = mount
        with suppress(BrokenPipeError):  # a watch that somebody killed is found out at the end
            os.write(pipe, mount + b"\n")

    try:
        yield tell
    finally:
        os.close(pipe)
        with suppress(subprocess.TimeoutExpired):
            watch.wait(_PATIENCE_SECONDS)
        if ours == _there(mountpoint):
            raise StillMounted(mountpoint=mountpoint, detail=_ending_of(watch.returncode))


def _ending_of(code: int | None) -> str:
    """Why a watch has left the mount where it is."""
    if code is None:
        return f"{HELPER} has not ended after {_PATIENCE_SECONDS:g} seconds"
    if code < 0:
        return "the shell that was to take it away was killed"
    return f"{HELPER} ended with {code}"


def _there(mountpoint: Path) -> bytes:
    """Which mount of a vault is at a path, by its two numbers; empty if none is, or another lies over it."""
    there = b""
    listed = os.fsencode(_as_listed(mountpoint))
    for line in _MOUNTS.read_bytes().split(b"\n"):
        if line:
            number, _, device, _, point, rest = line.split(b" ", 5)
            if point == listed:
                there = number + b" " + device if f" - {_TYPE} ".encode() in rest else b""
    return there


def _as_listed(mountpoint: Path) -> str:
    """As /proc has a path: what would end a field or a line there, and the backslash, by octal digits."""
    return "".join(f"\\{ord(one):03o}" if one in " \t\n\\" else one for one in str(mountpoint))


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
    options = ["ro", "nosuid", "nodev", f"subtype={_TYPE.removeprefix('fuse.')}", f"fsname={escaped}"]
    if allow_other:
        options += ["allow_other", "default_permissions"]
    return ",".join(options)
