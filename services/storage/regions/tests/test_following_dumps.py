"""The catalogue of the bucket that is followed was lost, or put back from a dump: its follower has what that lacks."""

from domain.names import SEAL
from domain.sessions import Purpose
from domain.tokens import VaultClaims
from services.storage.regions.tests.two_clusters import Regions, back_up, contents, forget, full, until
from services.storage.tests.cluster import Client, a_body
from services.storage.upkeep.tests.test_rescan import a_kept_address, auth_knowing, rescan


async def dump(regions: Regions) -> int:
    """As it is now; what `put_back` is given."""
    [(seq,)] = regions.here.sql("select seq from buckets")
    return int(seq)


async def put_back(regions: Regions, seq: int) -> None:
    """The catalogue as it was at a seq, when nothing was condemned yet."""
    change = regions.here.change
    await change("delete from object_users where object_id in (select id from objects where created_seq > %s)", seq)
    await change("delete from objects where created_seq > %s", seq)
    await change("delete from sessions where opened_seq > %s", seq)
    await change("update followers set session_id = null, upto_seq = 0 where upto_seq > %s", seq)
    await change("update buckets set seq = %s", seq)


async def a_second_backup_and_the_dump_before(regions: Regions, client: Client, claims: VaultClaims) -> int:
    """Answers the dump's seq; the follower has both backups, and is up no more."""
    async with regions.there.up("x"):
        await back_up(client, a_body(), snapshot=b"one")
        await regions.complete(claims)
        await regions.wait(claims.bucket, lambda one: not one.behind_objects)
    before = await dump(regions)
    async with regions.there.up("x"):
        await back_up(client, a_body(), snapshot=b"two")
        await look(regions)
        await regions.caught_up(claims)
        await regions.wait(claims.bucket, lambda one: not one.behind_objects)
    return before


async def has_all(regions: Regions, claims: VaultClaims, here: set[tuple[str, bytes]]) -> None:
    async def has() -> bool:
        return here <= contents(regions.there, claims.bucket)

    await until(has)


async def look(regions: Regions) -> None:
    await regions.there.change("update follows set due = now()")


async def test_what_was_stored_after_the_dump_stays_here_also_when_its_seq_was_passed_since(regions: Regions) -> None:
    async with regions.here.up("a"):
        claims = full(await regions.here.bucket("a"))
        async with regions.here.client("a", claims) as client:
            before = await a_second_backup_and_the_dump_before(regions, client, claims)
            had = contents(regions.there, claims.bucket)
            [(upto,)] = regions.there.sql("select upto_seq from follows")
            await regions.there.change("update follows set source_lock_days = 30")
            await put_back(regions, before)
            for one in range(7):
                packs, index, snapshot = await back_up(client, a_body(), snapshot=b"%d" % one)
            await forget(client, snapshot, index, packs)
            assert await dump(regions) > upto
            here = contents(regions.here, claims.bucket)
            async with regions.there.up("x"):
                await look(regions)
                await has_all(regions, claims, here)
                assert "came from a dump" in (await regions.following(claims.bucket)).problem
                # A removal there, and a comparison of all: neither removes what only this side knows of.
                packs, index, snapshot = await back_up(client, a_body(), snapshot=b"more")
                await forget(client, snapshot, index, packs)
                await back_up(client, a_body(), snapshot=b"last")
                here = contents(regions.here, claims.bucket)
                await regions.look_now(claims.bucket)
                await has_all(regions, claims, here)
                assert "came from a dump" in (await regions.following(claims.bucket)).problem
                assert had <= contents(regions.there, claims.bucket)
                # Nor is the vault less protected than it was before.
                assert regions.there.sql("select source_lock_days from follows") == [(30,)]
                # An operator says that it is meant so.
                again = await regions.follow(claims)
                assert not again.complete
                await regions.caught_up(claims)
                await regions.wait(claims.bucket, lambda one: one.problem == "")


