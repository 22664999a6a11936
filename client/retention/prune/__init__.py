"""Prune: what no snapshot needs is removed from a vault."""

from client.retention.prune.limits import PruneLimits
from client.retention.prune.report import PruneReport
from client.retention.prune.run import plan_prune, prune

__all__ = ["PruneLimits", "PruneReport", "plan_prune", "prune"]
