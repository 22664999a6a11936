"""The rates of a device's line: kept in its home, and given anew for one command."""

import json

from client.account.home import Home
from client.errors import UsageError
from client.stores.limited import Limits
from domain.bandwidth import OFF, Timetable

_FILE = "limits.json"
DIRECTIONS = ("upload", "download")


def kept_texts(home: Home) -> dict[str, str]:
    """What is kept for each direction, as it was given; `off` where nothing is. Raises UsageError."""
    kept = {} if home.read(_FILE) is None else home.read_json(_FILE)
    texts = {direction: kept.get(direction, OFF) for direction in DIRECTIONS} if isinstance(kept, dict) else {}
    if not texts or not all(isinstance(text, str) and _is_timetable(text) for text in texts.values()):
        raise UsageError(detail=f"{home.folder / _FILE} cannot be read: remove it, and set the limits again.")
    return texts


def keep_texts(home: Home, given: dict[str, str]) -> dict[str, str]:
    """Keep what is given in place of what was for those directions. Answers all. Raises UsageError."""
    for text in given.values():
        timetable_of(text)
    with home.lock():
        texts = kept_texts(home) | given
        home.write(_FILE, json.dumps(texts).encode())
    return texts


def limits_of(home: Home, given: dict[str, str]) -> Limits:
    """Those of one command: as given with it, else as kept. Raises UsageError."""
    texts = given if given.keys() >= set(DIRECTIONS) else kept_texts(home) | given
    return Limits(*(timetable_of(texts[direction]) for direction in DIRECTIONS))


def timetable_of(text: str) -> Timetable | None:
    """None for `off`. Raises UsageError."""
    try:
        timetable = Timetable.parse(text)
    except ValueError as error:
        raise UsageError(detail=f"{error}.") from None
    return timetable if any(rate is not None for _, rate in timetable.changes) else None


def _is_timetable(text: str) -> bool:
    try:
        Timetable.parse(text)
    except ValueError:
        return False
    return True
