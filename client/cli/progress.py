"""How far a look at a whole vault is: a line, or a JSON document, every ten seconds."""

import time

from client.cli.console import duration_text, emit, note

_PROGRESS_SECONDS = 10.0


class Progress:
    """Called with what is looked at, how many are done, and of how many (0: not known)."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._started = self._last = time.monotonic()

    def __call__(self, things: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last < _PROGRESS_SECONDS:
            return
        self._last = now
        seconds = now - self._started
        if self._as_json:
            emit({"type": "progress", "checking": things, "done": done, "total": total, "seconds": round(seconds, 1)})
        else:
            note(f"{duration_text(seconds)}: {things}: {done:,}{f' of {total:,}' if total else ''}")
