import hashlib
from collections import Counter
from pathlib import Path

import pytest

from bench.datasets.catalogue import DATASETS
from bench.datasets.content import GIB, Noise
from bench.datasets.dataset import Tree, folder

_SCALE = 1 / 128
# What every machine must make: before and after the change. Other bytes make all figures before them another thing.
_GOLDEN = {
    "documents": "e52e5b3c6665876b db4b94428211e80f",
    "image": "fd250f825086c9b1",
    "incompressible": "44073db8c3f7f322",
    "log": "0a34fcc4e4e77022 84fb981d2620188a",
    "mixed": "b7000959cf6930cc",
    "small": "d6275bd19374738d",
}


def _digest(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        digest.update(f"{path.relative_to(root)}\0".encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_a_dataset_is_the_same_bytes_on_every_machine(name: str, tmp_path: Path) -> None:
    dataset = DATASETS[name]
    source = dataset.place(tmp_path, _SCALE)
    digests = [_digest(source)]
    if dataset.change is not None:
        dataset.change(source)
        digests.append(_digest(source))
    assert " ".join(digests) == _GOLDEN[name]


def test_an_image_has_its_size(tmp_path: Path) -> None:
    assert Tree.of(DATASETS["image"].place(tmp_path, _SCALE)) == Tree(1, 2 * GIB // 128)


def test_a_mixed_tree_has_a_gibibyte_of_everything(tmp_path: Path) -> None:
    source = DATASETS["mixed"].place(tmp_path, 1 / 16)
    parts = {part.name: Tree.of(part).size for part in source.iterdir()}
    assert set(parts) == {"documents", "films", "logs", "machines", "projects"}
    assert sum(parts.values()) == pytest.approx(GIB / 16, rel=0.1)


def test_small_files_have_the_share_of_duplicates_that_is_stated(tmp_path: Path) -> None:
    source = DATASETS["small"].place(tmp_path, 1 / 32)
    bodies = Counter(path.read_bytes() for path in source.rglob("*") if path.is_file() and path.stat().st_size)
    copies = bodies.total() - len(bodies)
    assert 0.08 < copies / bodies.total() < 0.12


def test_a_folder_of_the_users_is_taken_as_it_is(tmp_path: Path) -> None:
    assert folder(tmp_path).place(tmp_path / "work", 1.0) == tmp_path


def test_noise_is_drawn_evenly_between_its_bounds() -> None:
    noise = Noise("test")
    drawn = Counter(noise.between(3, 6) for _ in range(4000))
    assert sorted(drawn) == [3, 4, 5, 6]
    assert all(900 < times < 1100 for times in drawn.values())
