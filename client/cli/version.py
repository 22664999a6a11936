"""backup-tool version"""

from client.cli.console import say
from client.version import VERSION


def version() -> None:
    """Print the version."""
    say(f"backup-tool {VERSION}")
