"""A prune in the bucket that is followed: what takes the place of old packs comes before these go."""

from functools import partial

from domain.names import ObjectName
from domain.sessions import Purpose
from domain.tokens import VaultClaims
from services.storage.regions.tests.two_clusters import Regions, back_up, contents, full, until
from services.storage.tests.cluster import Client, a_body, index


async def repack(client: Client, old_index: ObjectName, old_packs: list[ObjectName], body: bytes) -> ObjectName:
    """A prune that puts a pack with this body in the place of others; the snapshots stay. Answers the pack."""
    session = await client.open(Purpose.RETENTION)
    await client.mark(session)
    new = await client.put_pack(session, body)
    listing = a_body()
    await client.put(session, index(listing), listing)
    assert await client.condemn(session, old_index) == {}
    assert await client.condemn(session, *old_packs) == {}
    await client.end(session)
    return new


def entry(name: ObjectName) -> tuple[str, bytes]:
    """As `contents` has it."""
    return name.kind.value, bytes.fromhex(name.id)


async def test_what_was_repacked_stays_here_while_the_new_pack_cannot_be_read_there(regions: Regions) -> None:
    async with regions.here.up("a"):
        claims = full(await regions.here.bucket("a"))
        async with regions.here.client("a", claims) as client:
            async with regions.there.up("x"):
                packs, listing, snapshot = await back_up(client, a_body(), snapshot=b"one")
                await regions.complete(claims)
            body = a_body()
            new = await repack(client, listing, packs, body)
            lost = regions.here.bucket_folder("a", claims.bucket) / new.path
            lost.unlink()
            async with regions.there.up("x"):
                await regions.look_now(claims.bucket)
                found = await regions.wait(claims.bucket, lambda one: "cannot be read there" in one.problem)
                assert "nothing is removed here" in found.problem
                assert {entry(packs[0]), entry(listing), entry(snapshot)} <= contents(regions.there, claims.bucket)
                # It is there again: then the old ones go.
                lost.write_bytes(body)
                await regions.look_now(claims.bucket)
                await regions.caught_up(claims)


async def test_a_prune_of_a_vault_that_is_nearly_full_is_followed(regions: Regions) -> None:
    async with regions.up():
        claims = full(await regions.here.bucket("a", quota_bytes=3 << 20))
        async with regions.here.client("a", claims) as client:
            packs, listing, _ = await back_up(client, a_body(2 << 20), snapshot=b"one")
            await regions.complete(claims)
            await repack(client, listing, packs, a_body((2 << 20) - 1000))
            await regions.look_now(claims.bucket)
            await regions.caught_up(claims)


async def test_a_prune_that_stores_most_of_a_vault_anew_sets_no_brake_here(regions: Regions) -> None:
    for cluster in (regions.here, regions.there):
        cluster.settings = {
            name: one.model_copy(update={"brake_floor_bytes": 0}) for name, one in cluster.settings.items()
        }
    async with regions.up():
        claims = full(await regions.here.bucket("a"))
        async with regions.here.client("a", claims) as client:
            packs, listing, _ = await back_up(client, a_body(3 << 20), snapshot=b"one")
            await regions.complete(claims)
            await repack(client, listing, packs, a_body(2 << 20))
            await regions.look_now(claims.bucket)
            await until(partial(is_judged, regions, claims))
        assert regions.there.sql("select braked from buckets") == [(None,)]


async def is_judged(regions: Regions, claims: VaultClaims) -> bool:
    """Whether what was removed there was removed here, or stays."""
    return contents(regions.here, claims.bucket) == contents(regions.there, claims.bucket) or bool(
        (await regions.following(claims.bucket)).kept_objects
    )
