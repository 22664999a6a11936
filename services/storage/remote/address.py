"""Which stores a node keeps bodies in, and the key that opens them.

Kept true: an address holds no secret, and one that is refused is not repeated, for it may hold one; what is not
understood in it is refused, for opendal passes over options that it does not know.
"""

import configparser
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from services.common.errors import StartError

_USUAL_REGION = "us-east-1"  # what stores that have no regions take
_OPTIONS = frozenset(("endpoint", "region"))
_OTHERS = 0o077


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """A prefix of a bucket of an S3 store; `prefix` has no slash at either end."""

    bucket: str
    prefix: str
    endpoint: str
    region: str

    @classmethod
    def parse(cls, url: str) -> "StoreAddress":
        """From s3://BUCKET/PREFIX?endpoint=https://HOST&region=REGION. Raises ValueError with a line for a person."""
        try:
            parts = urlsplit(url)
            options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        except ValueError:
            raise ValueError("a store's address is s3://BUCKET/PREFIX?endpoint=https://HOST") from None
        if parts.scheme != "s3":
            raise ValueError("bodies lie on disks or in S3 stores: an address begins with s3://, and no other is taken")
        if "@" in parts.netloc:
            raise ValueError("an address holds no key: that goes into OORT_STORE_KEY_FILE")
        if not parts.netloc or options.keys() - _OPTIONS or parts.fragment:
            raise ValueError("a store's address is s3://BUCKET/PREFIX?endpoint=https://HOST&region=REGION")
        if not _is_endpoint(options.get("endpoint", "")):
            raise ValueError(
                "a store's address needs its endpoint, with nothing but a host and perhaps a port:"
                " add ?endpoint=https://HOST to it"
            )
        names = [name for name in unquote(parts.path).split("/") if name]
        if any(name in (".", "..") or not name.isprintable() for name in names):
            raise ValueError("the prefix of a store's address has no . or .. and nothing that cannot be printed")
        endpoint = options["endpoint"].rstrip("/").lower()
        return cls(parts.netloc, "/".join(names), endpoint, options.get("region") or _USUAL_REGION)

    def overlaps(self, other: "StoreAddress") -> bool:
        """Whether one of them is the other, or lies in it."""
        mine, others = (f"{one.endpoint}/{one.bucket}/{one.prefix}/".replace("//", "/") for one in (self, other))
        return mine.startswith(others) or others.startswith(mine)

    @property
    def place(self) -> str:
        """For a person, and as restic takes it."""
        return "/".join(filter(None, (f"s3:{self.endpoint}", self.bucket, self.prefix)))


def _is_endpoint(url: str) -> bool:
    """Whether it names a server, and no more: what else it had would come into logs, be it a key."""
    try:
        parts = urlsplit(url)
        named = f"{parts.hostname}:{parts.port}" if parts.port is not None else parts.hostname
    except ValueError:
        return False
    is_plain = parts.netloc.lower() in (named, f"[{parts.hostname}]", f"[{parts.hostname}]:{parts.port}")
    return parts.scheme in ("http", "https") and is_plain and url.rstrip("/") == f"{parts.scheme}://{parts.netloc}"


@dataclass(frozen=True, slots=True)
class StoreKey:
    access_key: str
    secret: str

    def __repr__(self) -> str:
        return f"StoreKey({self.access_key!r})"

    @classmethod
    def read(cls, path: Path) -> "StoreKey":
        """From a file as AWS's tools have it, section `default`, that nobody else may read. Raises StartError."""
        try:
            with path.open() as file:
                mode = path.stat().st_mode
                read = configparser.ConfigParser(interpolation=None)
                read.read_file(file)
            if mode & _OTHERS:
                raise StartError(f"OORT_STORE_KEY_FILE: others may read {path}: chmod 600 it")
            if "aws_session_token" in read["default"]:
                raise StartError(
                    f"OORT_STORE_KEY_FILE: {path} has a key for a while (aws_session_token): give a lasting one"
                )
            return cls(read["default"]["aws_access_key_id"], read["default"]["aws_secret_access_key"])
        except OSError as error:
            raise StartError(f"OORT_STORE_KEY_FILE: cannot read {path}: {error.strerror}") from error
        except (configparser.Error, UnicodeDecodeError, KeyError):
            raise StartError(
                f"OORT_STORE_KEY_FILE: {path} lacks a section [default] with aws_access_key_id and"
                " aws_secret_access_key"
            ) from None
