"""All datasets, by name."""

from bench.datasets.changing import DOCUMENTS, LOG
from bench.datasets.files import NOISE, SMALL
from bench.datasets.image import IMAGE

DATASETS = {dataset.name: dataset for dataset in (IMAGE, SMALL, NOISE, LOG, DOCUMENTS)}
