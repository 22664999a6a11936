"""Which stores a node keeps bodies in.

Kept true: an address holds no secret, and one that is refused is not repeated, for it may hold one; what is not
understood in it is refused, for opendal passes over options that it does not know.
"""

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from clouds.operations import SETTINGS

_USUAL_REGION = "us-east-1"  # what stores that have no regions take
_ACCOUNT = re.compile(r"/[a-z0-9]{3,24}/?")  # too short for a key


@dataclass(frozen=True, slots=True)
class _Kind:
    """What opendal calls a container, how a write is told to replace nothing, and how an address is written."""

    container: str
    condition: str
    form: str
    options: frozenset[str] = frozenset(("endpoint",))
    endpoint: str = ""  # where none is given


_KINDS = {
    "s3": _Kind(
        "bucket",
        "If-None-Match: *",
        "s3://BUCKET/PREFIX?endpoint=https://HOST&region=REGION",
        frozenset(("endpoint", "region")),
    ),
    "azblob": _Kind(
        "container",
        "If-None-Match: *",
        "azblob://CONTAINER/PREFIX?endpoint=https://ACCOUNT.blob.core.windows.net",
    ),
    "gcs": _Kind("bucket", "ifGenerationMatch=0", "gcs://BUCKET/PREFIX", endpoint="https://storage.googleapis.com"),
}


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """A prefix of a container, which S3 and Google call a bucket; `prefix` has no slash at either end.

    `region` is empty but for S3.
    """

    scheme: str
    container: str
    prefix: str
    endpoint: str
    region: str = ""

    @classmethod
    def parse(cls, url: str) -> "StoreAddress":
        """From SCHEME://CONTAINER/PREFIX?endpoint=https://HOST. Raises ValueError with a line for a person."""
        scheme = url.partition("://")[0].lower()
        kind = _KINDS.get(scheme)
        if kind is None:
            raise ValueError(
                "bodies lie on disks or in stores whose addresses begin with"
                f" {', '.join(f'{known}://' for known in _KINDS)}, and no other is taken: of the rest none is known to"
                " have a write that replaces nothing, without which two nodes could take one prefix"
            )
        try:
            parts = urlsplit(url)
            options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        except ValueError:
            raise ValueError(f"a store's address is {kind.form}") from None
        if "@" in parts.netloc:
            raise ValueError("an address holds no key: that goes into OORT_STORE_KEY_FILE")
        if not parts.netloc or options.keys() - kind.options or parts.fragment:
            raise ValueError(f"a store's address is {kind.form}")
        endpoint = options.get("endpoint", kind.endpoint)
        if not _is_endpoint(endpoint, scheme):
            raise ValueError(
                "a store's address needs its endpoint, with nothing but a host and perhaps a port:"
                f" it is {kind.form}, or has ?endpoint=https://HOST"
            )
        names = [name for name in unquote(parts.path).split("/") if name]
        if any(name in (".", "..") or not name.isprintable() for name in names):
            raise ValueError("the prefix of a store's address has no . or .. and nothing that cannot be printed")
        region = (options.get("region") or _USUAL_REGION) if "region" in kind.options else ""
        return cls(scheme, parts.netloc, "/".join(names), endpoint.rstrip("/").lower(), region)

    def overlaps(self, other: "StoreAddress") -> bool:
        """Whether one of them is the other, or lies in it."""
        mine, others = (f"{one.endpoint}/{one.container}/{one.prefix}/".replace("//", "/") for one in (self, other))
        return mine.startswith(others) or others.startswith(mine)

    @property
    def condition(self) -> str:
        """What such a store calls a write that replaces nothing."""
        return _KINDS[self.scheme].condition

    @property
    def place(self) -> str:
        """For a person; that of S3 is as restic takes it."""
        if self.scheme == "s3":
            return "/".join(filter(None, (f"s3:{self.endpoint}", self.container, self.prefix)))
        rest = "" if self.endpoint == _KINDS[self.scheme].endpoint else f"?endpoint={self.endpoint}"
        return f"{self.scheme}://{'/'.join(filter(None, (self.container, quote(self.prefix))))}{rest}"

    @property
    def settings(self) -> dict[str, str]:
        """What opendal's operator is made with, but for what opens the store."""
        settings = {
            _KINDS[self.scheme].container: self.container,
            "root": f"/{self.prefix}",
            "endpoint": self.endpoint,
            **SETTINGS[self.scheme],
        }
        return settings | ({"region": self.region} if self.region else {})


def _is_endpoint(url: str, scheme: str) -> bool:
    """Whether it names a server, and no more: what else it had would come into logs, be it a key.

    The account of Azure is in the name of its server, or in a path, as its emulator and what runs at a company have it.
    """
    try:
        parts = urlsplit(url)
        named = f"{parts.hostname}:{parts.port}" if parts.port is not None else parts.hostname
    except ValueError:
        return False
    is_plain = parts.netloc.lower() in (named, f"[{parts.hostname}]", f"[{parts.hostname}]:{parts.port}")
    path = parts.path if scheme == "azblob" and _ACCOUNT.fullmatch(parts.path) else ""
    rest = url.rstrip("/") == f"{parts.scheme}://{parts.netloc}{path.rstrip('/')}"
    return parts.scheme in ("http", "https") and is_plain and rest
