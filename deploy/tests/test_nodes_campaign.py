"""What the campaign of three nodes takes for harm and for healing: it must not be blind."""

from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from deploy.campaigns.nodes.faults import Flipped, flip_a_bit


@pytest.mark.parametrize("seed", range(8))
def test_one_bit_is_flipped_and_healed_is_what_has_the_bytes_of_its_name_in_both_places(
    tmp_path: Path, seed: int
) -> None:
    body = Random(seed).randbytes(1000)
    copies = tmp_path / "one", tmp_path / "other"
    for copy in copies:
        copy.write_bytes(body)
    flipped = Flipped(f"data/{sha256(body).hexdigest()}", copies)
    assert flipped.is_healed
    flip_a_bit(copies[0], Random(seed))
    found = copies[0].read_bytes()
    assert len(found) == len(body)
    assert sum((before ^ after).bit_count() for before, after in zip(body, found, strict=True)) == 1
    assert not flipped.is_healed
    copies[1].write_bytes(found)
    assert not flipped.is_healed
    for copy in copies:
        copy.write_bytes(body)
    assert flipped.is_healed
