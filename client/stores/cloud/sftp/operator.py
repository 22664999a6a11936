"""The calls of a store (clouds/operator.py), for a folder on a server of SFTP.

Kept true: what is created where nothing may be appears whole or not at all, and once, where the server knows links (as
OpenSSH does). Bodies are synced before they count, where it knows how to.
"""

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_hex
from typing import TypeVar

import asyncssh
from asyncssh import (
    SFTPAttrs,
    SFTPClient,
    SFTPClientFile,
    SFTPFailure,
    SFTPNoSuchFile,
    SFTPNoSuchPath,
    SFTPOpUnsupported,
    SFTPPermissionDenied,
)

from client.stores.cloud.sftp.connection import Connection
from client.stores.cloud.sftp.failures import ERRORS, read_failure
from client.stores.cloud.sftp.location import SftpLocation
from clouds.failures import Failure, Trouble

T = TypeVar("T")

_FILE = SFTPAttrs(permissions=0o600)
_FOLDER = SFTPAttrs(permissions=0o700)
_AT_ONCE = 32  # parts of a body under way, of 255 KiB to OpenSSH
_MISSING = (SFTPNoSuchFile, SFTPNoSuchPath)
_TEMPORARY = "tmp"


@dataclass(frozen=True, slots=True)
class _Metadata:
    is_file: bool
    is_dir: bool
    content_length: int
    last_modified: datetime | None

    @classmethod
    def of(cls, attributes: SFTPAttrs) -> "_Metadata":
        mode = attributes.permissions or 0
        return cls(
            is_file=attributes.type == asyncssh.FILEXFER_TYPE_REGULAR or stat.S_ISREG(mode),
            is_dir=attributes.type == asyncssh.FILEXFER_TYPE_DIRECTORY or stat.S_ISDIR(mode),
            content_length=attributes.size or 0,
            last_modified=None if attributes.mtime is None else datetime.fromtimestamp(attributes.mtime, UTC),
        )


@dataclass(frozen=True, slots=True)
class _Entry:
    path: str
    metadata: _Metadata


