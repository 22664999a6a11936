"""Nodes of a folder come out in order."""

from random import Random

import pytest

from client.backup.new_nodes import NewNodes


@pytest.mark.parametrize("count", [0, 1, 4096, 4097, 20_000])
@pytest.mark.parametrize("reach", [1, 700, 10**9])
def test_nodes_come_out_in_the_order_of_their_names_whatever_order_they_came_in(count: int, reach: int) -> None:
    names = sorted({b"%x" % (number * 7919) + b" !"[: number % 3] for number in range(count)})
    # Two workers bring neighbours nearly in order; in the worst case nothing is.
    came = [name for _, name in sorted((at + Random(at).randrange(reach), name) for at, name in enumerate(names))]
    nodes = NewNodes()
    for name in came:
        nodes.add(name, b'{"name":"' + name + b'\\u0000"}')
    assert bool(nodes) == bool(count)
    assert list(nodes.in_order()) == [(name, b'{"name":"' + name + b'\\u0000"}') for name in names]
    assert not nodes
