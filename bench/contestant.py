"""What takes part in a comparison: one backup program with an empty repository of its own."""

import os
import re
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.measure import Run, measure


class Contestant(ABC):
    """One backup program; everything of it lies below `home`."""

    key: str  # in results
    title: str  # for people
    version: str

    def __init__(self, home: Path) -> None:
        self.home = home
        self.home.mkdir(parents=True)
        self.log = home / "log"

    @property
    def env(self) -> Mapping[str, str]:
        # As on users' machines, where a program is compiled once; with this variable it would be in every run.
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return kept | {"HOME": str(self.home)}

    @property
    def servers(self) -> Sequence[int]:
        """The processes that serve it, by pid; none when it writes to a folder."""
        return ()

    @abstractmethod
    def prepare(self) -> None:
        """Make the empty repository."""

    @abstractmethod
    def backup_command(self, source: Path) -> list[str]: ...

    @abstractmethod
    def restore_command(self, target: Path) -> list[str]:
        """Of the latest snapshot, into a folder that does not exist yet."""

    @abstractmethod
    def stored(self) -> int:
        """Bytes in the repository, of one copy."""

    def backup(self, source: Path) -> Run:
        return self.run(self.backup_command(source))

    def restore(self, target: Path) -> Run:
        return self.run(self.restore_command(target))

    def run(self, command: Sequence[str], on_start: Callable[[int], None] = lambda _pid: None) -> Run:
        return measure(command, self.env, self.log, self.servers, on_start)


def version_of(*command: str) -> str:
    """The number in what a program says of itself."""
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+\.\d+(\.\d+)?", output)
    return found.group() if found else output.strip()
