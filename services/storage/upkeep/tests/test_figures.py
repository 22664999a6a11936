"""What a node counts for Prometheus."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from prometheus_client import CollectorRegistry

from services.storage.tests.cluster import Cluster
from services.storage.upkeep.work import Figures

if TYPE_CHECKING:
    from services.storage.upkeep.work import Presence


@dataclass(frozen=True)
class Roomy:
    free_bytes: int = 1 << 30


async def test_nodes_that_are_silent_and_buckets_on_too_few_nodes_are_counted(cluster: Cluster) -> None:
    registry = CollectorRegistry()
    async with cluster.up("a", "b") as (db, _):
        figures = Figures(db, cast("Presence", Roomy()), registry)
        claims = await cluster.bucket("a")

        async def counted(silent_seconds: float) -> tuple[float | None, float | None]:
            await figures.count(silent_seconds)
            return (
                registry.get_sample_value("oort_storage_silent_nodes"),
                registry.get_sample_value("oort_storage_short_buckets"),
            )

        assert await counted(3600) == (0, 0)
        assert await counted(0) == (2, 0)  # nobody can have spoken less than no time ago
        # More than there are nodes, so that it stays so.
        await cluster.change("update buckets set copies = 3 where id = %s", claims.bucket)
        await cluster.change("update nodes set state = 'removed' where id = 'b'")
        assert await counted(0) == (1, 1)


async def test_buckets_that_the_brake_or_an_adoption_holds_are_counted(cluster: Cluster) -> None:
    cluster.node("a")
    async with cluster.up("a") as [db]:
        adopting, braked, _ = [await cluster.bucket("a") for _ in range(3)]
        await cluster.change("update buckets set adopting = true where id in (%s, %s)", adopting.bucket, braked.bucket)
        await cluster.change("update buckets set braked = now() where id = %s", braked.bucket)
        registry = CollectorRegistry()
        figures = Figures(db, cast("Presence", Roomy()), registry)
        await figures.count(3600)
        assert registry.get_sample_value("oort_storage_adopting_buckets") == 2
        assert registry.get_sample_value("oort_storage_braked_buckets") == 1
