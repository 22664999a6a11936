"""The seal of a vault is given another content, on every home, whatever fails on the way."""

from dataclasses import replace

import pytest

from domain.names import SEAL
from domain.sessions import Purpose, Scope
from domain.tokens import VaultClaims
from services.storage.removal.tests.test_reaper import counters_are_right
from services.storage.sessions.tests.test_sessions import refusal_of
from services.storage.tests.cluster import Cluster, a_device
from services.storage.transfer.tests.test_copies import copies_are_complete
from services.storage.volumes.disk import StagedFile


async def a_vault(cluster: Cluster, copies: int = 1) -> VaultClaims:
    """A bucket with a vault whose seal is `seal`."""
    claims = replace(await cluster.bucket("a", copies=copies), scopes=frozenset(Scope))
    async with cluster.client("a", claims) as client:
        session = await client.open()
        await client.initialise(session)
        await client.end(session)
    return claims


def on_disk(cluster: Cluster, node: str, claims: VaultClaims) -> bytes:
    return (cluster.bucket_folder(node, claims.bucket) / str(SEAL)).read_bytes()


async def test_a_retention_replaces_the_seal_on_every_home_and_nobody_else_does(cluster: Cluster) -> None:
    async with cluster.up("a", "b"):
        claims = await a_vault(cluster, copies=2)
        async with cluster.client("a", claims) as client, cluster.client("b", claims) as other:
            for purpose in (Purpose.READ, Purpose.BACKUP, Purpose.ADOPT):
                session = await client.open(purpose)
                assert await refusal_of(client.replace_seal(session, b"no")) == "NOT_ALLOWED"
                await client.end(session)
            before, retention = await client.open(Purpose.READ), await client.open(Purpose.RETENTION)
            for wrong in (b"", bytes(70_000)):
                assert await refusal_of(client.replace_seal(retention, wrong)) == "INVALID_ARGUMENT"
            former = b"seal"
            for seal in (b"a longer seal", b"laes"):
                for through in (client, other):  # again, as after a lost answer
                    await through.replace_seal(retention, seal, former)
                    assert await client.get(before, SEAL) == await other.get(retention, SEAL) == seal
                    assert {on_disk(cluster, node, claims) for node in ("a", "b")} == {seal}
                    assert counters_are_right(cluster)
                former = seal
            appends = replace(claims, scopes=frozenset((Scope.READ, Scope.APPEND)))
            async with cluster.client("a", appends) as appender:
                assert await refusal_of(appender.replace_seal(retention, b"no")) == "NOT_ALLOWED"
            await client.end(retention)
            assert await refusal_of(client.replace_seal(retention, b"no")) == "SESSION_OVER"
        assert [len(cluster.files(node)) for node in ("a", "b")] == [3, 3]


async def test_a_bucket_without_a_vault_takes_no_seal_and_a_vault_without_one_gets_it(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = replace(await cluster.bucket("a"), scopes=frozenset(Scope))
        async with cluster.client("a", claims) as client:
            retention = await client.open(Purpose.RETENTION)
            assert await refusal_of(client.replace_seal(retention, b"seal")) == "NOT_INITIALISED"
            assert cluster.files("a") == []
            await client.initialise(await client.open(), seal=b"")
            assert await refusal_of(client.replace_seal(retention, b"seal", b"another")) == "SEAL_CHANGED"
            await client.replace_seal(retention, b"seal", None)
            assert await client.get(retention, SEAL) == b"seal"
            assert counters_are_right(cluster)


async def test_a_vault_without_a_seal_gets_a_first_one_from_whoever_may_add(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = replace(await cluster.bucket("a"), scopes=frozenset({Scope.READ, Scope.APPEND}))
        async with cluster.client("a", claims) as client:
            backup = await client.open()
            await client.initialise(backup, seal=b"")
            assert await refusal_of(client.replace_seal(await client.open(Purpose.READ), b"seal")) == "NOT_ALLOWED"
            await client.replace_seal(backup, b"seal", None)
            assert await client.get(backup, SEAL) == b"seal"
            assert await refusal_of(client.replace_seal(backup, b"another")) == "NOT_ALLOWED"
            assert await client.get(backup, SEAL) == b"seal"
            assert counters_are_right(cluster)


async def test_who_read_the_seal_before_another_device_replaced_it_replaces_nothing(cluster: Cluster) -> None:
    async with cluster.up("a", "b"):
        claims = await a_vault(cluster, copies=2)
        device = a_device(tenant=claims.tenant, user=claims.user, bucket=claims.bucket)
        second = replace(device, scopes=claims.scopes)
        async with cluster.client("a", claims) as client, cluster.client("b", second) as other:
            asleep = await client.open(Purpose.RETENTION)
            await client.end(asleep)  # as a node ends what is silent
            awake = await other.open(Purpose.RETENTION)
            await other.replace_seal(awake, b"first")
            await other.end(awake)
            again = await client.open(Purpose.RETENTION)
            for read in (b"seal", None):
                assert await refusal_of(client.replace_seal(again, b"second", read)) == "SEAL_CHANGED"
            assert await other.get(await other.open(Purpose.READ), SEAL) == b"first"
            assert {on_disk(cluster, node, claims) for node in ("a", "b")} == {b"first"}
            assert [len(cluster.files(node)) for node in ("a", "b")] == [3, 3]
            assert counters_are_right(cluster)


async def test_a_seal_of_another_content_on_one_home_is_read_from_the_other_through_any_node(cluster: Cluster) -> None:
    async with cluster.up("a", "b", "c"):
        claims = await a_vault(cluster, copies=2)
        homes = {row[0] for row in cluster.sql("select node_id from homes where bucket_id = %s", claims.bucket)}
        [guest] = {"a", "b", "c"} - homes
        for home in homes:
            place = cluster.bucket_folder(home, claims.bucket) / str(SEAL)
            place.write_bytes(b"laes")  # as long, so its size does not tell
            async with cluster.client(guest, claims) as client:
                assert await client.get(await client.open(Purpose.READ), SEAL) == b"seal"
            place.write_bytes(b"seal")
            await copies_are_complete(cluster, "a")


async def test_a_home_that_was_down_gets_the_new_seal_when_it_is_back(cluster: Cluster) -> None:
    async with cluster.up("a", "b"):
        claims = await a_vault(cluster, copies=2)
    async with cluster.up("a"):
        await cluster.falls_silent("b")
        async with cluster.client("a", claims) as client:
            await client.replace_seal(await client.open(Purpose.RETENTION), b"laes")
    assert (on_disk(cluster, "a", claims), on_disk(cluster, "b", claims)) == (b"laes", b"seal")
    async with cluster.up("a", "b"), cluster.client("b", claims) as client:
        assert await client.get(await client.open(Purpose.READ), SEAL) == b"laes"
        await copies_are_complete(cluster, "b")
        assert on_disk(cluster, "b", claims) == b"laes"


async def test_a_seal_that_is_entered_and_not_yet_in_its_place_is_what_is_read(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_file: StagedFile) -> None:
        raise OSError("the node is killed here")

    async with cluster.up("a"):
        claims = await a_vault(cluster)
        async with cluster.client("a", claims) as client:
            with monkeypatch.context() as patched:
                patched.setattr(StagedFile, "place", fails)
                await client.replace_seal(await client.open(Purpose.RETENTION), b"laes")
                assert await client.get(await client.open(Purpose.READ), SEAL) == b"laes"
        assert cluster.files("a")[-1].endswith(str(SEAL))
        assert len(cluster.files("a")) == 3
