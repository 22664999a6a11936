"""The calls of a store (clouds/operator.py), for a folder on a server of SFTP.

Kept true: what is created where nothing may be appears whole or not at all, and once, where the server knows links (as
OpenSSH does). Bodies are synced before they count, where it knows how to.
"""

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any, TypeVar

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
from clouds.calls import is_out_of_time
from clouds.failures import Failure, Trouble

T = TypeVar("T")

_FILE = SFTPAttrs(permissions=0o600)
_FOLDER = SFTPAttrs(permissions=0o700)
_AT_ONCE = 10  # parts of a body under way, of 255 KiB to OpenSSH, whose window is 2 MiB
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
        self._begun: set[str] = set()  # what was created in place, and may not be whole
        self._ending: set[asyncio.Future[Any]] = set()

    async def close(self) -> None:
        await self._connection.close()

    async def read(self, path: str, *, offset: int | None = None, size: int | None = None) -> bytes:
        return await self._asked(lambda client: self._read(client, self._at(path), offset or 0, size))

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
        async with self._login() as client:
            return await self._given_up_at_once(call(client))

    @asynccontextmanager
    async def _login(self) -> AsyncIterator[SFTPClient]:
        async with self._connection.login() as client:
            try:
                yield client
            except asyncio.CancelledError:
                if is_out_of_time():
                    self._connection.leave(client)
                raise
            except ERRORS as error:
                failure = read_failure(error)
                if failure.trouble is Trouble.UNREACHED:
                    self._connection.leave(client)
                raise failure from None

    async def _given_up_at_once(self, call: Awaitable[T]) -> T:
        """When it is cancelled: what asyncssh does at the end of a list, for one, waits for the server again."""
        task = asyncio.ensure_future(call)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()
            self._let_end(task)
            raise

    async def _entries(self, path: str) -> AsyncIterator[_Entry]:
        folder = path.strip("/")
        async with self._login() as client:
            names = client.scandir(self._at(path))
            with suppress(*_MISSING):
                while (name := await self._given_up_at_once(anext(names, None))) is not None:
                    filename = os.fsdecode(name.filename)
                    if filename in (".", ".."):
                        continue
                    metadata = _Metadata.of(name.attrs)
                    below = f"{folder}/{filename}".lstrip("/")
                    if not (metadata.is_file or metadata.is_dir):  # a link, or a server that does not say
                        with suppress(*_MISSING):
                            metadata = await _metadata(client, self._at(below))
                    yield _Entry(f"{below}/" if metadata.is_dir else below, metadata)

    async def _read(self, client: SFTPClient, path: str, offset: int = 0, size: int | None = None) -> bytes:
        """Up to the first part that does not come: asyncssh's own `read` has zeros in its place."""
        file = await client.open(path, "rb", max_requests=_AT_ONCE)
        try:
            parts = {at: part async for at, part in await file.read_parallel(-1 if size is None else size, offset)}
        finally:
            self._close_later(file)
        body = []
        while part := parts.pop(offset, b""):
            body.append(part)
            offset += len(part)
        return b"".join(body)

    async def _store(self, client: SFTPClient, target: str, body: bytes, mode: str) -> None:
        await self._fill(client, await _with_folders(client, target, _open, mode), body)

    async def _fill(self, client: SFTPClient, file: SFTPClientFile, body: bytes) -> None:
        """Raises Failure where the disk is full."""
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

        There a vault's `config` can be seen before it is whole, for as long as one small write takes, or its repeats
        after a connection that broke.
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
        is_there = await client.exists(target)
        begun = is_there and target in self._begun and body.startswith(await self._read(client, target))
        if is_there and not begun:
            raise Failure(Trouble.EXISTS, "it is there already")
        try:
            file = await _with_folders(client, target, _open, "r+b" if begun else "xb")
        except SFTPFailure:
            if await client.exists(target):
                raise Failure(Trouble.EXISTS, "it is there already") from None
            raise
        self._begun.add(target)
        try:
            await self._fill(client, file, body)
        except (Failure, *ERRORS):
            with suppress(*ERRORS):
                await client.remove(target)
                self._begun.discard(target)
            raise
        self._begun.discard(target)

    def _close_later(self, file: SFTPClientFile) -> None:
        """Nobody waits for it: a call that is given up must end, whatever the server does."""
        self._let_end(asyncio.ensure_future(_close(file)))

    def _let_end(self, task: asyncio.Future[Any]) -> None:
        self._ending.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._ending.discard(task)
        if not task.cancelled():
            task.exception()  # of a call that was given up: nobody is to be told


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
        await client.stat(source)  # it may be at its place already, by a call whose answer was lost
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
