"""Waiting for what a stack does by itself, with an end."""

import time
from collections.abc import Callable
from typing import Any

from deploy.driver import Operator

PATIENCE_SECONDS = 120.0


def wait_until(operator: Operator, what: str, holds: Callable[[dict[str, Any]], bool]) -> None:
    """Until `holds` is true of what `oort stack status` says; `what` is that in words."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not holds(status := operator.status()):
        assert time.monotonic() < end, f"not within {PATIENCE_SECONDS:.0f} seconds: {what}: {status}"


def wait_for_copies(operator: Operator) -> None:
    """Until `oort stack status` says that all copies are complete."""
    wait_until(operator, "copies are complete", lambda status: bool(status["copies_complete"]))
