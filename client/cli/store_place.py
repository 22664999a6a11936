"""Where a vault of the user's own lies, as commands take it: a folder, or a folder of a store on the net."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from client.cli.invocation import read_secrets
from client.cli.parameters import Option
from client.cli.store_login import PASSWORD_PROMPT, StoreLogin
from client.errors import UsageError

if TYPE_CHECKING:
    from client.stores.cloud.location import Location

Local = Annotated[Path | None, Option("--local", help="Folder of the vault: empty, missing, or a repository.")]
S3 = Annotated[
    str | None, Option("--s3", metavar="ENDPOINT/BUCKET/PREFIX", help="Folder of a bucket on an S3 store, as --local.")
]
Url = Annotated[
    str | None,
    Option("--url", metavar="SCHEME://...", help="The same on WebDAV (webdav://HOST/PATH), azblob, gcs, b2 or swift."),
]
Sftp = Annotated[str | None, Option("--sftp", metavar="USER@HOST[:PORT]/FOLDER", help="The same on a server of SFTP.")]
Region = Annotated[str | None, Option("--region", help="The bucket's region, where the endpoint does not tell it.")]


@dataclass(frozen=True, slots=True)
class StorePlace:
    """The options of a command."""

    local: Path | None = None
    s3: str | None = None
    url: str | None = None
    sftp: str | None = None
    region: str | None = None

    def opened_by(self, login: StoreLogin, *, with_password: bool = False) -> "tuple[Path | Location, str | None]":
        """The place with what opens it, and the repository's password, if there is to be one on standard input.

        Raises UsageError; StoreError for a server whose host key is another than it should be.
        """
        if sum(place is not None for place in (self.local, self.s3, self.url, self.sftp)) != 1:
            raise UsageError(detail="Say where the vault lies: with one of --local, --s3, --url and --sftp.")
        if self.local is None:
            return login.open(self._location(), with_password=with_password)
        if self.region or login != StoreLogin():
            raise UsageError(
                detail="A folder has no region and no key: leave out --region, --access-key, --secret-stdin and others."
            )
        password = read_secrets([PASSWORD_PROMPT], from_stdin=True)[0] if with_password else None
        return self.local.expanduser().absolute(), password

    def _location(self) -> "Location":
        from client.stores.cloud.location import Location
        from client.stores.cloud.sftp.location import SftpLocation

        if self.s3 is not None:
            return Location.of_s3(self.s3, self.region)
        if self.sftp is None:
            return Location.of_url(self.url or "", self.region)
        if self.region is not None:
            raise UsageError(detail="A server of SFTP has no --region: leave it out.")
        return SftpLocation.of_address(self.sftp)


def described(place: "Path | Location") -> dict[str, str]:
    """What --json says of it."""
    if isinstance(place, Path):
        return {"kind": "local", "path": str(place)}
    return {"kind": place.scheme, "address": place.place}
