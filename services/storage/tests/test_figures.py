"""What a node counts for Prometheus."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from prometheus_client import CollectorRegistry

from services.storage.tests.cluster import Cluster
from services.storage.work import Figures

if TYPE_CHECKING:
    from services.storage.disks import Disks


async def test_buckets_that_the_brake_or_an_adoption_holds_are_counted(cluster: Cluster) -> None:
    cluster.node("a")
    async with cluster.up("a") as [db]:
        adopting, braked, _ = [await cluster.bucket("a") for _ in range(3)]
        await cluster.change("update buckets set adopting = true where id in (%s, %s)", adopting.bucket, braked.bucket)
        await cluster.change("update buckets set braked = now() where id = %s", braked.bucket)
        registry = CollectorRegistry()
        figures = Figures(db, cast("Disks", SimpleNamespace(free_bytes=0)), registry)
        await figures.count()
        assert registry.get_sample_value("oort_storage_adopting_buckets") == 2
        assert registry.get_sample_value("oort_storage_braked_buckets") == 1
