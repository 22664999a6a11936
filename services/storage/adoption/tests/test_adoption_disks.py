"""Adoptions by a node whose disk is away, or that has several."""

import asyncio
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.names import ObjectKind
from domain.sessions import Purpose
from services.common.errors import Unavailable
from services.storage.adoption.run import Adoption as Adopting
from services.storage.adoption.tests.test_adoption import a_vault, adopting, copy_by_hand
from services.storage.removal.tests.test_reaper import rows
from services.storage.sessions.tests.test_sessions import refusal_of
from services.storage.store.rescans import FoundFile
from services.storage.tests.cluster import Cluster, a_body, pack
from services.storage.volumes.copied import Unfit
from services.storage.volumes.disk import Disk
from services.storage.volumes.disks import Disks


async def test_nothing_is_said_of_what_lies_on_a_disk_that_is_away(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await a_vault(cluster, "a")
        disk = cluster.settings["a"].data_dirs[0]
        disk.rename(disk.with_name("away"))
        async with adopting(cluster, claims) as adoption:
            assert await refusal_of(adoption.adopt("a", "data")) == "UNAVAILABLE"
        disk.with_name("away").rename(disk)


def two_disks(cluster: Cluster, **others: Any) -> list[Path]:
    folders = [cluster.folder / f"disk-{number}" for number in range(2)]
    cluster.node("a", data_dirs=folders, **others)
    return folders


async def test_a_file_is_found_though_its_disk_passes_files_on(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two_disks(cluster)
    async with cluster.up("a"):
        claims = await a_vault(cluster, "a")
        names = {}
        for folder in (first, second):
            body = a_body()
            names[folder] = pack(body)
            copy_by_hand(folder / "buckets" / str(claims.bucket), (pack(body), body))
        take = Adopting._take
        moves: list[asyncio.Task[bool]] = []

        async def moving(self: Adopting, *args: Any) -> None:
            if not moves:
                source, target = reversed(self._disks.places.disks)
                files = source.of_kind(claims.bucket, ObjectKind.PACK)
                [found] = (one for one in files if isinstance(one, FoundFile) and one.name == names[second])
                moves.append(asyncio.create_task(a_move(self._disks, claims.bucket, found, source, target)))
                await asyncio.sleep(0)  # it asks for the bucket, as the mover does
            await take(self, *args)

        monkeypatch.setattr(Adopting, "_take", moving)
        async with adopting(cluster, claims) as adoption:
            assert (await adoption.adopt("a", "data"))[-1].objects == 2
        assert await moves[0]
        assert set(rows(cluster, *names.values()).values()) == {"live"}


async def a_move(disks: Disks, bucket: UUID, found: FoundFile, source: Disk, target: Disk) -> bool:
    async with disks.in_use.alone(bucket):
        return disks.places.move(bucket, found, source, target)


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_damaged_file_on_one_disk_gives_way_to_a_whole_one_on_another(
    cluster: Cluster, *, is_known: bool
) -> None:
    folders = two_disks(cluster)
    async with cluster.up("a"):
        claims = await a_vault(cluster, "a")
        places = [folder / "buckets" / str(claims.bucket) for folder in folders]
        body = a_body()
        for place in places:
            copy_by_hand(place, (pack(body), body))
        if is_known:
            async with adopting(cluster, claims) as adoption:
                await adoption.adopt("a", "data")
        copy_by_hand(places[0], (pack(body), b"x" + body[1:]))
        copy_by_hand(places[1], (pack(body), body))
        async with adopting(cluster, claims) as adoption:
            await adoption.adopt("a", "data")
        async with cluster.client("a", claims) as client:
            assert await client.get(await client.open(Purpose.READ), pack(body)) == body
        assert [(place / pack(body).path).exists() for place in places] == [False, True]


def test_what_was_found_in_a_folder_made_by_hand_is_not_called_gone_without_its_disk(tmp_path: Path) -> None:
    bucket, body = uuid4(), a_body()
    with closing(Disks([Disk(tmp_path / name, "a", 0) for name in ("one", "two")], "a")) as disks:
        first, second = disks.places.disks
        first.make_bucket(bucket)
        copy_by_hand(second.buckets / str(bucket), (pack(body), body))
        opened = second.copied(bucket, pack(body))
        assert opened is not None
        opened.close()
        second.folder.rename(tmp_path / "away")
        with pytest.raises(Unavailable):
            disks.remove(bucket, [pack(body)])
        with pytest.raises(Unavailable):
            disks.open(bucket, pack(body), len(body))


def test_a_folder_that_is_a_link_is_not_entered(tmp_path: Path) -> None:
    bucket, body = uuid4(), a_body()
    with closing(Disk(tmp_path / "one", "a", 0)) as disk:
        copy_by_hand(tmp_path / "shipped", (pack(body), body))
        (disk.buckets / str(bucket)).symlink_to(tmp_path / "shipped", target_is_directory=True)
        with pytest.raises(Unfit, match="its folder is a link"):
            disk.copied(bucket, pack(body))
