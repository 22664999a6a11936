"""Waiting for what a stack does by itself, with an end."""

import time
from collections.abc import Callable
from typing import Any

from deploy.driver import Operator
from deploy.local import stack
from deploy.local.cluster import Cluster

PATIENCE_SECONDS = 120.0
_PAUSE_SECONDS = 0.05


def wait_until(operator: Operator, what: str, holds: Callable[[dict[str, Any]], bool]) -> None:
    """Until `holds` is true of what `oort stack status` says; `what` is that in words.

    Asked in this process: a command each time would keep the processor from what is waited for.
    """
    end = time.monotonic() + PATIENCE_SECONDS
    while not holds(status := stack.status(operator.data).to_json()):
        assert time.monotonic() < end, f"not within {PATIENCE_SECONDS:.0f} seconds: {what}: {status}"
        time.sleep(_PAUSE_SECONDS)


def wait_for_copies_of(operator: Operator, bucket: str, *, missing: int = 0) -> None:
    """Until no copy of a bucket is missing, or as many as are given, whatever others on its stack have lost."""
    end = time.monotonic() + PATIENCE_SECONDS
    with Cluster.of_stack(operator.data) as cluster:
        while (found := cluster.bucket(bucket).missing_copies) != missing:
            assert time.monotonic() < end, f"not within {PATIENCE_SECONDS:.0f} seconds: {found} copies are missing"
            time.sleep(_PAUSE_SECONDS)


def wait_for_copies(operator: Operator) -> None:
    """Until `oort stack status` says that all copies are complete."""
    wait_until(operator, "copies are complete", lambda status: bool(status["copies_complete"]))