async def test_all_of_a_catalogue_that_came_from_a_dump_is_brought_also_below_the_seq_that_was_reached(
    regions: Regions,
) -> None:
    async with regions.here.up("a"):
        claims = full(await regions.here.bucket("a"))
        async with regions.here.client("a", claims) as client:
            before = await a_second_backup_and_the_dump_before(regions, client, claims)
            await regions.there.change("update follows set removals = false")
            await put_back(regions, before)
            await back_up(client, *[a_body() for _ in range(20)], snapshot=b"three")
            [(upto,)] = regions.there.sql("select upto_seq from follows")
            assert await dump(regions) > upto
            here = contents(regions.here, claims.bucket)
            async with regions.there.up("x"):
                await look(regions)
                await has_all(regions, claims, here)


async def test_all_is_brought_again_from_each_catalogue_that_was_not_read_before(regions: Regions) -> None:
    async with regions.here.up("a"):
        claims = full(await regions.here.bucket("a"))
        async with regions.here.client("a", claims) as client:
            await back_up(client, a_body(), snapshot=b"one")
            async with regions.there.up("x"):
                await regions.complete(claims)
            await back_up(client, a_body(), snapshot=b"two")
        # It has strayed before, and has read far more of that one than there is of this.
        await regions.there.change(
            "update follows set strayed = true, session_id = gen_random_uuid(), upto_seq = 1000000,"
            " inventory_due = now() + interval '1 day', due = now()"
        )
        async with regions.there.up("x"):
            await regions.caught_up(claims)


async def test_what_a_pass_has_brought_that_was_cut_off_is_of_the_catalogue_that_it_read(regions: Regions) -> None:
    async with regions.here.up("a"):
        claims = full(await regions.here.bucket("a"))
        async with regions.here.client("a", claims) as client:
            await back_up(client, a_body(), snapshot=b"one")
        before = await dump(regions)
        folder = regions.here.bucket_folder("a", claims.bucket)
        async with regions.there.up("x"):
            folder.rename(folder.with_suffix(".away"))  # as if its disk did not answer
            await regions.follow(claims)
            assert not (await regions.wait(claims.bucket, lambda one: one.problem != "")).complete
        await put_back(regions, before)
        folder.with_suffix(".away").rename(folder)
        async with regions.there.up("x"):
            await look(regions)
            await regions.wait(claims.bucket, lambda one: one.complete and "came from a dump" in one.problem)
            await regions.caught_up(claims)


async def test_a_dump_from_after_the_last_look_is_no_other_catalogue(regions: Regions) -> None:
    async with regions.here.up("a"):
        claims = full(await regions.here.bucket("a"))
        async with regions.here.client("a", claims) as client, regions.there.up("x"):
            await back_up(client, a_body(), snapshot=b"one")
            await regions.complete(claims)
            await regions.wait(claims.bucket, lambda one: not one.behind_objects)
            # The row of its reading session is kept for some weeks; what it has said of itself for longer.
            [(session,)] = regions.there.sql("select session_id from follows")

            async def is_noted() -> bool:
                return regions.here.sql("select session_id from followers") == [(session,)]

            await until(is_noted)
            await regions.here.change("delete from sessions where id = %s", session)
            packs, index, snapshot = await back_up(client, a_body(), snapshot=b"two")
            await regions.caught_up(claims)
            await forget(client, snapshot, index, packs)
            await regions.caught_up(claims)
            await regions.wait(claims.bucket, lambda one: one.problem == "")


