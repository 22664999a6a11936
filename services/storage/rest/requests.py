"""What restic's REST protocol asks: the path, the range of a read; and what refusals are in HTTP.

Source: restic's "REST Backend" document, protocol version 2; RFC 9110 for ranges and status codes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from uuid import UUID

import grpc

from domain.names import CONFIG, BadName, ObjectKind, ObjectName
from services.common.errors import NotFound, ServiceError
from services.storage.errors import BadObjectName, QuotaExceeded, StorageError, TooManyCalls
from services.storage.transfer.gets import Part

VERSION_1 = "application/vnd.x.restic.rest.v1"
VERSION_2 = "application/vnd.x.restic.rest.v2"
_LISTED = frozenset((ObjectKind.KEY, ObjectKind.PACK, ObjectKind.INDEX, ObjectKind.SNAPSHOT, ObjectKind.LOCK))
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_CODES: Mapping[grpc.StatusCode, HTTPStatus] = {
    grpc.StatusCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    grpc.StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    grpc.StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.OUT_OF_RANGE: HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    # What no repetition mends: restic 0.17 and later repeat all but 401, 403, 404 and 416 for a quarter of an hour.
    grpc.StatusCode.FAILED_PRECONDITION: HTTPStatus.FORBIDDEN,
    grpc.StatusCode.DEADLINE_EXCEEDED: HTTPStatus.REQUEST_TIMEOUT,
    grpc.StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.INSUFFICIENT_STORAGE,
    grpc.StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    grpc.StatusCode.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    # Of an object of which no copy is whole: for its reader it is not there.
    grpc.StatusCode.DATA_LOSS: HTTPStatus.NOT_FOUND,
}


class OutOfRange(StorageError):
    """Bytes from {offset} on were asked for, and there are {size}."""

    reason = "INVALID_ARGUMENT"
    code = grpc.StatusCode.OUT_OF_RANGE


class NotOffered(StorageError):
    """{what} is not offered here."""

    reason = "INVALID_ARGUMENT"
    code = grpc.StatusCode.UNIMPLEMENTED


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names: the repository if `kind` is None, all of a kind if `name` is, else one object."""

    bucket: UUID
    kind: ObjectKind | None = None
    name: ObjectName | None = None

    @classmethod
    def parse(cls, path: str) -> "Target":
        """`/BUCKET/`, `/BUCKET/config`, `/BUCKET/TYPE/` or `/BUCKET/TYPE/NAME`. Raises NotFound, BadObjectName."""
        repository, _, below = path.removeprefix("/").partition("/")
        try:
            bucket = UUID(repository)
        except ValueError:
            raise NotFound(what="such repository: the path is the vault's, as `backup-tool vault rest` says") from None
        if not below:
            return cls(bucket)
        if below == CONFIG.kind:
            return cls(bucket, CONFIG.kind, CONFIG)
        folder, _, name = below.partition("/")
        if folder not in _LISTED:
            raise NotFound(what=f"type {folder[:40]!r} in a repository")
        kind = ObjectKind(folder)
        if not name:
            return cls(bucket, kind)
        try:
            return cls(bucket, kind, ObjectName(kind, name))
        except BadName:
            raise BadObjectName(name=name[:100], form="SHA-256 in hex") from None


def part_of(header: str | None, size: int) -> Part | None:
    """The part that a Range header asks for; None for all, also where it asks for several. Raises OutOfRange."""
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or found.group(0) == "bytes=-" or not size:
        return None
    first, last = found.groups()
    offset = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if offset >= end:
        raise OutOfRange(offset=offset, size=size)
    return Part(offset, end, size)


def http_status(error: ServiceError) -> HTTPStatus:
    if isinstance(error, QuotaExceeded):
        # A full disk may be emptied, or another node have room; a quota stays what it is.
        return HTTPStatus.FORBIDDEN
    if isinstance(error, TooManyCalls):
        return HTTPStatus.TOO_MANY_REQUESTS
    return _CODES.get(error.code, HTTPStatus.INTERNAL_SERVER_ERROR)


def one_line(error: ServiceError) -> str:
    """A refusal as a status line can have it: restic shows that to its user, and no body."""
    text = " ".join(str(error).split()).encode("ascii", "replace").decode()
    return "".join(letter for letter in text if letter.isprintable())[:300]
