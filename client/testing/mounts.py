"""Whether anything can be mounted here: tried, as no file of /dev or /proc tells what a container forbids.

As a program: ends with 0 if it can, else says on standard error why not and ends with 1.
"""

import functools
import os
import shutil
import sys
import tempfile
from pathlib import Path

from client.mount.mounting import HELPER, CannotMount, mounted

# What the helper says where the kernel has no FUSE, or where this user may not use it: no package changes that.
_FORBIDDEN = ("not permitted", "permission denied", "device not found", "no such device", "not implemented")


@functools.cache
def why_nothing_can_be_mounted() -> str:
    """Mounts once; empty if that works, or fails for another reason than that it is not to be had here.

    A missing fusermount3 is such another reason: a package brings it.
    """
    if not Path("/proc/self/mountinfo").exists():
        return "there is no FUSE here: that takes Linux"
    if shutil.which(HELPER) is None:
        return ""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with mounted(Path(folder).resolve(), "probe", allow_other=False) as channel:
                os.close(channel)  # who looks there meanwhile gets an error and does not wait
        except CannotMount as error:
            if any(words in str(error).lower() for words in _FORBIDDEN):
                return f"this kernel or container lets nothing be mounted, which no package changes: {error}"
    return ""


if __name__ == "__main__":
    sys.exit(why_nothing_can_be_mounted() or 0)
