"""A server of WebDAV that a test starts: rclone's."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def a_webdav_server(folder: Path, port: int, user: str, password: str) -> Iterator[str]:
    """Serves `folder`; answers host:port. Raises ChildProcessError if it ends before it listens."""
    address = f"127.0.0.1:{port}"
    command = ["rclone", "serve", "webdav", "--addr", address, "--user", user, "--pass", password, str(folder)]
    environment = os.environ | {"RCLONE_CONFIG": os.devnull}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as server:
        try:
            _wait_for(port, server)
            yield address
        finally:
            server.terminate()


def _wait_for(port: int, server: "subprocess.Popen[bytes]") -> None:
    while True:
        if server.poll() is not None:
            raise ChildProcessError("rclone has ended")
        with suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
