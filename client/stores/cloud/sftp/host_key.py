"""The key by which a server of SSH is known: pinned when a vault is added, and asked for ever after.

Kept true: nothing that opens a store is sent to a server whose key is not the pinned one. A server has several keys, of
several kinds, so that the kind is pinned too and no other is asked for.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from client.errors import StoreError, UsageError

if TYPE_CHECKING:
    from asyncssh import SSHKey

    from client.stores.cloud.sftp.location import SftpLocation

_SECONDS = 30.0  # for a server to say one of its keys
_RSA = ("rsa-sha2-512", "rsa-sha2-256")  # what a key of RSA signs with; SHA-1 is not taken
_KINDS = (
    ("ssh-ed25519",),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    _RSA,
)
CHANGED = (
    "its host key is {found}, and not the pinned {pinned}: somebody may stand between. Ask who runs the server; if its "
    "key was changed, pin the new one with `vault login --host-key`"
)
_REVOKED = "its host key is {}, which known_hosts has as revoked: ask who runs the server"
_UNKNOWN = "its host key is {}, and not {}: somebody may stand between, so compare it with the server's own"


@dataclass(frozen=True, slots=True)
class HostKey:
    """Kind and fingerprint, as `ssh-keygen -l` says it."""

    kind: str
    fingerprint: str

    @classmethod
    def parse(cls, text: str) -> "HostKey":
        kind, _, fingerprint = text.partition(" ")
        return cls(kind, fingerprint)

    @classmethod
    def of(cls, key: "SSHKey") -> "HostKey":
        return cls(key.get_algorithm(), key.get_fingerprint())

    def __str__(self) -> str:
        return f"{self.kind} {self.fingerprint}"

    @property
    def algorithms(self) -> Sequence[str]:
        """What a server is asked to sign with."""
        return _RSA if self.kind == "ssh-rsa" else (self.kind,)


def pinned(
    location: "SftpLocation", given: str | None, known_hosts: Sequence[Path], agree: Callable[[HostKey], None]
) -> "SftpLocation":
    """With the server's host key: the one `given` by its fingerprint, one of known_hosts, or else one agreed to.

    `agree` raises if it is not.
    Raises StoreError where the server has another one, or one that is revoked, or cannot be reached; UsageError for
    what is no fingerprint, or a known_hosts that cannot be read.
    """
    if given is not None and not given.startswith("SHA256:"):
        raise UsageError(detail="A host key is given by its fingerprint, SHA256:..., as `ssh-keygen -l` says it.")
    try:
        known, revoked = _known(location, known_hosts)
    except OSError as error:
        if given is None:
            raise UsageError(detail=f"{error.filename} cannot be read: give the host key with --host-key.") from None
        known, revoked = set(), set()
    if given is not None:
        known = {given}
    found = asyncio.run(_first(location, known))
    if found.fingerprint in revoked:
        raise StoreError(place=location.place, detail=_REVOKED.format(found))
    if given is not None and found.fingerprint != given:
        raise StoreError(place=location.place, detail=_UNKNOWN.format(found, given))
    if known and found.fingerprint not in known:
        raise StoreError(place=location.place, detail=_UNKNOWN.format(found, "one that known_hosts has"))
    if not known:
        agree(found)
    return location.known_by(found)


async def offered(location: "SftpLocation", first: Sequence[str] = ()) -> AsyncIterator[HostKey]:
    """One key of each kind that the server has, the best after what signs with `first`.

    Raises what asyncssh does if it has none.
    """
    import asyncssh

    from client.stores.cloud.sftp.failures import BREAKS

    refused: Exception | None = None
    nobody = asyncssh.SSHClientConnectionOptions(client_keys=None, agent_path=None, config=None)
    for algorithms in sorted(_KINDS, key=lambda algorithms: not set(algorithms) & set(first)):
        try:
            async with asyncio.timeout(_SECONDS):
                key = await asyncssh.get_server_host_key(
                    location.host, location.port, server_host_key_algs=algorithms, config=None, options=nobody
                )
        except BREAKS as error:  # it has none of this kind, or is no such server
            refused = error
            continue
        if key is not None:
            refused = None
            yield HostKey.of(key)
    if refused is not None:
        raise refused


async def _first(location: "SftpLocation", wanted: set[str]) -> HostKey:
    """The best key of the server, or the one whose fingerprint is `wanted` if it has it."""
    from client.stores.cloud.sftp.failures import ERRORS, read_failure

    best: HostKey | None = None
    try:
        async for key in offered(location):
            best = best or key
            if not wanted or key.fingerprint in wanted:
                return key
    except ERRORS as error:
        if best is None:
            raise StoreError(place=location.place, detail=read_failure(error).said) from None
    if best is None:
        raise StoreError(place=location.place, detail="it has no host key of a kind that is taken: ed25519, ECDSA, RSA")
    return best


def _known(location: "SftpLocation", files: Sequence[Path]) -> tuple[set[str], set[str]]:
    """Fingerprints that known_hosts has for the server: of keys that it may have, and of revoked ones. Raises OSError.

    A line that is not understood says nothing, as for ssh.
    """
    import asyncssh

    hosts = asyncssh.SSHKnownHosts()
    for path in files:
        with suppress(FileNotFoundError, NotADirectoryError):
            for line in map(bytes.strip, path.read_bytes().splitlines()):
                words = line.decode("latin-1").split()
                with suppress(ValueError):
                    hosts.load(" ".join(words[: 4 if line.startswith(b"@") else 3]))  # without what is noted behind it
    # Each by itself: given a port, what is revoked with it is forgotten when the host is looked for without.
    with_port, without = (hosts.match(name, "", None) for name in (f"[{location.host}]:{location.port}", location.host))
    revoked = {key.get_fingerprint() for key in (*with_port[2], *without[2])}
    return {key.get_fingerprint() for key in with_port[0] or without[0]} - revoked, revoked
