"""What is measured: Oort on its embedded stack and the peers that are installed, behind one interface."""

import os
import re
import secrets
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from bench.measure import Run, folder_size, measure
from deploy.driver import Device, Operator


class Contestant(ABC):
    """One backup program with an empty repository of its own below `home`."""

    name: ClassVar[str]

    def __init__(self, home: Path) -> None:
        self.home = home
        self.home.mkdir(parents=True)
        self.log = home / "log"

    @property
    @abstractmethod
    def version(self) -> str: ...

    @property
    def env(self) -> Mapping[str, str]:
        return os.environ | {"HOME": str(self.home)}

    @abstractmethod
    def prepare(self) -> None:
        """Make the empty repository."""

    @abstractmethod
    def backup(self, source: Path) -> Run: ...

    @abstractmethod
    def restore(self, target: Path) -> Run: ...

    @abstractmethod
    def stored(self) -> int:
        """Bytes in the repository, of one copy."""

    def _run(self, *command: str) -> Run:
        return measure(command, self.env, self.log)


class Restic(Contestant):
    name = "restic"

    @property
    def version(self) -> str:
        return _version("restic", "version")

    @property
    def env(self) -> Mapping[str, str]:
        return {**super().env, "RESTIC_PASSWORD": "bench", "RESTIC_REPOSITORY": str(self.home / "repository")}

    def prepare(self) -> None:
        self._run("restic", "init", "--repository-version", "2")

    def backup(self, source: Path) -> Run:
        return self._run("restic", "backup", "--quiet", str(source))

    def restore(self, target: Path) -> Run:
        return self._run("restic", "restore", "latest", "--quiet", "--target", str(target))

    def stored(self) -> int:
        return folder_size(self.home / "repository")


class Borg(Contestant):
    name = "borg"
    _archives = 0

    @property
    def version(self) -> str:
        return _version("borg", "--version")

    @property
    def env(self) -> Mapping[str, str]:
        return {**super().env, "BORG_PASSPHRASE": "bench", "BORG_REPO": str(self.home / "repository")}

    def prepare(self) -> None:
        self._run("borg", "init", "--encryption", "repokey")

    def backup(self, source: Path) -> Run:
        self._archives += 1
        return self._run("borg", "create", "--compression", "zstd,3", f"::{self._archives}", str(source))

    def restore(self, target: Path) -> Run:
        # borg extracts into the working directory and has no option for another one.
        target.mkdir(parents=True)
        return self._run("sh", "-c", f'cd "$0" && exec borg extract ::{self._archives}', str(target))

    def stored(self) -> int:
        return folder_size(self.home / "repository")


class Oort(Contestant):
    """backup-tool against the embedded stack, with the default template: two copies on two nodes."""

    name = "oort"
    _vault = "bench"
    _user = "bench"

    def __init__(self, home: Path, operator: Operator) -> None:
        super().__init__(home)
        self._operator = operator
        self._device = Device(home / "device", self.env)

    @property
    def version(self) -> str:
        return _version(*self._device.tool.line("version"))

    def prepare(self) -> None:
        password = secrets.token_urlsafe(24)
        self._operator.add_user(self._user, password)
        self._device.log_in(self._operator, self._user, password)
        self._device.request_vault(self._vault)

    def backup(self, source: Path) -> Run:
        return self._run(*self._device.tool.line("backup", str(source), "--vault", self._vault, "--json"))

    def restore(self, target: Path) -> Run:
        options = ("--target", str(target), "--vault", self._vault, "--json")
        return self._run(*self._device.tool.line("restore", "latest", *options))

    def stored(self) -> int:
        bucket = self._device.recovery(self._vault)["bucket"]
        return max(folder_size(folder) for folder in self._operator.bucket_folders(bucket))


def _version(*command: str) -> str:
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+\.\d+(\.\d+)?", output)
    return found.group() if found else output.strip()


@contextmanager
def contestants(folder: Path) -> Iterator[list[Contestant]]:
    """Oort first, then the peers that are on PATH. The stack is up meanwhile."""
    operator = Operator(folder / "stack")
    operator.up()
    try:
        peers: list[Contestant] = [
            kind(folder / kind.name) for kind in (Restic, Borg) if shutil.which(kind.name) is not None
        ]
        yield [Oort(folder / "oort", operator), *peers]
    finally:
        operator.down()
