"""What a person must hear of: all is counted, the first are named, so that memory stays bounded."""

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
