"""Where a vault lies on a server of SFTP: the login, the folder, and the key by which the server is known.

Kept true: an address that a person types, or that is told to one, holds no secret, and one that is refused is not
repeated, for it may hold one. Told, it is as restic takes it: `sftp://USER@HOST:PORT/` and then a folder, which begins
with `/` if it does not lie below the one where a login lands.
"""

from dataclasses import replace
from urllib.parse import quote, unquote, urlsplit

from client.errors import UsageError
from client.stores.cloud.location import Location
from client.stores.cloud.sftp.host_key import HostKey

_SCHEME = "sftp"
_PORT = 22
# Of `host:/srv/x` the folder lies at the root, and would be looked for where a login lands.
_AS_SCP_HAS_IT = (
    "That is an address as scp has it: say USER@HOST[:PORT]/FOLDER for a folder below the one where a login lands, and "
    "USER@HOST[:PORT]//FOLDER for one from the root on."
)


class SftpLocation(Location):
    """A folder of a server. `root` is `/...`, or below the folder where a login lands."""

    @classmethod
    def of_address(cls, address: str) -> "SftpLocation":
        """From USER@HOST[:PORT]/FOLDER, where `sftp://` may stand before it, as restic has it. Raises UsageError.

        FOLDER begins with another `/` if it is one from the root on.
        """
        authority, _, folder = address.removeprefix(f"{_SCHEME}://").partition("/")
        user, _, server = authority.rpartition("@")
        if server.endswith(":") or (user.startswith(f"{_SCHEME}:") and ":" not in user.removeprefix(f"{_SCHEME}:")):
            raise UsageError(detail=_AS_SCP_HAS_IT)
        if ":" in user:
            raise UsageError(detail="An address holds no password: give it with --secret-stdin.")
        try:
            parts = urlsplit(f"//{server}")
            host, port = parts.hostname or "", _PORT if parts.port is None else parts.port
            host.encode("idna")  # as it is looked up
            whole = parts.netloc == server and all(mark.isalnum() or mark in ".-_:%" for mark in host)
        except ValueError:
            host, port, whole = "", 0, False
        if not (user and host and port and whole):
            raise UsageError(detail="That is no address of an SFTP server: say USER@HOST[:PORT]/FOLDER.")
        options = {"user": unquote(user), "host": host, "port": str(port)}
        return cls(_SCHEME, _folder(unquote(folder)), options)

    def known_by(self, key: HostKey) -> "SftpLocation":
        """With the host key that is pinned."""
        return replace(self, options={**self.options, "host_key": str(key)})

    def opened_by(self, key: str | None, secret: str) -> "SftpLocation":
        """With what logs in: the text of a private key, without a passphrase, or else a password. Raises UsageError."""
        if not key and not secret:
            raise UsageError(detail="The password is empty: give the user's, or a private key with --key-file.")
        return replace(self, secrets={"private_key": key} if key else {"password": secret})

    @property
    def user(self) -> str:
        return self.options["user"]

    @property
    def host(self) -> str:
        return self.options["host"]

    @property
    def port(self) -> int:
        return int(self.options["port"])

    @property
    def host_key(self) -> HostKey:
        return HostKey.parse(self.options["host_key"])

    @property
    def key(self) -> str:
        """There is none beside the user, who is in the address."""
        return ""

    @property
    def place(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORT else f":{self.port}"
        return f"{_SCHEME}://{quote(self.user, safe='')}@{host}{port}/{quote(self.root)}"


def _folder(path: str) -> str:
    names = [name for name in path.split("/") if name]
    if not names:
        raise UsageError(detail="The address names no folder: say USER@HOST[:PORT]/FOLDER.")
    if names[0].startswith("~") or any(name in (".", "..") or not name.isprintable() for name in names):
        raise UsageError(
            detail="That is no folder of a server: leave out ~, . and .. and what cannot be printed. Without another / "
            "before it a folder lies where a login lands."
        )
    return ("/" if path.startswith("/") else "") + "/".join(names)
