"""Pages of lists: an opaque token holds the key of the last row, so a page costs the same wherever it lies."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from services.common.errors import InvalidArgument

DEFAULT_SIZE = 100
MAX_SIZE = 1000

Row = TypeVar("Row")


class PageRequest(Protocol):
    """Every list request: `page_size` (0: the default) and `page_token` (empty: the first page)."""

    @property
    def page_size(self) -> int: ...
    @property
    def page_token(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Page:
    """At most `size` rows with keys greater than `after`; an empty key begins at the beginning."""

    size: int
    after: tuple[str, ...] = ()

    @property
    def limit(self) -> int:
        """How many rows to ask the database for: one more than the page holds tells whether another page follows."""
        return self.size + 1

    def cut(self, rows: Sequence[Row], key: Callable[[Row], Sequence[str]]) -> tuple[list[Row], str]:
        """The rows of this page from up to `limit` rows, and the token of the next page, empty at the end."""
        shown = list(rows[: self.size])
        return shown, (token_of(key(shown[-1])) if len(rows) > self.size else "")


def page_of(request: PageRequest, parts: int = 1) -> Page:
    """Read a list request whose rows have a key of `parts` texts. Raises InvalidArgument for a token not of ours."""
    size = DEFAULT_SIZE if request.page_size <= 0 else min(request.page_size, MAX_SIZE)
    if not request.page_token:
        return Page(size)
    try:
        key = json.loads(base64.b64decode(request.page_token.encode(), altchars=b"-_", validate=True))
    except (binascii.Error, UnicodeError, ValueError):
        key = None
    if not isinstance(key, list) or len(key) != parts or not all(_is_text(part) for part in key):
        raise InvalidArgument(detail="page_token is not one that this list gave.")
    return Page(size, tuple(key))


def _is_text(part: object) -> bool:
    """Printable: Postgres takes no NUL and no lone surrogate, and no key of ours has one."""
    return isinstance(part, str) and part.isprintable()


def token_of(key: Sequence[str]) -> str:
    """The token of the page that begins after `key`."""
    return base64.urlsafe_b64encode(json.dumps(list(key), separators=(",", ":")).encode()).decode()
