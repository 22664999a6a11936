"""What a person must hear of: how far a look at a vault is; of what it found all is counted, the first are named."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]  # what is looked at, how many are done, and of how many (0: not known)

_NAMED = 1000


class Findings:
    """Objects or blobs, each with what is to be said of it."""

    def __init__(self) -> None:
        self.count = 0
        self.named: list[str] = []

    def __bool__(self) -> bool:
        return self.count > 0

    def add(self, name: object, detail: str) -> None:
        self.count += 1
        if len(self.named) < _NAMED:
            self.named.append(f"{name}: {detail}")