async def test_a_catalogue_that_was_made_anew_removes_nothing_whatever_it_lacks(regions: Regions) -> None:
    async with regions.there.up("x"):
        async with regions.here.up("a"):
            claims = full(await regions.here.bucket("a"))
            async with regions.here.client("a", claims) as client:
                await back_up(client, a_body(), snapshot=b"one")
            await regions.complete(claims)
        before = contents(regions.there, claims.bucket)
        # While no node is up that may be answering from what there was.
        await regions.here.change("delete from objects where kind = 'snapshots'")
        for table in ("object_users", "sessions", "followers"):
            await regions.here.change(f"delete from {table}")
        async with regions.here.up("a"):
            await regions.look_now(claims.bucket)
            await regions.wait(claims.bucket, lambda one: "lost or came from a dump" in one.problem)
            # Nor while the brake holds it, as it does from a rescan on until that has been through all nodes.
            await regions.here.change("update buckets set braked = now()")
            await regions.follow(claims)
            await regions.wait(
                claims.bucket, lambda one: "the brake holds" in one.problem and "came from" not in one.problem
            )
            assert contents(regions.there, claims.bucket) == before
            await regions.here.change("update buckets set braked = null")
            await regions.look_now(claims.bucket)
            await regions.caught_up(claims)


async def test_a_catalogue_put_back_from_before_its_promotion_keeps_what_a_rescan_enters(regions: Regions) -> None:
    async with regions.here.up("a"):
        claims = full(await regions.here.bucket("a"))
        async with regions.there.up("x"):
            async with regions.here.client("a", claims) as client:
                await back_up(client, a_body(), snapshot=b"one")
            await regions.complete(claims)
            seq = await regions.hand_over(claims.bucket)
            await regions.wait(claims.bucket, lambda one: one.upto_seq >= seq)
        [(following,)] = regions.there.sql("select to_jsonb(f)::text from follows f")
        [(before,)] = regions.there.sql("select seq from buckets")
        async with regions.there.up("x"):
            await regions.promote(claims.bucket)
            async with regions.there.client("x", full(claims, "there")) as client:
                await back_up(client, a_body(), snapshot=b"after the move")
        had = contents(regions.there, claims.bucket)
        change = regions.there.change
        await change("delete from object_users")
        await change("delete from objects where created_seq > %s", before)
        await change("delete from sessions where opened_seq > %s", before)
        await change("insert into follows select * from jsonb_populate_record(null::follows, %s::jsonb)", following)
        await change("update buckets set follows = 'here', seq = %s", before)
        assert not had <= contents(regions.there, claims.bucket)
        with a_kept_address() as auth_server:
            settings = regions.there.settings["x"]
            regions.there.settings["x"] = settings.model_copy(update={"auth_server": auth_server})
            async with regions.there.up("x"), auth_knowing(regions.there, claims):
                await rescan(regions.there, "x")
                assert had <= contents(regions.there, claims.bucket)
                await regions.look_now(claims.bucket)
                await regions.wait(claims.bucket, lambda one: "a rescan has entered" in one.problem)
                assert had <= contents(regions.there, claims.bucket)
                # It is promoted again as it was, and takes backups.
                await regions.promote(claims.bucket)
                async with regions.there.client("x", full(claims, "there")) as client:
                    await back_up(client, a_body(), snapshot=b"and again")


async def test_a_seal_that_cannot_be_read_there_holds_up_no_other_object(regions: Regions) -> None:
    async with regions.here.up("a"):
        claims = full(await regions.here.bucket("a"))
        async with regions.here.client("a", claims) as client:
            await back_up(client, a_body(), snapshot=b"one")
            async with regions.there.up("x"):
                await regions.complete(claims)
            session = await client.open(Purpose.RETENTION)
            await client.replace_seal(session, b"another seal")
            await client.end(session)
            lost = regions.here.bucket_folder("a", claims.bucket) / SEAL.path
            lost.unlink()
            await back_up(client, a_body(), snapshot=b"two")
            seq = await dump(regions)
            async with regions.there.up("x"):
                await look(regions)
                found = await regions.wait(claims.bucket, lambda one: one.upto_seq >= seq and bool(one.problem))
                assert (found.damaged_objects, found.behind_objects) == (1, 0)
                assert "cannot be read there" in found.problem
                lost.write_bytes(b"another seal")
                await regions.look_now(claims.bucket)
                await regions.caught_up(claims)
                await regions.wait(claims.bucket, lambda one: not one.damaged_objects)
                sealed = "select sha256 from objects where kind = 'oort-vault'"
                assert regions.there.sql(sealed) == regions.here.sql(sealed)
