"""Where a vault lies on a store of the net: the address, and what opens it.

Kept true: an address that a person types, or that is told to one, holds no secret, and one that is refused is not
repeated, for it may hold one; two addresses of different folders are told differently; what is not understood in an
address is refused, for opendal passes over options that it does not know.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from client.errors import UsageError
from clouds.operations import SETTINGS

_AWS_HOST = re.compile(r"s3[.-]([a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws\.com(?:\.cn)?")
_USUAL_REGION = "us-east-1"  # what stores that have no regions take
_NO_CREDENTIALS = (
    "An address holds no password or key: give the user, account or key with --access-key, and the password or secret "
    "that goes with it with --secret-stdin. "
    "An @ in the name of a folder is written %40."
)


@dataclass(frozen=True, slots=True)
class _Service:
    """What opendal calls the parts of an address; `key` is empty where there is none.

    `key_name` and `secret_name` are what whoever has such a store calls the two.
    `tested_with` is empty where our tests speak to real servers (docs/decisions/emulated-stores.md).
    """

    container: str
    key: str
    secret: str
    key_name: str
    secret_name: str
    options: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    tested_with: str = ""


_NOTHING = "no store of this kind, real or emulated"
_SERVICES = {
    "s3": _Service(
        "bucket",
        "access_key_id",
        "secret_access_key",
        "access key",
        "secret access key",
        ("endpoint", "region"),
        ("endpoint",),
    ),
    "azblob": _Service(
        "container",
        "account_name",
        "account_key",
        "account",
        "account key",
        ("endpoint",),
        tested_with="an emulation of Azure (Azurite) and not with Azure itself",
    ),
    "gcs": _Service(
        "bucket",
        "",
        "credential",
        "",
        "service account's key",
        ("endpoint",),
        tested_with="an emulation of Google's store (fake-gcs-server) and not with Google's itself",
    ),
    "b2": _Service(
        "bucket",
        "application_key_id",
        "application_key",
        "key id",
        "application key",
        ("bucket_id",),
        ("bucket_id",),
        _NOTHING,
    ),
    "swift": _Service("container", "", "token", "", "token", ("endpoint",), ("endpoint",), _NOTHING),
    "webdav": _Service("", "username", "password", "user", "password", (), ("endpoint",)),
}


@dataclass(frozen=True, slots=True)
class Location:
    """A folder of a store. `options` and `secrets` are opendal's, by its names; `root` begins with `/`."""

    scheme: str
    root: str
    options: Mapping[str, str]
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of_s3(cls, address: str, region: str | None = None) -> "Location":
        """From ENDPOINT/BUCKET/PREFIX, where https:// may be left out, and `s3:` may stand as restic has it.

        Raises UsageError.
        """
        if address.startswith("s3://"):
            raise UsageError(
                detail="s3:// names no store: say ENDPOINT/BUCKET/PREFIX, with s3.REGION.amazonaws.com for Amazon's."
            )
        address = address.removeprefix("s3:")
        parts = _split(address if "://" in address else f"https://{address.lstrip('/')}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(detail="That is no address of an S3 store: say ENDPOINT/BUCKET/PREFIX.")
        if parts.query or parts.fragment:
            raise UsageError(detail="An address is ENDPOINT/BUCKET/PREFIX: leave out what begins with ? or #.")
        bucket, _, prefix = unquote(parts.path).strip("/").partition("/")
        if not bucket:
            raise UsageError(detail="The address names no bucket: say ENDPOINT/BUCKET/PREFIX.")
        known = _AWS_HOST.fullmatch(parts.hostname)
        options = {
            "endpoint": f"{parts.scheme}://{parts.netloc}",
            "region": region or (known[1] if known else _USUAL_REGION),
            "bucket": bucket,
        }
        return cls("s3", _root(prefix), options)

    @classmethod
    def of_url(cls, url: str, region: str | None = None) -> "Location":
        """From SCHEME://CONTAINER/PREFIX?OPTION=VALUE, or webdav://HOST/PATH. Raises UsageError."""
        parts = _split(url)
        scheme, _, transport = parts.scheme.partition("+")
        service = _SERVICES.get(scheme)
        if service is None:
            instead = f" For WebDAV say webdav{'+http' if scheme == 'http' else ''}:// in place of {scheme}://."
            raise UsageError(
                detail=f"The address has none of the schemes {', '.join(sorted(_SERVICES))}."
                f"{instead if scheme in ('http', 'https') else ''}"
            )
        if not parts.hostname or (transport and (scheme, transport) != ("webdav", "http")):
            raise UsageError(detail=f"That is no address of a store: say {scheme}://CONTAINER/PREFIX.")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if set(options) - set(service.options) or parts.fragment:
            takes = " and ".join(f"?{name}=VALUE" for name in service.options) or "nothing"
            raise UsageError(detail=f"After its folder an address of {scheme} takes {takes}: leave out the rest.")
        if "endpoint" in options and _split(options["endpoint"]).scheme not in ("http", "https"):
            raise UsageError(detail="The endpoint in the address is none: say ?endpoint=https://HOST.")
        if region is not None:
            if "region" not in service.options:
                raise UsageError(detail=f"A store of {scheme} has no --region: leave it out.")
            options["region"] = region
        if scheme == "s3":
            options.setdefault("region", _USUAL_REGION)
        if service.container:
            options[service.container] = unquote(parts.netloc)
        else:
            options["endpoint"] = f"{transport or 'https'}://{parts.netloc}"
        missing = [name for name in service.needed if not options.get(name)]
        if missing:
            raise UsageError(detail=f"The address needs {missing[0]}: add ?{missing[0]}=VALUE to it.")
        return cls(scheme, _root(unquote(parts.path)), options)

    @classmethod
    def from_fields(cls, fields: Mapping[str, object]) -> "Location":
        """What `fields` wrote. Raises KeyError or TypeError for what is no such thing."""
        options, secrets = fields["options"], fields["secrets"]
        if not isinstance(options, Mapping) or not isinstance(secrets, Mapping):
            raise TypeError("options and secrets are mappings")
        kind = cls
        if fields["scheme"] == "sftp":
            from client.stores.cloud.sftp.location import SftpLocation as kind  # noqa: N813 - a kind of Location
        return kind(str(fields["scheme"]), str(fields["root"]), dict(options), dict(secrets))

    @property
    def fields(self) -> dict[str, object]:
        """All of it, for a seal."""
        return {
            "scheme": self.scheme,
            "root": self.root,
            "options": dict(self.options),
            "secrets": dict(self.secrets),
        }

    def opened_by(self, key: str | None, secret: str) -> "Location":
        """With what opens it. Raises UsageError for one part without the other."""
        service = _SERVICES[self.scheme]
        if bool(service.key) != bool(key):
            needs = f"needs --access-key, for its {service.key_name}" if service.key else "takes no --access-key"
            raise UsageError(detail=f"A vault on {self.scheme} {needs}.")
        if not secret:
            raise UsageError(detail=f"The {service.secret_name} of the store is empty: give it.")
        secrets = {service.secret: secret} | ({service.key: key} if key else {})
        return Location(self.scheme, self.root, self.options, secrets)

    def below(self, folder: str) -> "Location":
        """A folder of this one."""
        return replace(self, root=f"{self.root.rstrip('/')}/{folder}")

    @property
    def key(self) -> str:
        """The access key, account or user; empty where there is none."""
        return self.secrets.get(_SERVICES[self.scheme].key, "")

    @property
    def key_name(self) -> str:
        """What whoever has such a store calls the key; empty where there is none."""
        return _SERVICES[self.scheme].key_name

    @property
    def secret_name(self) -> str:
        """What whoever has such a store calls the secret."""
        return _SERVICES[self.scheme].secret_name

    @property
    def tested_with(self) -> str:
        """What Oort is tested with, where that is no real server of the kind; else empty."""
        service = _SERVICES.get(self.scheme)
        return service.tested_with if service else ""

    @property
    def place(self) -> str:
        """For a person; that of S3 is as restic takes it."""
        service = _SERVICES[self.scheme]
        root = quote(self.root.rstrip("/"), safe="/") if self.scheme != "s3" else self.root.rstrip("/")
        if self.scheme == "s3":
            return f"s3:{self.options['endpoint']}/{self.options['bucket']}{root}"
        if not service.container:
            scheme, _, host = self.options["endpoint"].partition("://")
            return f"{self.scheme}{'+http' if scheme == 'http' else ''}://{host}{root}"
        # A container of the same name may lie at another account or endpoint.
        rest = {name: self.settings[name] for name in service.options if self.settings.get(name)}
        query = f"?{urlencode(rest, safe=':/')}" if rest else ""
        return f"{self.scheme}://{self.options[service.container]}{root}{query}"

    @property
    def settings(self) -> dict[str, str]:
        """What opendal's operator is made with: nothing is looked for in the environment or on the machine."""
        settings = {"root": self.root, **self.options, **self.secrets, **SETTINGS.get(self.scheme, {})}
        if self.scheme == "azblob" and self.key:
            settings.setdefault("endpoint", f"https://{settings['account_name']}.blob.core.windows.net")
        return settings


def _split(address: str) -> SplitResult:
    if "@" in address:
        raise UsageError(detail=_NO_CREDENTIALS)
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018 - looked at, for it is read only then
    except ValueError:
        raise UsageError(detail="That is no address: look at what stands where the host and its port do.") from None
    return parts


def _root(prefix: str) -> str:
    names = [name for name in prefix.split("/") if name]
    if any(name in (".", "..") or not name.isprintable() for name in names):
        raise UsageError(detail="That is no folder of a store: leave out . and .. and what cannot be printed.")
    return "/" + "/".join(names)
