"""The installation's servers, known by their heartbeats."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Server:
    """One instance of a role, and when it was last heard."""

    role: str
    instance: str
    version: str
    public_endpoint: str
    internal_endpoint: str
    started: datetime
    last_seen: datetime
