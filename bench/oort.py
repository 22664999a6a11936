"""Oort as a contestant: backup-tool against the embedded stack, over TLS, objects synced before they count."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.contestant import Contestant, version_of
from bench.datasets.dataset import Tree
from deploy.driver import Device, Operator

VAULT = "bench"
SINGLE = "single"  # a template with one copy


class Oort(Contestant):
    """One device of a user of its own, with one vault of `copies` copies."""

    def __init__(self, home: Path, operator: Operator, copies: int) -> None:
        super().__init__(home)
        self.key = f"oort-{copies}"
        self.title = "oort, 1 copy" if copies == 1 else f"oort, {copies} copies"
        self._copies = copies
        self._operator = operator
        self._device = Device(home / "device", self.env)
        self._servers = [service["pid"] for service in operator.status()["services"].values()]
        self.version = version_of(*self._device.tool.line("version"))

    @property
    def servers(self) -> Sequence[int]:
        return self._servers

    def prepare(self) -> None:
        password = secrets.token_urlsafe(24)
        self._operator.add_user(self.key, password)
        self._device.log_in(self._operator, self.key, password)
        self._device.request_vault(VAULT, template=SINGLE if self._copies == 1 else "default")

    def backup_command(self, source: Path) -> list[str]:
        return self._device.tool.line("backup", str(source), "--vault", VAULT, "--json")

    def restore_command(self, target: Path) -> list[str]:
        return self._device.tool.line(*restore_options(target))

    def stored(self) -> int:
        bucket = self._device.recovery(VAULT)["bucket"]
        return max(Tree.of(folder).size for folder in self._operator.bucket_folders(bucket))


def restore_options(target: Path) -> list[str]:
    """Of the latest snapshot, of what this device backed up."""
    return ["restore", "latest", "--target", str(target), "--vault", VAULT, "--json"]


@contextmanager
def running_stack(folder: Path) -> Iterator[Operator]:
    """A stack with nothing in it, and the template `single` beside the default one."""
    operator = Operator(folder / "stack")
    operator.up()
    try:
        operator.add_template(SINGLE, copies=1)
        yield operator
    finally:
        operator.down()
