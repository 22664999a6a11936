"""A file that a command writes for a person: a new one, which has its name only when it is whole."""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from client.errors import TargetFull, UsageError, reason_of


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """Raises UsageError for one that exists already or cannot be written, TargetFull."""
    if os.path.lexists(path):
        raise UsageError(detail=f"{path} exists already: choose another name")
    partial = path.with_name(f".oort-partial-{secrets.token_hex(4)}")
    try:
        with partial.open("xb") as file:
            yield file
        partial.rename(path)
    except OSError as error:
        reason = reason_of(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise TargetFull(target=path, detail=reason) from None
        raise UsageError(detail=f"cannot write {path}: {reason}") from None
    finally:
        partial.unlink(missing_ok=True)
