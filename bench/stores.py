"""Oort and restic on one server of S3: rclone's, which verifies signatures and writes into a folder.

Its processor seconds are in both figures. A program in Go takes little of the machine from either: moto, on
which the tests run, is one in Python, and would be what is measured.
"""

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.contestant import Contestant, version_of
from bench.datasets.dataset import Tree
from bench.measure import NotMeasured
from bench.oort import VAULT, restore_options
from clouds.testing import emulators
from clouds.testing.emulators import RCLONE, Emulator
from deploy.driver import Device, Operator
from deploy.local.ports import free_port


class OortOnS3(Contestant):
    """One device, with a vault in a bucket; of the stack auth alone is asked, for the profile."""

    key = "oort-s3"
    title = "oort to S3"

    def __init__(self, home: Path, operator: Operator, server: Emulator) -> None:
        super().__init__(home)
        self._operator = operator
        self._server = server
        self._device = Device(home / "device", self.env)
        self.version = version_of(*self._device.tool.line("version"))

    @property
    def servers(self) -> Sequence[int]:
        return [self._server.pid, self._operator.status()["services"]["auth"]["pid"]]

    def prepare(self) -> None:
        password = secrets.token_urlsafe(24)
        self._operator.add_user(self.key, password)
        self._device.log_in(self._operator, self.key, password)
        address = f"{self._server.endpoint}/{self._server.container}/{self.key}"
        place = ("--s3", address, "--access-key", self._server.key, "--secret-stdin")
        self._device.tool.ok("vault", "add", *place, "--name", VAULT, stdin=f"{self._server.secret}\n")

    def backup_command(self, source: Path) -> list[str]:
        return self._device.tool.line("backup", str(source), "--vault", VAULT, "--json")

    def restore_command(self, target: Path) -> list[str]:
        return self._device.tool.line(*restore_options(target))

    def stored(self) -> int:
        return _stored(self._server, self.key)


class ResticOnS3(Contestant):
    """restic with its own settings."""

    key = "restic-s3"
    title = "restic to S3"

    def __init__(self, home: Path, server: Emulator) -> None:
        super().__init__(home)
        self._server = server
        self.version = f"{version_of('restic', 'version')}, rclone {version_of(str(RCLONE), 'version')}"

    @property
    def env(self) -> Mapping[str, str]:
        return {
            **super().env,
            "AWS_ACCESS_KEY_ID": self._server.key,
            "AWS_SECRET_ACCESS_KEY": self._server.secret,
            "RESTIC_PASSWORD": "bench",
            "RESTIC_REPOSITORY": f"s3:{self._server.endpoint}/{self._server.container}/{self.key}",
        }

    @property
    def servers(self) -> Sequence[int]:
        return [self._server.pid]

    def prepare(self) -> None:
        self.run(["restic", "init", "--repository-version", "2"])

    def backup_command(self, source: Path) -> list[str]:
        return ["restic", "backup", "--quiet", str(source)]

    def restore_command(self, target: Path) -> list[str]:
        return ["restic", "restore", "latest", "--quiet", "--target", str(target)]

    def stored(self) -> int:
        return _stored(self._server, self.key)


def _stored(server: Emulator, prefix: str) -> int:
    return Tree.of(server.folder / server.container / prefix).size


@contextmanager
def on_s3(folder: Path, operator: Operator, *, with_restic: bool) -> Iterator[list[Contestant]]:
    """Both, while the server runs; nobody where it is not installed."""
    if not can_serve_s3():
        yield []
        return
    home = folder / "s3"
    home.mkdir()
    with ExitStack() as stack:
        try:
            server = stack.enter_context(emulators.s3(home, free_port))
        except OSError as error:
            raise NotMeasured(f"the server of S3 does not start: {error}") from None
        found: list[Contestant] = [OortOnS3(folder / "oort-s3", operator, server)]
        if with_restic:
            found.append(ResticOnS3(folder / "restic-s3", server))
        yield found


def can_serve_s3() -> bool:
    """Whether an rclone is there that can, and may be run."""
    return os.access(RCLONE, os.X_OK)
