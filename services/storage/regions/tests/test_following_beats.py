"""The lease and the sessions of a following live for as long as it is at work, whatever the other cluster does."""

import socket

from services.storage.regions.tests.two_clusters import Regions, back_up, full, until
from services.storage.tests.cluster import a_body


async def test_a_pack_that_takes_longer_than_the_silence_of_a_session_comes_all_the_same(regions: Regions) -> None:
    body = a_body(1 << 20)
    async with regions.here.up("a"):
        claims = full(await regions.here.bucket("a"))
        async with regions.here.client("a", claims) as client:
            await back_up(client, body, snapshot=b"one")
    changed = {"beat_seconds": 2, "region_bytes_per_second": 1 << 16}
    for cluster in (regions.here, regions.there):
        cluster.settings = {name: one.model_copy(update=changed) for name, one in cluster.settings.items()}
    async with regions.up():
        await regions.follow(claims)
        await regions.caught_up(claims)


async def test_a_cluster_that_hangs_does_not_cost_the_lease(regions: Regions) -> None:
    regions.there.settings["x"] = regions.there.settings["x"].model_copy(update={"beat_seconds": 2})
    # Connections come to stand, and nobody answers.
    with socket.create_server(("localhost", 0)) as silent:
        async with regions.there.up("x"):
            async with regions.here.up("a"):
                claims = full(await regions.here.bucket("a"))
                async with regions.here.client("a", claims) as client:
                    await back_up(client, a_body(), snapshot=b"one")
                await regions.complete(claims)
            address = f"localhost:{silent.getsockname()[1]}"
            await regions.there.change(
                "update follows set endpoints = array[%s], source_endpoints = '{}', due = now()", address
            )
            seen: dict[object, object] = {}

            async def is_renewed() -> bool:
                [(lease, due)] = regions.there.sql("select lease, due from follows")
                return lease is not None and seen.setdefault(lease, due) != due

            await until(is_renewed)
