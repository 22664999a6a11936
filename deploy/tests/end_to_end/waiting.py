"""Waiting for what a stack does by itself, with an end."""

import time

from deploy.driver import Operator

PATIENCE_SECONDS = 120.0


def wait_for_copies(operator: Operator) -> None:
    """Until `oort stack status` says that all copies are complete."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not operator.status()["copies_complete"]:
        assert time.monotonic() < end, f"copies are not complete: {operator.status()}"
