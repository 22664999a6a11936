"""What a second vault costs in processor time, worker processes included (docs/decisions/several-vaults.md).

That nothing is read, hashed or compressed twice is counted in test_several.py, whatever the machine does meanwhile.
"""

import resource
import shutil
import subprocess
import sys
from itertools import accumulate
from pathlib import Path
from random import Random

import pytest

from client.testing.vaults import a_vault

_FOLDERS, _FILES, _LARGE = 10, 100, 4  # files in each folder, and large ones of 24 MiB
_BOUND = 1.3
_LOOKS = 12  # at most, at each

_BACKUP = """
import sys
from pathlib import Path
from client.testing.vaults import VaultForTests, backup_to_several, summary_of
source, *vaults = map(Path, sys.argv[1:])
for outcome in backup_to_several([VaultForTests(vault, vault.parent / "cache") for vault in vaults], source):
    assert summary_of(outcome).new_bytes > 100 << 20
"""


def texts(root: Path) -> None:
    """160 MB of made-up words, common and rare as those of a language: they shrink to a third, as texts and code do."""
    random = Random(7)
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    words = ["".join(random.choices(letters, range(26, 0, -1), k=random.randint(2, 11))) for _ in range(20_000)]
    shares = list(accumulate(1 / rank for rank in range(1, len(words) + 1)))
    # Drawn once by their shares; then a word is one of these, which takes a quarter of the time.
    often = random.choices(words, cum_weights=shares, k=1 << 16)

    def text(size: int) -> str:
        return " ".join(map(often.__getitem__, memoryview(random.randbytes(size // 6 * 2)).cast("H")))

    for folder in range(_FOLDERS):
        (root / f"folder {folder}").mkdir(parents=True)
        for number in range(_FILES):
            (root / f"folder {folder}" / f"{number}.txt").write_text(text(random.randint(2_000, 50_000)))
    for number in range(_LARGE):
        (root / f"{number}.log").write_text(text(24 << 20))


def processor_seconds(source: Path, *vaults: Path) -> float:
    """Of a first backup, by a process of its own, and all that it starts."""
    for vault in vaults:
        a_vault(vault)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", _BACKUP, str(source), *map(str, vaults)], check=True, cwd=Path(__file__).parents[3]
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.long
def test_one_read_to_two_vaults_costs_at_most_1_3_of_the_processor_time_of_one(tmp_path: Path) -> None:
    """The least of all looks at one vault, and at two, by turns: as few as it takes.

    It may look often, for other work on the machine (it shares caches and memory with it) only ever adds to
    the processor time of a backup: the least is nearest to what a backup itself takes. What such work adds to one vault
    alone can hide a little of what a second costs; that nothing is done twice does not rest on this test.
    """
    texts(tmp_path / "source")
    one: list[float] = []
    two: list[float] = []
    for look in range(_LOOKS):
        here = tmp_path / str(look)
        one.append(processor_seconds(tmp_path / "source", here / "one" / "vault"))
        two.append(processor_seconds(tmp_path / "source", here / "two" / "first", here / "two" / "second"))
        shutil.rmtree(here)
        if min(two) <= _BOUND * min(one):
            return
    pytest.fail(f"{one} seconds for one vault, and {two} for two")
