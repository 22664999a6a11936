"""Content written with holes where it is zeros.

Kept true: only a file that was made of zeros, and has not been written there, is written so. A block of the file that
is all zeros becomes a hole, however its bytes are spread over contents.
"""

from collections.abc import Iterator

from client.platforms.linux import write_all

BLOCK = 4096  # bytes; what common file systems allocate, and the shortest run of zeros that is looked for
_ZEROS = bytes(BLOCK)
_MANY_ZEROS = bytes(64 << 10)


def write_sparsely(opened: int, content: bytes, offset: int) -> int:
    """Write `content` at `offset`, without the whole blocks of zeros in it. Raises OSError.

    Answers up to where in the content it was written: a new file that is to end in a hole must be made longer.
    """
    if not offset % BLOCK and 0 not in content[::BLOCK]:  # nearly every file: no block begins with a zero
        write_all(opened, content, offset)
        return len(content)
    view = memoryview(content)
    hole_end = written = 0
    for start, end in _holes(content, offset):
        if start > hole_end:
            write_all(opened, view[hole_end:start], offset + hole_end)
            written = start
        hole_end = end
    if hole_end < len(content):
        write_all(opened, view[hole_end:], offset + hole_end)
        written = len(content)
    return written


def _holes(content: bytes, offset: int) -> Iterator[tuple[int, int]]:
    """Beginnings and ends of the zeros in content that lies at `offset`, in order; the last may be told twice.

    The parts of blocks at both edges count too: the neighbour may have the rest of such a block, and zeros in it.
    """
    first = min(-offset % BLOCK, len(content))
    last = len(content) - (offset + len(content)) % BLOCK
    if first and not content[:first].strip(b"\0"):
        yield 0, first
    heads = content[first::BLOCK]  # one byte of each block: where it is no zero, nothing else need be looked at
    number = heads.find(0)
    while number >= 0:
        start = first + number * BLOCK
        if not content.startswith(_ZEROS, start):
            number = heads.find(0, number + 1)
            continue
        end = _end_of_zeros(content, start)
        yield start, end
        number = heads.find(0, (end - first) // BLOCK + 1)
    if first <= last < len(content) and not content[last:].strip(b"\0"):
        yield last, len(content)


def _end_of_zeros(content: bytes, start: int) -> int:
    """Where the zeros from `start` end, to within a block; the end of the content if they reach it."""
    at = start
    for zeros in (_MANY_ZEROS, _ZEROS):
        while content.startswith(zeros, at):
            at += len(zeros)
    return len(content) if content.startswith(_ZEROS[: len(content) - at], at) else at
