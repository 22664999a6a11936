"""What opens a store on the net, as commands take it: a key and its secret, a password, a private key, a host key."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from client.cli.console import note
from client.cli.invocation import read_secrets
from client.cli.parameters import Option
from client.errors import UsageError

if TYPE_CHECKING:
    from client.stores.cloud.location import Location
    from client.stores.cloud.sftp.host_key import HostKey
    from client.stores.cloud.sftp.location import SftpLocation

Key = Annotated[
    str | None,
    Option("--access-key", help="Access key, account or user name of the store; on S3 else AWS_ACCESS_KEY_ID."),
]
SecretOption = Annotated[
    bool,
    Option(
        "--secret-stdin",
        help="Read the password, secret key or token from standard input; on S3 else AWS_SECRET_ACCESS_KEY.",
    ),
]
KeyFile = Annotated[
    Path | None,
    Option(
        "--key-file", help="Private key that logs in on SFTP, not a password; its passphrase, if any, is the secret."
    ),
]
HostKeyOption = Annotated[
    str | None,
    Option("--host-key", metavar="SHA256:...", help="Fingerprint of an SFTP server's key; else known_hosts, or asked."),
]
_KNOWN_HOSTS = (Path("~/.ssh/known_hosts"), Path("/etc/ssh/ssh_known_hosts"))
PASSWORD_PROMPT = "Repository password"  # noqa: S105 - what is asked for


@dataclass(frozen=True, slots=True)
class StoreLogin:
    """The options of a command."""

    access_key: str | None = None
    key_file: Path | None = None
    host_key: str | None = None
    secret_stdin: bool = False

    def open(self, location: "Location", *, with_password: bool = False) -> "tuple[Location, str | None]":
        """The location with what opens it, and the repository's password, which comes last on standard input.

        Raises UsageError; StoreError for a server whose host key is another than it should be.
        """
        from client.stores.cloud.sftp.location import SftpLocation

        if isinstance(location, SftpLocation):
            opened, password = self._with_login(location, with_password=with_password)
            return self.pin(opened), password
        if self.key_file or self.host_key:
            raise UsageError(detail="--key-file and --host-key are for servers of SFTP: leave them out.")
        asked = f"{location.secret_name[0].upper()}{location.secret_name[1:]} of the store"
        given_key, given = self._from_environment(location)
        secret, password = self._secrets(asked, given or None, with_password=with_password)
        return location.opened_by(self.access_key or given_key, secret), password

    def renew(self, location: "Location") -> "Location":
        """The location with what opens it from now on; of one of SFTP the host key stays if none is given."""
        from client.stores.cloud.sftp.location import SftpLocation

        if not isinstance(location, SftpLocation):
            return self.open(location)[0]
        if self != StoreLogin(host_key=self.host_key) or not self.host_key:
            location, _ = self._with_login(location, with_password=False)
        return self.pin(location) if self.host_key else location

    def pin(self, location: "SftpLocation") -> "SftpLocation":
        """With the server's host key: as given, as known_hosts has it, or as somebody agrees to on the terminal."""
        from client.stores.cloud.sftp.host_key import pinned

        return pinned(location, self.host_key, [path.expanduser() for path in _KNOWN_HOSTS], agree_on_terminal)

    def _with_login(self, location: "SftpLocation", *, with_password: bool) -> "tuple[SftpLocation, str | None]":
        if self.access_key:
            raise UsageError(detail="A server of SFTP has no --access-key: its user is in the address.")
        if self.key_file is None:
            secret, password = self._secrets("Password of the server", None, with_password=with_password)
            return location.opened_by(None, secret), password
        from client.stores.cloud.sftp.private_key import has_passphrase, private_key

        if has_passphrase(self.key_file):
            secret, password = self._secrets("Passphrase of the private key", None, with_password=with_password)
        elif self.secret_stdin:
            raise UsageError(detail=f"The private key in {self.key_file} has no passphrase: leave out --secret-stdin.")
        else:
            secret, password = self._secrets("", "", with_password=with_password)
        return location.opened_by(private_key(self.key_file, secret or None), ""), password

    def _secrets(self, prompt: str, given: str | None, *, with_password: bool) -> tuple[str, str | None]:
        """A secret, which may be `given`, then the repository's password, as on standard input."""
        prompts = [prompt] if given is None else []
        if with_password:
            prompts.append(PASSWORD_PROMPT)
        answers = []
        if prompts:
            option = "--secret-stdin" if given is None else "--repository-password-stdin"
            answers = read_secrets(prompts, from_stdin=self.secret_stdin or given is not None, option=option)
        return answers[0] if given is None else given, answers[-1] if with_password else None

    def _from_environment(self, location: "Location") -> tuple[str | None, str]:
        """What AWS's variables say, which is for S3 alone: whatever else an address names must not get it."""
        if location.scheme != "s3":
            return None, ""
        key = None if self.access_key else os.environ.get("AWS_ACCESS_KEY_ID")
        secret = "" if self.secret_stdin else os.environ.get("AWS_SECRET_ACCESS_KEY", "")
        if (key or secret) and os.environ.get("AWS_SESSION_TOKEN"):
            raise UsageError(
                detail="AWS_SESSION_TOKEN is set, so the key in the environment soon ends: give a lasting one, with "
                "--access-key and --secret-stdin."
            )
        return key, secret


def agree_on_terminal(key: "HostKey") -> None:
    note(f"The server's host key is {key}. Compare it with what whoever runs the server says.")
    if not sys.stdin.isatty():
        raise UsageError(detail="Nobody can be asked whether that is the right one: give it with --host-key.")
    if not click.confirm("Is it the right one?", err=True):
        raise UsageError(detail="The host key is not the right one: nothing was sent.")
