"""What is asked of a store, whoever speaks to it: opendal's asynchronous operator has more than this."""

from collections.abc import AsyncIterable, Awaitable
from datetime import datetime
from typing import Protocol


class Metadata(Protocol):
    """What a store knows of a file or folder; `content_length` in bytes."""

    @property
    def is_file(self) -> bool: ...

    @property
    def is_dir(self) -> bool: ...

    @property
    def content_length(self) -> int: ...

    @property
    def last_modified(self) -> datetime | None: ...


class Entry(Protocol):
    """One file or folder in a list; the path of a folder ends with `/`."""

    @property
    def path(self) -> str: ...

    @property
    def metadata(self) -> Metadata: ...


class Operator(Protocol):
    """A folder of a store; all paths are relative to it, and those of folders end with `/`.

    What is awaited raises Failure, or an error of opendal's that means one (clouds/failures.py).
    """

    def read(self, /, path: str, *, offset: int | None = None, size: int | None = None) -> Awaitable[bytes]:
        """Bytes of a file: all, or from `offset` (0) on `size` or up to its end."""

    def write(self, /, path: str, bs: bytes, *, if_not_exists: bool | None = None) -> Awaitable[object]:
        """Make a file of all of these bytes, with its folders, or replace one. EXISTS where that was not to be."""

    def stat(self, /, path: str) -> Awaitable[Metadata]: ...

    def exists(self, /, path: str) -> Awaitable[bool]: ...

    def list(self, /, path: str) -> Awaitable[AsyncIterable[Entry]]:
        """What lies in a folder, of which the folder itself may be one; nothing if there is none."""

    def rename(self, /, source: str, target: str) -> Awaitable[None]:
        """In place of what is at `target`, and with the folders that it needs."""

    def delete(self, /, path: str) -> Awaitable[None]:
        """A file; that there is none is no error."""

    def create_dir(self, /, path: str) -> Awaitable[None]:
        """With those above it; that it is there is no error."""

    def remove_all(self, /, path: str) -> Awaitable[None]:
        """A folder with all that lies in it; that there is none is no error."""
