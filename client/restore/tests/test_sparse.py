"""Holes are where whole blocks of zeros are, wherever the content was cut."""

import os
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from client.restore.compare import differences
from client.restore.sparse import BLOCK, write_sparsely


def a_content(random: Random) -> bytes:
    """Some blocks, and parts of them, of which about half are zeros."""
    parts = [
        (bytes(size), random.randbytes(size))[random.random() < 0.5]
        for size in (random.choice((1, 100, BLOCK, 3 * BLOCK, 20 * BLOCK)) for _ in range(30))
    ]
    return b"".join(parts)


def with_holes(path: Path, content: bytes) -> Path:
    with path.open("wb") as file:
        for offset in range(0, len(content), BLOCK):
            if any(content[offset : offset + BLOCK]):
                file.seek(offset)
                file.write(content[offset : offset + BLOCK])
        file.truncate(len(content))
    return path


@pytest.mark.parametrize("seed", range(10))
def test_content_that_was_cut_anywhere_has_every_hole(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    content = a_content(random)
    original, written = with_holes(tmp_path / "original", content), tmp_path / "written"
    cuts = sorted({0, len(content), *(random.randrange(len(content)) for _ in range(8))})
    with written.open("wb") as file:
        file.truncate(len(content))
        for start, end in pairwise(cuts):
            reached = write_sparsely(file.fileno(), content[start:end], start)
            assert not any(content[start + reached : end])
    for path in (original, written):
        os.utime(path, ns=(5, 5))
    assert list(differences(original, written, holes=True)) == []
    assert written.stat().st_blocks == original.stat().st_blocks
