"""Nodes with disks of a size that tests choose, and what lies on each."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from domain.names import ObjectName
from domain.tokens import VaultClaims
from services.storage.tests.cluster import Client, Cluster, a_body
from services.storage.upkeep.tests.moving import QUICK, until
from services.storage.volumes.disk import Disk

KIB = 1 << 10
CROWDED = 100 * KIB
BODY = 20 * KIB


class Sizes(dict[Path, int]):
    """How large the disks are, by their folders."""

    def free(self, folder: Path) -> int:
        used = 0
        for path in files_below(folder):
            with suppress(FileNotFoundError):  # just moved
                used += path.stat().st_size
        return max(0, self[folder] - used)

    def hold(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """For each disk that a node opens."""
        monkeypatch.setattr(
            Disk.__init__, "__kwdefaults__", {**(Disk.__init__.__kwdefaults__ or {}), "free_bytes": self.free}
        )


def files_below(folder: Path) -> Iterator[Path]:
    """Also while folders go: those are passed over."""
    return (Path(place) / name for place, _, names in os.walk(folder) for name in names)


def a_node(cluster: Cluster, sizes: Sizes, name: str, *disks: int, **others: Any) -> list[Path]:
    """With disks of so many KiB."""
    folders = [cluster.folder / f"{name}-{number}" for number in range(len(disks))]
    quick = dict.fromkeys(("move_poll_seconds", "placement_poll_seconds", "scrub_poll_seconds"), QUICK)
    cluster.node(name, **{"data_dirs": folders, "crowded_bytes": CROWDED, **quick, **others})
    sizes.update({folder: size * KIB for folder, size in zip(folders, disks, strict=True)})
    return folders


async def put_packs(client: Client, session: UUID, count: int) -> dict[ObjectName, bytes]:
    bodies = [a_body(BODY) for _ in range(count)]
    return {await client.put_pack(session, body): body for body in bodies}


async def all_are_read(client: Client, session: UUID, bodies: dict[ObjectName, bytes]) -> None:
    for name, body in bodies.items():
        assert await client.get(session, name) == body


def lies_on(claims: VaultClaims, *folders: Path) -> list[Path]:
    """The disks on which the bucket has a folder."""
    return [folder for folder in folders if (folder / "buckets" / str(claims.bucket)).exists()]


def files_of(claims: VaultClaims, folder: Path) -> set[str]:
    return {path.name for path in files_below(folder / "buckets" / str(claims.bucket))}


async def once(condition: Callable[[], object]) -> None:
    async def happens() -> object:
        return condition()

    await until(happens)
