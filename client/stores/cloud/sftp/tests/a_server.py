"""A server of SFTP in a thread of the test, for what OpenSSH does not do on demand: passwords, lacks and refusals."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncssh

from client.stores.cloud.sftp.host_key import HostKey
from client.stores.cloud.sftp.location import SftpLocation
from clouds.calls import Patience

PASSWORD = "zqx-password-7421"
HASTY = Patience(answer=60, total=0.5, new=0.3, first=0.001, longest=0.01)  # a server that is away is given up at once


class AServer:
    """Serves `folder` as `/`. What is in `lacking` it does not know, in `refusing` not allow, in `failing` not manage;
    what is in `holding` it never answers. The n-th call of what is in `failing_at` fails; at that of what is in
    `breaking` the connection breaks before it is done, of what is in `losing` after. All are names of
    asyncssh.SFTPServer's methods. So many reads find nothing more in a file as `empty_reads` says, and so many lists
    have no files as `old_lists`.
    """

    def __init__(self, folder: Path, kinds: Sequence[str]) -> None:
        self.folder = folder
        self.lacking: set[str] = set()
        self.refusing: set[str] = set()
        self.failing: set[str] = set()
        self.holding: set[str] = set()
        self.failing_at: dict[str, int] = {}
        self.breaking: dict[str, int] = {}
        self.losing: dict[str, int] = {}
        self.empty_reads = self.old_lists = 0
        self.turning_away = 0  # connections that end before a word is said
        self.held = threading.Event()  # whether it has been asked for something that it holds
        self.has_room = True
        self.files: list[Any] = []  # opened, of which those of a connection that breaks are left to us to close
        self.asks_for_password = False  # by keyboard-interactive, as servers with PAM do
        self.passwords: list[str] = []
        self.host_keys = [asyncssh.generate_private_key(kind) for kind in kinds]
        self.port = 0

    def location(self, password: str = PASSWORD, folder: str = "/vault") -> SftpLocation:
        location = SftpLocation.of_address(f"alice@127.0.0.1:{self.port}/{folder}")
        return location.known_by(HostKey.of(self.host_keys[0])).opened_by(None, password)

    async def listen(self) -> asyncssh.SSHAcceptor:
        acceptor = await asyncssh.listen(
            "127.0.0.1",
            self.port,
            server_factory=lambda: _Login(self),
            server_host_keys=self.host_keys,
            sftp_factory=lambda channel: _Served(self, channel),
        )
        self.port = acceptor.get_port()
        return acceptor


class _Login(asyncssh.SSHServer):
    def __init__(self, server: AServer) -> None:
        self._server = server

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        if self._server.turning_away:
            self._server.turning_away -= 1
            conn.abort()

    def begin_auth(self, username: str) -> bool:  # noqa: ARG002 - asyncssh's
        return True

    def password_auth_supported(self) -> bool:
        return not self._server.asks_for_password

    def kbdint_auth_supported(self) -> bool:
        return self._server.asks_for_password

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:  # noqa: ARG002 - asyncssh's
        return "", "", "", [("Password: ", False)]

    def validate_kbdint_response(self, username: str, responses: Any) -> bool:
        return self.validate_password(username, responses[0])

    def validate_password(self, username: str, password: str) -> bool:
        self._server.passwords.append(password)
        return (username, password) == ("alice", PASSWORD)


class _Served(asyncssh.SFTPServer):
    def __init__(self, server: AServer, channel: "asyncssh.SSHServerChannel[bytes]") -> None:
        super().__init__(channel, chroot=str(server.folder).encode())
        self._server = server

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_"):
            return super().__getattribute__(name)
        server = self._server
        if name in server.lacking:
            raise asyncssh.SFTPOpUnsupported("unknown")
        if name in server.refusing:
            raise asyncssh.SFTPPermissionDenied("not allowed")
        if name in server.failing or _is_due(server.failing_at, name):
            raise asyncssh.SFTPFailure("Failure")
        if name in server.holding:
            server.held.set()
            return _never
        found = super().__getattribute__(name)
        if _is_due(server.breaking, name):
            self._cut()
            raise asyncssh.SFTPFailure("nobody hears of it")
        return self._cutting_after(found) if _is_due(server.losing, name) else found

    def _cutting_after(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any) -> Any:
            done = call(*arguments)
            self._cut()
            return done

        return called

    def _cut(self) -> None:
        self.channel.get_connection().abort()

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> Any:
        self._server.files.append(super().open(path, pflags, attrs))
        return self._server.files[-1]

    def read(self, file_obj: Any, offset: int, size: int) -> Any:
        if self._server.empty_reads:
            self._server.empty_reads -= 1
            return b""
        return super().read(file_obj, offset, size)

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        is_old = self._server.old_lists > 0
        self._server.old_lists -= is_old
        async for name in super().scandir(path):
            if not is_old or name.attrs.type != asyncssh.FILEXFER_TYPE_REGULAR:
                yield name

    def statvfs(self, path: bytes) -> Any:  # noqa: ARG002 - asyncssh's
        return asyncssh.SFTPVFSAttrs(bsize=4096, frsize=4096, bavail=1 << 20 if self._server.has_room else 0)


def _is_due(counts: dict[str, int], name: str) -> bool:
    if name not in counts:
        return False
    counts[name] -= 1
    if counts[name]:
        return False
    del counts[name]
    return True


async def _never(*_: object) -> None:
    await asyncio.Event().wait()


@contextmanager
def a_server(folder: Path, kinds: Sequence[str] = ("ssh-ed25519",)) -> Iterator[AServer]:
    """`kinds` are those of its host keys."""
    server = AServer(folder, kinds)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    acceptor = asyncio.run_coroutine_threadsafe(server.listen(), loop).result()
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(_end(acceptor), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        for file in server.files:
            file.close()


async def _end(acceptor: asyncssh.SSHAcceptor) -> None:
    acceptor.close()
    await acceptor.wait_closed()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
