"""Where temporary files lie: in the device's folder of caches, or where the system has its own if that is full."""

import errno
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from client.errors import HomeFull, HomeUnusable
from client.vault.repository import Vault

T = TypeVar("T")

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def in_scratch(vault: Vault, study: Callable[[Path | None], AbstractContextManager[T]]) -> Iterator[T]:
    """What `study` makes of a vault, given the folder for its temporary files (None: the system's).

    Raises HomeFull, HomeUnusable where they find no room.
    """
    own = vault.cache_folder if vault.cache_folder is not None and vault.cache_folder.is_dir() else None
    with ExitStack() as files:
        made: list[T] = []
        with _told(own):
            try:
                made.append(files.enter_context(study(own)))
            except OSError as error:
                if own is None or error.errno not in _FULL:
                    raise
            if not made:  # and the error is forgotten, which holds all that was in memory
                made.append(files.enter_context(study(None)))
        yield made[0]


@contextmanager
def _told(scratch: Path | None) -> Iterator[None]:
    """Say where temporary files find no room."""
    try:
        yield
    except OSError as error:
        place = scratch or Path(tempfile.gettempdir())
        if error.errno in _FULL:
            raise HomeFull(home=place) from None
        raise HomeUnusable(home=place, reason=error.strerror or str(error)) from None
