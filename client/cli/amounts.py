"""Sizes and times as a person types them."""

import re
from datetime import UTC, datetime

from client.errors import UsageError

_SIZE = re.compile(r"(\d+)([kmgt]?)", re.IGNORECASE)
_STEPS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def size_of(text: str) -> int:
    """Bytes of a size such as 500, 100k or 2G; units are powers of 1024. Raises UsageError."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise UsageError(detail=f"{text!r} is no size: give a number, and k, M, G or T after it")
    return int(found[1]) << _STEPS[found[2].lower()]


def time_of(text: str) -> int:
    """Nanoseconds since 1970 of an ISO 8601 date or time; of UTC, as listings are, unless it says its zone.

    Raises UsageError.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(detail=f"{text!r} is no time: give 2026-01-31 or 2026-01-31T17:30") from None
    from client.vault.times import time_in_ns

    return time_in_ns(time if time.tzinfo else time.replace(tzinfo=UTC))
