import pytest

from bench.datasets.dataset import Tree
from bench.floor import OPEN, PUT, READ, SIZE, Floor
from bench.measure import Run


def test_a_floor_counts_both_ends_of_its_steps() -> None:
    steps: dict[str, tuple[float, float]] = {READ: (1, 0), OPEN: (2, 0), PUT: (1, 3), SIZE: (0, 1)}
    floor = Floor("image", Tree(1, 100), Run(seconds=10, client_cpu=12, server_cpu=4, peak=0), steps)
    assert floor.ratio() == pytest.approx(8 / 16)
    assert floor.ratio(OPEN, SIZE) == pytest.approx(5 / 16)
    assert floor.ratio_of_time(2) == pytest.approx(4 / 10)
