"""How a bare restic reaches a vault on a store of the net: for whoever has nothing but paper left.

Kept true: no secret of a store is told here, only the name of the variable that takes it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from shlex import quote
from urllib.parse import quote as escaped

from client.stores.cloud.location import Location

_REMOTE = "oort"
_SECRET = "SECRET"  # noqa: S105 - the word that stands in its place


@dataclass(frozen=True, slots=True)
class ResticAccess:
    """What `restic --repo` takes, and what it needs in its environment.

    `secret` is the variable of the store's secret, empty where restic asks ssh; one that is `obscured` takes what
    `rclone obscure` makes of it; one that is `a_file` takes the name of a file with it. `secret_name` is what the store
    calls it.
    """

    repository: str
    environment: Mapping[str, str] = field(default_factory=dict)
    secret: str = ""
    obscured: bool = False
    a_file: bool = False
    secret_name: str = ""

    @property
    def lines(self) -> list[str]:
        """For a person with a shell."""
        found = [_needs(self)] if self.secret else []
        found += [f"export {name}={quote(value)}" for name, value in self.environment.items()]
        if self.obscured:  # by its input: others on the machine see arguments, and one that begins with - is an option
            found.append(f"export {self.secret}=\"$(printf %s '{_SECRET}' | rclone obscure -)\"")
        elif self.secret:
            found.append(f"export {self.secret}='{_SECRET}'")
        return [*found, f"restic --repo {quote(self.repository)} snapshots"]


def _needs(access: ResticAccess) -> str:
    what = (
        "the name of the file with the service account's key (JSON)"
        if access.a_file
        else f"the store's {access.secret_name}"
    )
    # Until 1.60 that of Azure was no URL, but what comes after the account in the name of the host.
    rclone = "rclone 1.61 or later" if _variable("endpoint") in access.environment else "rclone"
    beside = f", and restic needs {rclone} beside it" if access.repository.startswith("rclone:") else ""
    return f"# {_SECRET} is {what}{beside}"


def restic_access(where: Location) -> ResticAccess:
    """By restic's own backends of S3 and SFTP, else through rclone, which takes an endpoint for every kind of store."""
    access = _ACCESS[where.scheme](where)
    return replace(access, secret_name=where.secret_name) if access.secret else access


def _s3(where: Location) -> ResticAccess:
    # restic reads it as a URL, in which % ? and # mean something.
    address = f"{where.options['endpoint']}/{where.options['bucket']}{where.root.rstrip('/')}"
    environment = {"AWS_ACCESS_KEY_ID": where.key, "AWS_DEFAULT_REGION": where.options["region"]}
    return ResticAccess(f"s3:{escaped(address, safe=':/[]')}", environment, "AWS_SECRET_ACCESS_KEY")


def _sftp(where: Location) -> ResticAccess:
    return ResticAccess(where.place)


def _webdav(where: Location) -> ResticAccess:
    settings = {"type": "webdav", "vendor": "other", "url": where.options["endpoint"], "user": where.key}
    return ResticAccess(_repository(where.root), _variables(settings), secret=_variable("pass"), obscured=True)


def _azblob(where: Location) -> ResticAccess:
    settings = {"type": "azureblob", "account": where.key, **_endpoint(where)}
    return ResticAccess(_in(where, "container"), _variables(settings), secret=_variable("key"))


def _gcs(where: Location) -> ResticAccess:
    settings = {"type": "google cloud storage", **_endpoint(where)}
    return ResticAccess(
        _in(where, "bucket"), _variables(settings), secret=_variable("service_account_file"), a_file=True
    )


def _b2(where: Location) -> ResticAccess:
    settings = {"type": "b2", "account": where.key}
    return ResticAccess(_in(where, "bucket"), _variables(settings), secret=_variable("key"))


def _swift(where: Location) -> ResticAccess:
    settings = {"type": "swift", "storage_url": where.options["endpoint"]}
    return ResticAccess(_in(where, "container"), _variables(settings), secret=_variable("auth_token"))


_ACCESS: Mapping[str, Callable[[Location], ResticAccess]] = {
    "s3": _s3,
    "sftp": _sftp,
    "webdav": _webdav,
    "azblob": _azblob,
    "gcs": _gcs,
    "b2": _b2,
    "swift": _swift,
}


def _endpoint(where: Location) -> dict[str, str]:
    return {"endpoint": where.options["endpoint"]} if where.options.get("endpoint") else {}


def _in(where: Location, container: str) -> str:
    return _repository(f"{where.options[container]}{where.root.rstrip('/')}")


def _repository(path: str) -> str:
    return f"rclone:{_REMOTE}:{path.strip('/')}"


def _variables(settings: Mapping[str, str]) -> dict[str, str]:
    return {_variable(name): value for name, value in settings.items()}


def _variable(name: str) -> str:
    return f"RCLONE_CONFIG_{_REMOTE}_{name}".upper()
