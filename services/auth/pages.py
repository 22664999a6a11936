"""Pages whose rows hold opaque bytes: they end early, so that an answer stays under the bound of a message."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from services.common.paging import Page

# Of the 4 MiB that a message may have; the rest is for what is not counted.
PAGE_BYTES = 3 << 20

Row = TypeVar("Row")


def cut(
    page: Page, rows: Sequence[Row], key: Callable[[Row], Sequence[str]], size: Callable[[Row], int]
) -> tuple[list[Row], str]:
    """The rows that fit, at least one, and the token of the next page; `size` counts a row's opaque bytes."""
    fitting, total = 0, 0
    for row in rows[: page.size]:
        total += size(row)
        if fitting and total > PAGE_BYTES:
            break
        fitting += 1
    return Page(max(fitting, 1), page.after).cut(rows, key)
