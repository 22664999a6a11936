import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def can_mount() -> None:
    """Mounting takes what no package brings: a kernel with FUSE that lets this user use it."""
    filesystems = Path("/proc/filesystems")
    if not filesystems.exists() or "fuse" not in filesystems.read_text().split():
        pytest.skip("this kernel has no FUSE, which no package brings")
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        pytest.skip(f"/dev/fuse cannot be opened ({error.strerror}), which no package changes")
