"""A node whose bodies lie on a disk or in a store does the same with them."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from pydantic import ValidationError

from domain.names import CONFIG, SEAL, ObjectKind, ObjectName
from domain.sessions import Purpose
from services.common.errors import Unavailable
from services.storage.removal.tests.test_reaper import Reapers, a_bucket, an_unneeded_backup, reapers, rows
from services.storage.removal.tests.test_restoring import an_operator
from services.storage.sessions.tests.test_sessions import a_committed_snapshot, refusal_of
from services.storage.tests.cluster import Cluster, a_body, pack
from services.storage.tests.kept import Kept, OnDisk, address_of, on_emulator, on_s3
from services.storage.transfer.copies import LocalCopy
from services.storage.transfer.tests.test_copies import copies_are_complete
from services.storage.upkeep.replication import Replicator
from services.storage.upkeep.tests.moving import a_bucket_on, is_empty, order, until_homes, until_none
from services.storage.upkeep.tests.test_healing import altered
from services.storage.upkeep.tests.test_rescan import auth_knowing, auth_server, lose_the_catalogue, rescan
from services.storage.upkeep.tests.test_scrub import a_scrubber, missing, scrubbed, verified
from services.storage.volumes.remote.bodies import WaitingObject
from services.storage.volumes.remote.store import Entry, Store, StoreAway
from services.storage.volumes.remote.volume import RemoteVolume

__all__ = ["auth_server", "reapers"]


@pytest.fixture(params=["disk", "s3"])
def kept(
    request: pytest.FixtureRequest,
    cluster: Cluster,
    tmp_path: Path,
    auth_server: str,
) -> Iterator[Kept]:
    """The bodies of node `a`; those of `b` lie on a disk."""
    with ExitStack() as stack:
        kept: Kept = OnDisk(tmp_path / "bodies")
        if request.param == "s3":
            kept = stack.enter_context(on_s3(request.getfixturevalue("s3_bucket"), "node a", tmp_path))
        elif request.param == "emulator":
            kept = stack.enter_context(on_emulator(request.getfixturevalue("emulator"), tmp_path.name, tmp_path))
        settings = {"auth_server": auth_server, "scrub_poll_seconds": 0.05, "placement_poll_seconds": 0.05}
        cluster.node("a", **settings, **kept.settings())
        cluster.node("b", **settings)
        yield kept


async def dies(_copy: LocalCopy) -> None:
    raise OSError


async def sleeps(_replicator: Replicator) -> int:
    """Nobody places before the next start what has not been placed."""
    return 0


async def test_what_was_put_is_listed_and_read_whole_and_in_parts_also_after_a_restart(
    cluster: Cluster, kept: Kept
) -> None:
    body = a_body((9 << 20) + 1)
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            session = await client.open()
            assert await client.initialise(session)
            assert not await client.initialise(session)
            name, empty = await client.put_pack(session, body), await client.put_pack(session, b"")
            assert (await client.put(session, name, body)).existed
            await client.end(session)
            await client.replace_seal(await client.open(Purpose.RETENTION), b"another seal")
    assert f"buckets/{claims.bucket}/{name.path}" in kept.files()
    assert not [path for path in kept.files() if path.startswith("incoming/")]
    async with cluster.up("a"), cluster.client("a", claims) as client:
        session = await client.open(Purpose.READ)
        assert await client.names(session, ObjectKind.PACK) == {str(name), str(empty)}
        assert await client.get(session, name) == body
        assert await client.get(session, name, (8 << 20) - 3, 6) == body[(8 << 20) - 3 : (8 << 20) + 3]
        assert await client.get(session, empty) == b""
        assert await client.get(session, SEAL) == b"another seal"
        assert await client.get(session, CONFIG) == b"config"


async def test_what_an_adoption_brings_in_lies_where_restic_looks(cluster: Cluster, kept: Kept) -> None:
    key = b"key of config"
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open(Purpose.ADOPT)
            assert await client.initialise(session, b"config")
            made = await client.put_pack(session, a_body())
            listed = await client.put_index(session, [made])
            names = [made, listed, await client.commit(session, a_body()), CONFIG, SEAL]
    names.append(ObjectName.of(ObjectKind.KEY, key))
    assert kept.files() == sorted(f"buckets/{claims.bucket}/{name.path}" for name in names)


async def test_a_body_that_is_not_what_its_name_says_is_never_seen(cluster: Cluster, kept: Kept) -> None:
    async with cluster.up("a"):
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            for body in (b"other", b"short", b"far too long"):
                assert await refusal_of(client.put(session, pack(b"right"), body, size=5)) == "NAME_MISMATCH"
            assert kept.files() == []


async def test_a_crash_between_stage_and_place_loses_nothing(
    cluster: Cluster, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Replicator, "heal", sleeps)
    bodies = [a_body() for _ in range(2)]
    async with cluster.up("a"):
        await until_none(cluster, "select 1 from nodes where not reconciled")  # else it settles what it finds lacking
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            with monkeypatch.context() as patched:
                patched.setattr(LocalCopy, "place", dies)
                read, found = [await client.put_pack(session, body) for body in bodies]
            assert {path.partition("/")[0] for path in kept.files()} == {"incoming"}
            assert await client.get(session, read) == bodies[0]
    async with cluster.up("a"):
        top = f"buckets/{claims.bucket}"
        assert kept.files() == sorted(f"{top}/{name.path}" for name in (read, found))


async def test_what_is_removed_comes_back_from_the_basket_or_goes_for_good(
    cluster: Cluster,
    kept: Kept,
    reapers: Reapers,
) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client, an_operator(cluster, claims) as operator:
            robbed = await an_unneeded_backup(client)
            before = kept.files()
            assert (await operator.restore())[0] == [str(name) for name in robbed]
            assert kept.files() == before
            gone = await an_unneeded_backup(client)
            await reapers.reap("a")
            assert rows(cluster, *gone) == {}
            assert kept.files() == before


async def test_a_lost_catalogue_comes_back_and_what_the_other_node_lacks_is_fetched(
    cluster: Cluster, kept: Kept
) -> None:
    async with cluster.up("a", "b"):
        claims = await cluster.bucket("a", copies=2)
        async with cluster.client("b", claims) as client:
            names = await a_committed_snapshot(client)
        await copies_are_complete(cluster, "a")
    await lose_the_catalogue(cluster)
    top = f"buckets/{claims.bucket}"
    kept.write(f"{top}/data/00/notes.txt", b"of nobody's")
    (cluster.bucket_folder("b", claims.bucket) / names[0].path).unlink()
    async with cluster.up("a", "b"), auth_knowing(cluster, claims):
        told, _ = await rescan(cluster, "a", "b")
        assert (told.buckets, told.objects, told.foreign) == (1, 6, 1)
        await copies_are_complete(cluster, "a")
        async with cluster.client("b", claims) as client:
            session = await client.open(Purpose.READ)
            for name in names:
                assert await client.get(session, name)
    assert (cluster.bucket_folder("b", claims.bucket) / names[0].path).exists()


async def test_an_altered_and_a_lost_copy_are_found_and_healed_from_the_other_node(
    cluster: Cluster, kept: Kept
) -> None:
    bodies = [a_body(700_000) for _ in range(2)]
    async with cluster.up("a", "b"):
        claims = await cluster.bucket("a", copies=2)
        async with cluster.client("b", claims) as client:
            session = await client.open()
            names = [await client.put_pack(session, body) for body in bodies]
        await copies_are_complete(cluster, "a")
        places = [f"buckets/{claims.bucket}/{name.path}" for name in names]
        kept.write(places[0], altered(bodies[0]))
        kept.write(places[1], b"")
        found = await scrubbed(cluster, "a")
        # What was healed while the scrub went on is read again.
        assert found["a"].copies in {2, 3, 4}
        assert found["a"].damaged == 2
        await copies_are_complete(cluster, "a")
        assert [kept.read(place) for place in places] == bodies
        # And the other way round: what `a` has heals `b`.
        (cluster.bucket_folder("b", claims.bucket) / names[0].path).unlink()
        await scrubbed(cluster, "b")
        await copies_are_complete(cluster, "b")
        assert (cluster.bucket_folder("b", claims.bucket) / names[0].path).read_bytes() == bodies[0]


@pytest.mark.parametrize("kept", ["s3"], indirect=True)
async def test_what_waits_in_a_store_that_a_rescan_cannot_list_is_not_thrown_away(
    cluster: Cluster, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = Store.list
    body = a_body()

    def is_busy(store: Store, folder: str) -> list[Entry]:
        if folder.startswith("incoming/"):
            raise Unavailable(what="The store")
        return lists(store, folder)

    async with cluster.up("a"):
        await until_none(cluster, "select 1 from nodes where not reconciled")
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client:
            monkeypatch.setattr(Replicator, "heal", sleeps)
            monkeypatch.setattr(LocalCopy, "place", dies)
            name = await client.put_pack(await client.open(), body)
            assert [path for path in kept.files() if path.startswith("incoming/")]
    await lose_the_catalogue(cluster)
    async with cluster.up("a"), auth_knowing(cluster, claims):
        monkeypatch.setattr(Store, "list", is_busy)
        with pytest.raises(grpc.aio.AioRpcError):
            await rescan(cluster, "a")
        assert cluster.sql("select count(*) from homes") == [(0,)]
        monkeypatch.setattr(Store, "list", lists)
        await rescan(cluster, "a")
        assert kept.read(f"buckets/{claims.bucket}/{name.path}") == body


@pytest.mark.parametrize("kept", ["s3"], indirect=True)
async def test_a_node_starts_although_its_store_fails_when_asked_what_waits_there(
    cluster: Cluster, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_waiting: WaitingObject) -> None:
        raise OSError

    def is_away(*_: object) -> bool:
        raise Unavailable(what="The store")

    body = a_body()
    with monkeypatch.context() as patched:
        patched.setattr(LocalCopy, "place", dies)
        patched.setattr(WaitingObject, "place", fails)
        async with cluster.up("a"):
            claims = await cluster.bucket("a")
            async with cluster.client("a", claims) as client:
                name = await client.put_pack(await client.open(), body)
        patched.setattr(WaitingObject, "exists", is_away)
        async with cluster.up("a"):
            assert (await cluster.describe("a")).missing_copies == 1
    async with cluster.up("a"):
        assert kept.read(f"buckets/{claims.bucket}/{name.path}") == body


def test_settings_name_what_a_store_needs(cluster: Cluster) -> None:
    with pytest.raises(ValidationError, match="needs OORT_STORE_KEY_FILE and OORT_SPOOL_DIR too"):
        cluster.node("c", data_stores=["s3://bucket?endpoint=http://host"])
    with pytest.raises(ValidationError, match="give one of them"):
        cluster.node("d", data_dirs=[])
    with pytest.raises(ValidationError, match="no other is taken"):
        cluster.node("e", data_stores="b2://bucket")
    stores = [f"s3://bucket/{prefix}?endpoint=http://host" for prefix in ("one", "other", "oneself", "one/more")]
    for twice in (
        (stores[0], stores[0]),
        (stores[0], stores[3]),
        (stores[3], stores[0]),
        (stores[0], "s3://bucket?endpoint=http://HOST"),
    ):
        with pytest.raises(ValidationError, match="lies in the prefix of another"):
            cluster.node("g", data_stores=twice, store_key_file=Path("key"), spool_dir=Path("spool"))
    assert cluster.node("h", data_stores=stores[:3], store_key_file=Path("key"), spool_dir=Path("spool"))
    assert cluster.node("f", data_stores="").data_stores == []


async def test_a_node_that_is_drained_removes_all_and_not_again_for_an_older_copy_of_the_database(
    cluster: Cluster, kept: Kept
) -> None:
    def bodies() -> list[str]:
        return [path for path in kept.files() if not path.startswith("cleared")]

    async with cluster.up("a", "b"):
        claims = await a_bucket_on(cluster, "a")
        async with cluster.client("a", claims) as client:
            session = await client.open()
            await client.initialise(session)
            name = await client.put_pack(session, body := a_body())
            await order(cluster, "a", "DrainNode", "a")
            await until_homes(cluster, claims, "b")
            await is_empty(cluster, "b", "a")
            assert not bodies()
            assert await client.get(session, name) == body
            await order(cluster, "a", "UndrainNode", "a")
            await order(cluster, "a", "DrainNode", "b")
            await until_homes(cluster, claims, "a")
            await is_empty(cluster, "a", "b")
            before = bodies()
            assert f"buckets/{claims.bucket}/{name.path}" in before
        await cluster.change("update nodes set state = 'serving'")
        # The catalogue as it was while they were being removed.
        await cluster.change("update homes set node_id = 'b'")
        await cluster.change(
            "insert into clearings (bucket_id, node_id, tenant_id, user_id, id)"
            " select bucket_id, 'a', tenant_id, user_id, %s from homes",
            kept.cleared(),
        )
        await until_none(cluster, "select 1 from clearings")
        assert bodies() == before


async def test_what_a_wrong_prefix_lacks_is_found_again_in_the_right_one(
    cluster: Cluster, s3_bucket: str, tmp_path: Path
) -> None:
    body = a_body()
    with on_s3(s3_bucket, "node a", tmp_path) as kept:
        right = cluster.node("a", **kept.settings())
        async with cluster.up("a"):
            claims = await cluster.bucket("a")
            async with cluster.client("a", claims) as client:
                name = await client.put_pack(await client.open(), body)
        cluster.settings["a"] = right.model_copy(update={"data_stores": [address_of(s3_bucket, "nodea")]})
        async with cluster.up("a"):
            await until_none(cluster, "select 1 where not exists (select 1 from missing_copies)")
        cluster.settings["a"] = right
        async with cluster.up("a"), cluster.client("a", claims) as client:
            await until_none(cluster, "select 1 from missing_copies")
            assert await client.get(await client.open(Purpose.READ), name) == body


async def test_a_scrub_says_nothing_of_copies_in_a_container_that_is_not_there(
    cluster: Cluster, s3_bucket: str, tmp_path: Path
) -> None:
    with on_s3(s3_bucket, "node a", tmp_path) as kept:
        cluster.node("a", **kept.settings())
        async with cluster.up("a"):
            claims = await cluster.bucket("a")
            async with cluster.client("a", claims) as client:
                await a_committed_snapshot(client)
        volume = kept.volume()
        async with a_scrubber(cluster, "a", passing=100, volume=volume) as scrubber:
            with kept.elsewhere() as volume.store:
                assert not await scrubber.scrub()
            assert missing(cluster) == set()
            entered = verified(cluster)
            volume.store = kept.store
            assert await scrubber.scrub()
            assert all(when > entered[name] for name, when in verified(cluster).items())
            assert missing(cluster) == set()


async def test_a_node_starts_while_its_store_is_away_and_serves_when_that_comes(
    cluster: Cluster, s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, later = a_body(), a_body()
    with on_s3(s3_bucket, "node a", tmp_path) as kept:
        cluster.node("a", **kept.settings())
        async with cluster.up("a"):
            claims = await cluster.bucket("a")
            async with cluster.client("a", claims) as client:
                name = await client.put_pack(await client.open(), body)
        with monkeypatch.context() as away:
            away.setattr(RemoteVolume, "_take", is_away)
            async with cluster.up("a"), cluster.client("a", claims) as client:
                session = await client.open()
                assert await refusal_of(client.get(session, name)) == "UNAVAILABLE"
                assert await refusal_of(client.put_pack(session, later)) == "TOO_FEW_COPIES"
                assert cluster.sql("select reconciled from nodes where id = 'a'") == [(False,)]
                assert cluster.sql("select count(*) from missing_copies") == [(0,)]
                away.undo()
                await until_none(cluster, "select 1 from nodes where not reconciled")
                assert await client.get(session, name) == body
                assert await client.get(session, await client.put_pack(session, later)) == later
        assert cluster.sql("select count(*) from missing_copies") == [(0,)]


def is_away(_volume: RemoteVolume) -> None:
    raise StoreAway("it does not answer", passes=True, what="The store")
