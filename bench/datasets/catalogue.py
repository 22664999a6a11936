"""All datasets, by name."""

from bench.datasets.changing import DOCUMENTS, LOG
from bench.datasets.files import NOISE, SMALL
from bench.datasets.image import IMAGE
from bench.datasets.mixed import MIXED

DATASETS = {dataset.name: dataset for dataset in (MIXED, IMAGE, SMALL, NOISE, LOG, DOCUMENTS)}
