"""A server of SFTP that a test starts: OpenSSH's own, with keys and settings of its own, for the user who runs it.

Kept true: its port is bound before anybody is told of it; nothing of the machine's SSH settings is read or changed; no
process of it outlives the server.
"""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

_ENDS_SECONDS = 30.0
_SETTINGS = """\
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
Subsystem sftp internal-sftp
ForceCommand internal-sftp
"""


class SshServer:
    """One process a connection, as inetd would start it. `key` is the text of the private key that logs in."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.user = pwd.getpwuid(os.getuid()).pw_name
        self.log = folder / "log"
        self.key = self._make("ssh-ed25519", folder / "user")
        shutil.copy(folder / "user.pub", folder / "authorized")
        self.change_host_key("ssh-ed25519")
        (folder / "settings").write_text(_SETTINGS.format(folder=folder))
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where a server of root's has its helpers
        self._lock = threading.Lock()
        self._open: list[tuple[socket.socket, subprocess.Popen[bytes], threading.Thread]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def endpoint(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def host_key(self) -> str:
        """Its fingerprint."""
        import asyncssh  # which tests without such a server do not wait for

        return asyncssh.read_public_key(self._folder / "host.pub").get_fingerprint()

    def address(self, folder: Path) -> str:
        """A folder of this machine, as USER@HOST:PORT//FOLDER."""
        return f"{self.user}@{self.endpoint}/{folder}"

    def ssh(self, host_key_file: Path) -> list[str]:
        """The command by which an `ssh` speaks SFTP to it; it makes a file of the host key."""
        _, _, port = self.endpoint.rpartition(":")
        host_key_file.write_text(f"[127.0.0.1]:{port} {(self._folder / 'host.pub').read_text()}")
        command = ["ssh", "-F", "none", "-i", str(self._folder / "user"), "-p", port, "-l", self.user]
        options = [f"UserKnownHostsFile={host_key_file}", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes"]
        return [*command, *(part for option in options for part in ("-o", option)), "127.0.0.1", "-s", "sftp"]

    def change_host_key(self, kind: str) -> None:
        """For connections from now on."""
        self._make(kind, self._folder / "host")

    def cut(self) -> None:
        """End the connections that there are; others can be made."""
        with self._lock:
            ended, self._open = self._open, []
        for connection, process, ending in ended:
            with contextlib.suppress(OSError):  # ended already
                connection.shutdown(socket.SHUT_RDWR)
            ending.join(_ENDS_SECONDS)
            if ending.is_alive():
                process.kill()
                ending.join()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(_ENDS_SECONDS)
        self._listener.close()
        self.cut()

    def _make(self, kind: str, path: Path) -> str:
        import asyncssh

        key = asyncssh.generate_private_key(kind)
        path.touch(mode=0o600)
        key.write_private_key(path)
        key.write_public_key(path.with_suffix(".pub"))
        return path.read_text()

    def _accept(self) -> None:
        command = [_sshd(), "-i", "-e", "-f", str(self._folder / "settings")]
        with contextlib.suppress(OSError), self.log.open("ab") as log:
            while True:
                connection, _ = self._listener.accept()
                descriptor = connection.fileno()
                with self._lock:
                    process = subprocess.Popen(command, stdin=descriptor, stdout=descriptor, stderr=log)
                    ending = threading.Thread(target=_end_with, args=(process, connection), daemon=True)
                    self._open.append((connection, process, ending))
                    ending.start()


def _end_with(process: subprocess.Popen[bytes], connection: socket.socket) -> None:
    """No process holds a connection open any more, and we do not either."""
    process.wait()
    connection.close()


def _sshd() -> str:
    """Its path, by which it must be called."""
    found = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        raise FileNotFoundError("sshd is not installed")
    return found


@contextlib.contextmanager
def an_ssh_server(folder: Path) -> Iterator[SshServer]:
    """`folder` is for its keys and log."""
    server = SshServer(folder)
    try:
        yield server
    finally:
        server.close()
