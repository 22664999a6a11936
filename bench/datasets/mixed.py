"""A little of everything, as a folder of a person's work is."""

from pathlib import Path

from bench.datasets.changing import write_documents, write_log
from bench.datasets.dataset import Dataset, written
from bench.datasets.files import write_noise, write_small
from bench.datasets.image import write as write_image

ABOUT = """\
1 GiB of all the others: a third of `small` (20,790 files), a quarter of `documents` (250 files), of `incompressible` \
(8 files of 16 MiB) and of `log` (128 MiB), and an eighth of `image` (256 MiB)."""

_PARTS = (
    ("projects", write_small, 0.33),
    ("documents", write_documents, 0.25),
    ("films", write_noise, 0.25),
    ("logs", write_log, 0.25),
    ("machines", write_image, 0.125),
)


def write(root: Path, scale: float) -> None:
    for name, write_part, share in _PARTS:
        part = root / name
        part.mkdir()
        write_part(part, share * scale)


MIXED = Dataset("mixed", ABOUT, written(write))
