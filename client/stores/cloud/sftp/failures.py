"""What asyncssh says that went wrong, in a few words for a person."""

import socket

import asyncssh
from asyncssh import SFTPError

from clouds.failures import Failure, Trouble

ERRORS = (asyncssh.Error, OSError)  # of asyncssh, and of the network below it
# A connection that was made, and then ended by the other side.
BREAKS = (asyncssh.DisconnectError, ConnectionResetError, ConnectionAbortedError, BrokenPipeError)
_LONGEST = 200
_BROKE = "the connection broke: check the network"
_LOGIN = "it does not take this user with this password or key: check them"
_OF_SFTP: dict[type[SFTPError], tuple[Trouble, str]] = {
    asyncssh.SFTPNoSuchFile: (Trouble.MISSING, "there is no such file or folder"),
    asyncssh.SFTPNoSuchPath: (Trouble.MISSING, "there is no such folder"),
    asyncssh.SFTPFileAlreadyExists: (Trouble.EXISTS, "it is there already"),
    asyncssh.SFTPPermissionDenied: (
        Trouble.REFUSED,
        "it does not let this user do that: look at the rights of the folder",
    ),
    asyncssh.SFTPWriteProtect: (Trouble.REFUSED, "what is there can only be read"),
    asyncssh.SFTPNoSpaceOnFilesystem: (Trouble.FULL, "it takes no more"),
    asyncssh.SFTPQuotaExceeded: (Trouble.FULL, "it takes no more of this user"),
    asyncssh.SFTPNoConnection: (Trouble.UNREACHED, _BROKE),
    asyncssh.SFTPConnectionLost: (Trouble.UNREACHED, _BROKE),
}

# Said by a server that is going down, or has as many logins as it takes.
_PASSING = (asyncssh.DISC_SERVICE_NOT_AVAILABLE, asyncssh.DISC_BY_APPLICATION, asyncssh.DISC_TOO_MANY_CONNECTIONS)


def read_failure(error: Exception) -> Failure:
    """What one of ERRORS means."""
    if isinstance(error, SFTPError):
        trouble, said = _OF_SFTP.get(type(error), (Trouble.REFUSED, f"it answers '{_in_short(error.reason)}'"))
    elif isinstance(error, asyncssh.PermissionDenied) or "authentication failures" in str(error):
        trouble, said = Trouble.REFUSED, _LOGIN
    elif isinstance(error, asyncssh.ConnectionLost):
        trouble, said = Trouble.UNREACHED, _BROKE
    elif isinstance(error, asyncssh.KeyExchangeFailed):
        trouble, said = Trouble.REFUSED, "it knows none of the ciphers and keys that are taken"
    elif isinstance(error, asyncssh.ChannelOpenError):
        trouble, said = Trouble.REFUSED, "it offers this user no SFTP"
    elif isinstance(error, asyncssh.DisconnectError):
        trouble = Trouble.BUSY if error.code in _PASSING else Trouble.REFUSED
        said = f"it ended the connection: {_in_short(error.reason)}"
    else:
        trouble, said = Trouble.UNREACHED, _of_network(error)
    return Failure(trouble, said)


def _of_network(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "its name is not known: check the address and the network"
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):  # at each of its addresses
        return "nothing answers there: check the address and the port"
    return _BROKE


def _in_short(text: str) -> str:
    said = "".join(mark for mark in text.partition("\n")[0] if mark.isprintable()).strip().rstrip(".")
    return said[:_LONGEST]
