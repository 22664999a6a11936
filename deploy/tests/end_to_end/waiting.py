"""Waiting for what a stack does by itself, with an end."""

import time
from collections.abc import Callable

from oort.storage.v1 import buckets_pb2

from client.errors import ServerError, ServerUnreachable
from deploy.driver import Operator
from deploy.local.cluster import Cluster

PATIENCE_SECONDS = 120.0
_PAUSE_SECONDS = 0.05


def wait_until(what: str, holds: Callable[[], bool]) -> None:
    """`what` is in words what has to hold."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < end, f"not within {PATIENCE_SECONDS:.0f} seconds: {what}"
        time.sleep(_PAUSE_SECONDS)


def wait_for_copies_of(operator: Operator, bucket: str, *, missing: int = 0) -> None:
    """Until no copy of a bucket is missing, or as many as are given, whatever others on its stack have lost."""
    end = time.monotonic() + PATIENCE_SECONDS
    with Cluster.of_stack(operator.data) as cluster:
        while (found := cluster.bucket(bucket).missing_copies) != missing:
            assert time.monotonic() < end, f"not within {PATIENCE_SECONDS:.0f} seconds: {found} copies are missing"
            time.sleep(_PAUSE_SECONDS)


def wait_for_copies(operator: Operator) -> None:
    """Until all copies are complete, as `oort stack status` says it.

    A node is asked, by one connection: asking for the whole status each time would keep the processor from the copies.
    """
    end = time.monotonic() + PATIENCE_SECONDS
    with Cluster.of_stack(operator.data) as cluster:
        while not ((found := _described(cluster)) and found.copies_complete):
            assert time.monotonic() < end, f"not within {PATIENCE_SECONDS:.0f} seconds: {found}"
            time.sleep(_PAUSE_SECONDS)


def _described(cluster: Cluster) -> buckets_pb2.DescribeClusterResponse | None:
    """None when no node can say it just now."""
    try:
        return cluster.describe()
    except (ServerError, ServerUnreachable):
        return None
