"""Putting and reading objects through one node."""

from domain.names import ObjectKind
from services.storage.tests.cluster import Cluster, a_body, pack


async def test_a_put_object_is_read_back_and_lies_where_restic_looks(cluster: Cluster) -> None:
    body = a_body(3_500_000)
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            answer = await client.put(session, pack(body), body)
            assert (answer.existed, answer.copies) == (False, 1)
            assert await client.get(session, pack(body)) == body
            assert await client.get(session, pack(body), 1_048_000, 1000) == body[1_048_000:1_049_000]
            assert await client.get(session, pack(body), len(body)) == b""
            [listed] = await client.list(session, ObjectKind.PACK)
            assert (listed.name, listed.size) == (str(pack(body)), len(body))
    place = cluster.bucket_folder("a", claims.bucket) / pack(body).path
    assert place.read_bytes() == body
    assert place.stat().st_mode & 0o777 == 0o600
    assert place.parent.stat().st_mode & 0o777 == 0o700
    assert len(list((cluster.bucket_folder("a", claims.bucket) / "data").iterdir())) == 256
    assert cluster.files("a") == [str(place.relative_to(cluster.settings["a"].data_dirs[0]))]
