"""The node of two workers that every test of the shared stack has to do with."""

import time

import psutil

from deploy.driver import Operator

_PATIENCE_SECONDS = 120.0


def test_both_workers_of_a_node_of_the_stack_serve(stack: Operator) -> None:
    node = stack.status()["services"]["node-a"]
    port, end = int(node["public"].rpartition(":")[2]), time.monotonic() + _PATIENCE_SECONDS
    while len(listening(node["pid"], port)) < 2:
        assert time.monotonic() < end, "the second worker does not listen"
        time.sleep(0.1)


def listening(first: int, port: int) -> list[int]:
    """The processes of a node to which its callers may come."""
    node = psutil.Process(first)
    return [process.pid for process in (node, *node.children()) if listens(process, port)]


def listens(process: psutil.Process, port: int) -> bool:
    found = process.net_connections(kind="tcp")
    return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in found)
