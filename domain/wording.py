"""Numbers with what they count, as every text says them."""


def plural(count: int, noun: str, nouns: str = "") -> str:
    """1 copy, 2,000 copies; `nouns` where that is not the noun with an s."""
    return f"{count:,} {noun if count == 1 else nouns or f'{noun}s'}"
