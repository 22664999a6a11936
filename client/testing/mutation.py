"""Valid documents made wrong: what fuzz tests and the fuzz campaign feed to readers.

Kept true: the same random numbers make the same bytes, so that whatever is found can be found again.
"""

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Mutator = Callable[[Random, bytes], bytes]

_DEEP = 100_000  # levels; a reader that calls itself for each would exhaust its stack
_NUMBERS = (0, -1, 1, 31, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1, 2**64, 10**30)
_RAW = (
    "null",
    "true",
    "{}",
    "[]",
    '""',
    "1.5",
    "1e999",
    "-0",
    "NaN",
    '"\\ud800"',
    '"\\u0000"',
    '"../x"',
    '"a/b"',
    '"\\\\xff"',
    '"0000-00-00T00:00:00Z"',
    '"9999-12-31T23:59:59.999999999-23:59"',
    f'"{"ab" * 32}"',
    f'"{"A" * 300}"',
    "9" * 5_000,  # more digits than Python turns into a number
    "[" * _DEEP,
    "[" * _DEEP + "]" * _DEEP,
    '{"a":' * _DEEP,
)
_PIECES = (
    b"\0",
    b"\xff",
    b"\xff" * 12,
    b"\x80" * 400,
    b'"',
    b"\\",
    b"\\u",
    b"{",
    b"]",
    b"\n",
    b"/",
    b"..",
    b"\xef\xbb\xbf",
)


def mutated(random: Random, seeds: Sequence[bytes], mutators: Sequence[Mutator]) -> bytes:
    """One of the seeds, made wrong in one to four ways."""
    body = random.choice(seeds)
    for _ in range(random.choice((1, 1, 2, 4))):
        body = random.choice(mutators)(random, body)
    return body


def mutate_bytes(random: Random, body: bytes) -> bytes:
    """Flip, cut, insert, repeat or replace bytes, whatever they mean."""
    start = random.randint(0, len(body))
    end = min(len(body), start + random.choice((1, 2, 4, 8, 64)))
    before, here, after = body[:start], body[start:end], body[end:]
    flipped = bytes((here[0] ^ 1 << random.randrange(8),)) + here[1:] if here else here
    ways = (
        before,
        before + flipped + after,
        before + after,
        before + random.choice(_PIECES) + here + after,
        before + random.randbytes(len(here)) + after,
        before + here + here + after,
        random.randbytes(random.choice((0, 1, 3, 40, 200))),
    )
    return random.choice(ways)


def mutate_json(random: Random, body: bytes) -> bytes:
    """Change one value, key or item of a JSON document; bytes that are none are changed as bytes."""
    try:
        document = json.loads(body)
        text = json.dumps(_changed(random, document), separators=(",", ":"))
    except (ValueError, RecursionError):
        return mutate_bytes(random, body)
    for number, raw in enumerate(_RAW):
        text = text.replace(f'"@raw {number}@"', raw)
    return text.encode("utf-8", "surrogatepass")


def _changed(random: Random, value: Any) -> Any:
    if isinstance(value, dict) and value and random.random() < 0.9:  # noqa: PLR2004 - mostly deeper
        return _changed_object(random, value)
    if isinstance(value, list) and value and random.random() < 0.8:  # noqa: PLR2004
        at = random.randrange(len(value))
        new: list[Any] = random.choice(
            ([], [value[at]] * 2, [_changed(random, value[at])], [_changed(random, value[at])])
        )
        return [*value[:at], *new, *value[at + 1 :]]
    return _another(random, value)


def _changed_object(random: Random, value: dict[str, Any]) -> dict[str, Any]:
    key = random.choice(list(value))
    match random.randrange(8):
        case 0:
            return {name: item for name, item in value.items() if name != key}
        case 1:
            return {(name if name != key else name.upper()): item for name, item in value.items()}
        case 2:
            # The same key once more: a JSON escape keeps it another key for Python.
            return dict(reversed(list(value.items())))
        case _:
            return {name: (_changed(random, item) if name == key else item) for name, item in value.items()}


def _another(random: Random, value: Any) -> Any:
    match random.randrange(4):
        case 0:
            return random.choice(_NUMBERS)
        case 1 if isinstance(value, str):
            return mutate_bytes(random, value.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")
        case 2:
            return [value] if random.random() < 0.5 else {"id": value}  # noqa: PLR2004
        case _:
            return f"@raw {random.randrange(len(_RAW))}@"


def mutate_keys(random: Random, body: bytes) -> bytes:
    """Repeat a piece of a JSON text, keys included: a key may come twice."""
    parts = body.split(b",")
    at = random.randrange(len(parts))
    return b",".join([*parts[:at], parts[at], random.choice(parts), *parts[at + 1 :]])