class SftpOperator:
    """An Operator of clouds/operator.py. Its methods are called in one event loop."""

    def __init__(self, location: SftpLocation) -> None:
        self._root = location.root
        self._connection = Connection(location)
        self._closing: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        await self._connection.close()

    async def read(self, path: str, *, offset: int | None = None, size: int | None = None) -> bytes:
        async def read(client: SFTPClient) -> bytes:
            file = await client.open(self._at(path), "rb", max_requests=_AT_ONCE)
            try:
                return await file.read(-1 if size is None else size, offset or 0)
            finally:
                self._close_later(file)

        return await self._asked(read)

    async def write(self, path: str, bs: bytes, *, if_not_exists: bool | None = None) -> None:
        target = self._at(path)
        if if_not_exists:
            await self._asked(lambda client: self._create(client, target, bs))
        else:
            await self._asked(lambda client: self._store(client, target, bs, "wb"))

    async def stat(self, path: str) -> _Metadata:
        return await self._asked(lambda client: _metadata(client, self._at(path)))

    async def exists(self, path: str) -> bool:
        return await self._asked(lambda client: client.exists(self._at(path)))

    async def list(self, path: str) -> AsyncIterator[_Entry]:
        return self._entries(path)

    async def rename(self, source: str, target: str) -> None:
        await self._asked(lambda client: _with_folders(client, self._at(target), _rename, self._at(source)))

    async def delete(self, path: str) -> None:
        await self._asked(lambda client: _remove(client, self._at(path)))

    async def create_dir(self, path: str) -> None:
        await self._asked(lambda client: client.makedirs(self._at(path), _FOLDER, exist_ok=True))

    async def remove_all(self, path: str) -> None:
        async def remove(client: SFTPClient) -> None:
            with suppress(*_MISSING):
                await client.rmtree(self._at(path))

        await self._asked(remove)

    def _at(self, path: str) -> str:
        return f"{self._root}/{path.strip('/')}".rstrip("/")

    async def _asked(self, call: Callable[[SFTPClient], Awaitable[T]]) -> T:
        client = await self._connection.client()
        try:
            return await call(client)
        except ERRORS as error:
            raise self._failed(client, error) from None

    def _failed(self, client: SFTPClient, error: Exception) -> Failure:
        failure = read_failure(error)
        if failure.trouble is Trouble.UNREACHED:
            self._connection.lost(client)
        return failure

    async def _entries(self, path: str) -> AsyncIterator[_Entry]:
        folder = path.strip("/")
        client = await self._connection.client()
        try:
            async for name in client.scandir(self._at(path)):
                filename = os.fsdecode(name.filename)
                if filename in (".", ".."):
                    continue
                metadata = _Metadata.of(name.attrs)
                below = f"{folder}/{filename}".lstrip("/")
                if not (metadata.is_file or metadata.is_dir):  # a link, or a server that does not say
                    with suppress(*_MISSING):
                        metadata = await _metadata(client, self._at(below))
                yield _Entry(f"{below}/" if metadata.is_dir else below, metadata)
        except _MISSING:
            return
        except ERRORS as error:
            raise self._failed(client, error) from None

    async def _store(self, client: SFTPClient, target: str, body: bytes, mode: str) -> None:
        file = await _with_folders(client, target, _open, mode)
        try:
            await file.write(body, 0)
            with suppress(SFTPOpUnsupported):
                await file.fsync()
            await file.close()
        except SFTPFailure:
            if await _is_full(client, self._root, len(body)):
                raise Failure(Trouble.FULL, "it takes no more") from None
            raise
        finally:
            self._close_later(file)

    async def _create(self, client: SFTPClient, target: str, body: bytes) -> None:
        """Beside, then linked; where the server knows no links, opened where nothing may be.

        There a vault's `config` can be seen before it is whole, for as long as one small write takes.
        """
        beside = self._at(f"{_TEMPORARY}/{token_hex(8)}")
        failed: Exception | None = None
        try:
            await self._store(client, beside, body, "wb")
            await self._link(client, beside, target, body)
        except (Failure, *ERRORS) as error:
            failed = error
        # Not when it is given up, for then nothing is waited for: it is swept.
        with suppress(*ERRORS):
            await client.remove(beside)
        if failed is not None:
            raise failed

    async def _link(self, client: SFTPClient, beside: str, target: str, body: bytes) -> None:
        try:
            await client.link(beside, target)
        except (SFTPFailure, SFTPOpUnsupported, SFTPPermissionDenied):  # there is one, or there are no links
            await self._create_in_place(client, target, body)

    async def _create_in_place(self, client: SFTPClient, target: str, body: bytes) -> None:
        if await client.exists(target):
            raise Failure(Trouble.EXISTS, "it is there already")
        try:
            await self._store(client, target, body, "xb")
        except SFTPFailure:
            if await client.exists(target):
                raise Failure(Trouble.EXISTS, "it is there already") from None
            raise

    def _close_later(self, file: SFTPClientFile) -> None:
        """Nobody waits for it: a call that is given up must end, whatever the server does."""
        task = asyncio.ensure_future(_close(file))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _close(file: SFTPClientFile) -> None:
    with suppress(*ERRORS):
        await file.close()


async def _metadata(client: SFTPClient, path: str) -> _Metadata:
    return _Metadata.of(await client.stat(path))


async def _open(client: SFTPClient, path: str, mode: str) -> SFTPClientFile:
    return await client.open(path, mode, _FILE, max_requests=_AT_ONCE)


async def _rename(client: SFTPClient, target: str, source: str) -> None:
    try:
        await client.posix_rename(source, target)
    except SFTPOpUnsupported:  # of version 3 without OpenSSH's extension: nothing is replaced
        await _remove(client, target)
        await client.rename(source, target)


async def _remove(client: SFTPClient, path: str) -> None:
    with suppress(*_MISSING):
        await client.remove(path)


async def _with_folders(
    client: SFTPClient, path: str, call: Callable[[SFTPClient, str, str], Awaitable[T]], argument: str
) -> T:
    """A call that makes something at `path`, whose folders are made if it fails without them."""
    try:
        return await call(client, path, argument)
    except _MISSING:
        await client.makedirs(path.rpartition("/")[0], _FOLDER, exist_ok=True)
        return await call(client, path, argument)


async def _is_full(client: SFTPClient, folder: str, size: int) -> bool:
    """Whether it has no room for `size` bytes: version 3 has no word for that but failure."""
    try:
        room = await client.statvfs(folder)
    except ERRORS:
        return False
    return room.bavail * room.frsize < size or (room.files > 0 and room.favail == 0)
