"""What an operator brings back from the waste basket, and what the node refuses meanwhile."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import grpc
import pytest
from oort.storage.v1 import protection_pb2, protection_pb2_grpc

from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose, Scope
from domain.tokens import VaultClaims
from services.storage.removal.tests.test_reaper import Reapers, a_bucket, an_unneeded_backup, reapers, rows, there
from services.storage.sessions.tests.test_sessions import a_committed_snapshot, refusal_of, state
from services.storage.tests.cluster import FRAME, Client, Cluster, a_body, a_session_id, pack

__all__ = ["reapers"]


@dataclass
class Operator:
    """What an operator asks of one bucket, through any node."""

    channel: grpc.aio.Channel
    bucket: UUID
    held: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stub = protection_pb2_grpc.ProtectionServiceStub(self.channel)

    async def basket(self, page_size: int = 0) -> list[protection_pb2.BasketEntry]:
        found: list[protection_pb2.BasketEntry] = []
        token = ""
        while True:
            page = await self.stub.ListBasket(
                protection_pb2.ListBasketRequest(bucket_id=str(self.bucket), page_size=page_size, page_token=token)
            )
            found += page.entries
            token = page.next_page_token
            if not token:
                return found

    async def plan(
        self, *names: ObjectName, since: datetime | None = None, tenant: str = ""
    ) -> protection_pb2.PlanRestoreResponse:
        request = protection_pb2.PlanRestoreRequest(bucket_id=str(self.bucket), tenant_id=tenant, names=map(str, names))
        if since is not None:
            request.since.FromDatetime(since)
        return await self.stub.PlanRestore(request)

    async def step(
        self, session: UUID, names: Sequence[ObjectName] = (), from_seq: int = 0
    ) -> protection_pb2.RestoreResponse:
        return await self.stub.Restore(
            protection_pb2.RestoreRequest(
                session_id=str(session), bucket_id=str(self.bucket), from_seq=from_seq, names=map(str, names)
            )
        )

    async def restore(self, *names: ObjectName, since: datetime | None = None) -> tuple[list[str], list[str]]:
        """What came back, in its order, and what is damaged."""
        session, back, damaged = a_session_id(), [], []
        from_seq = (await self.plan(*names, since=since)).from_seq
        done = False
        while not done:
            step = await self.step(session, names, from_seq)
            back += [one.name for one in step.restored]
            damaged += [name for name in step.damaged if name not in damaged]
            self.held, done = list(step.held), step.done
        return back, damaged


@asynccontextmanager
async def an_operator(cluster: Cluster, claims: VaultClaims, node: str = "a") -> AsyncIterator[Operator]:
    async with cluster.internal(node) as channel:
        yield Operator(channel, claims.bucket)


def counts(sums: Sequence[protection_pb2.BasketSum]) -> dict[str, int]:
    return {one.kind: one.objects for one in sums}


async def test_all_that_was_removed_is_listed_and_comes_back_in_the_order_that_keeps_the_vault_whole(
    cluster: Cluster, reapers: Reapers
) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client, an_operator(cluster, claims) as operator:
            made, listed, removed = robbed = await an_unneeded_backup(client)
            listing = await operator.basket(page_size=1)
            assert [one.name for one in listing] == [str(removed), str(listed), str(made)]
            assert {(one.device_id, one.purpose) for one in listing} == {(str(claims.device), "retention")}
            assert all(one.kept_until.seconds - one.removed.seconds == 7 * 24 * 3600 for one in listing)
            plan = await operator.plan()
            assert counts(plan.comes_back) == {"snapshots": 1, "index": 1, "data": 1}
            assert counts(plan.stays) == {}
            assert set(rows(cluster, *robbed).values()) == {"condemned"}  # a plan changes nothing
            assert await operator.restore() == ([str(made), str(listed), str(removed)], [])
            assert await operator.restore() == ([], [])  # again does nothing
            assert await operator.basket() == []
            await reapers.reap("a")
            reader = await client.open(Purpose.READ)
            assert await client.names(reader, ObjectKind.SNAPSHOT) == {str(removed)}
            for name in robbed:
                assert await client.get(reader, name)
            [(live,)] = cluster.sql("select live_snapshots from buckets where id = %s", claims.bucket)
            assert live == 1


async def test_while_it_is_under_way_the_reaper_takes_nothing_and_the_next_call_goes_on(
    cluster: Cluster, reapers: Reapers
) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client, an_operator(cluster, claims) as operator:
            made, listed, removed = robbed = await an_unneeded_backup(client)
            session = a_session_id()
            assert [one.name for one in (await operator.step(session)).restored] == [str(made)]
            await reapers.reap("a")
            assert rows(cluster, *robbed) == {str(made): "live", str(listed): "condemned", str(removed): "condemned"}
            # The command is called again, as another one: the first session is left to its silence.
            assert await operator.restore() == ([str(listed), str(removed)], [])
            assert set(rows(cluster, *robbed).values()) == {"live"}


async def test_nothing_comes_back_while_something_that_removes_is_open(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client, an_operator(cluster, claims) as operator:
            robbed = await an_unneeded_backup(client)
            retention = await client.open(Purpose.RETENTION)
            session = a_session_id()
            assert await refusal_of(operator.step(session)) == "RETENTION_RUNNING"
            await client.end(retention)
            await operator.step(session)
            # Nor does a retention begin that would condemn what is back, as it sees no snapshot that needs it.
            assert await refusal_of(client.open(Purpose.RETENTION)) == "RETENTION_RUNNING"
            await client.end(await client.open(Purpose.BACKUP))
            while not (await operator.step(session)).done:
                pass
            assert set(rows(cluster, *robbed).values()) == {"live"}
            assert await refusal_of(operator.step(session)) == "SESSION_OVER"
            await client.end(await client.open(Purpose.RETENTION))


async def test_what_a_retention_condemned_between_two_steps_comes_back_before_what_needs_it(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client, an_operator(cluster, claims) as operator:
            made, listed, removed = await a_committed_snapshot(client)
            retention = await client.open(Purpose.RETENTION)
            await client.remove(retention, removed)
            await client.end(retention)
            # Only the snapshot lies in the basket, as after `forget` without `prune`; now the prune comes, which a node
            # that knows no better lets run beside the restore.
            session = a_session_id()
            plan = await operator.plan()
            assert counts(plan.comes_back) == {"snapshots": 1}
            retention = await client.open(Purpose.RETENTION)
            await cluster.change(
                "insert into sessions (id, bucket_id, tenant_id, user_id, device_id, purpose, opened_seq)"
                " select %s, id, tenant_id, user_id, %s, 'adopt', seq from buckets where id = %s",
                session,
                UUID(int=0),
                claims.bucket,
            )
            await client.mark(retention)
            assert await client.condemn(retention, listed) == {}
            assert await client.condemn(retention, made) == {}
            await client.end(retention)
            back: list[str] = []
            while not (step := await operator.step(session, from_seq=plan.from_seq)).done:
                back += [one.name for one in step.restored]
            assert back == [str(made), str(listed), str(removed)]


async def test_a_time_brings_back_whole_removals_and_a_name_what_it_may_need(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client, an_operator(cluster, claims) as operator:
            before, after = await an_unneeded_backup(client), await an_unneeded_backup(client)
            for names, hours in ((before, 5), (after, 1)):
                await cluster.change(
                    "update objects set condemned = now() - %s where sha256 = any(%s)",
                    timedelta(hours=hours),
                    [bytes.fromhex(name.id) for name in names],
                )
            # The last of the second removal lies before the time that is asked for, as the first of it does not.
            await cluster.change(
                "update objects set condemned = now() - interval '3 hours' where sha256 = %s",
                bytes.fromhex(after[0].id),
            )
            now = datetime.now(UTC)
            assert counts((await operator.plan(since=now)).comes_back) == {}
            plan = await operator.plan(since=now - timedelta(hours=2))
            assert counts(plan.comes_back) == {"snapshots": 1, "index": 1, "data": 1}
            assert counts(plan.stays) == {"snapshots": 1, "index": 1, "data": 1}
            assert (await operator.restore(since=now - timedelta(hours=2)))[0] == [str(name) for name in after]
            assert set(rows(cluster, *before).values()) == {"condemned"}
            assert await operator.restore(before[2]) == ([str(name) for name in before], [])
            assert counts((await operator.plan(before[2])).comes_back) == {}  # it is live
            for unknown in (pack(a_body()), ObjectName.parse("config")):
                assert await refusal_of(operator.plan(unknown)) == "INVALID_ARGUMENT"


async def test_a_name_that_was_put_again_meanwhile_stays_as_it_is(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client, an_operator(cluster, claims) as operator:
            made, listed, removed = await an_unneeded_backup(client)
            backup = await client.open()
            assert await client.reserve(backup, made) == []
            assert await operator.restore() == ([str(listed), str(removed)], [])
            await client.end(backup)


async def test_an_altered_copy_is_healed_by_another_and_a_pack_without_any_comes_back_as_lost(
    cluster: Cluster,
) -> None:
    async with cluster.up("a", "b"):
        claims = replace(await cluster.bucket("a", copies=2, ack_copies=2), scopes=frozenset(Scope))
        async with cluster.client("a", claims) as client, an_operator(cluster, claims) as operator:
            names = await an_unneeded_backup(client)
            made, listed, removed = names
            for node, name in (("a", made), ("b", made), ("a", listed)):
                path = cluster.bucket_folder(node, claims.bucket) / name.path
                path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
            back, damaged = await operator.restore()
            assert (back, damaged) == ([str(listed), str(removed)], [str(made)])
            assert state(cluster, made) == "live"
            backup = await client.open()
            assert await client.reserve(backup, made) == [str(made)]  # so a backup that has the data sends it again


async def a_removed_backup_of_many_frames(client: Client) -> tuple[ObjectName, ObjectName, ObjectName]:
    """As `an_unneeded_backup`, with a pack and an index file of three frames each."""
    backup = await client.open()
    await client.initialise(backup)
    made = await client.put_pack(backup, a_body(3 * FRAME))
    listed = await client.put_index(backup, [made], a_body(3 * FRAME))
    removed = await client.commit(backup, a_body())
    await client.end(backup)
    retention = await client.open(Purpose.RETENTION)
    await client.remove(retention, removed)
    await client.mark(retention)
    for name in (listed, made):
        assert await client.condemn(retention, name) == {}
    await client.end(retention)
    return made, listed, removed


def alter_last_frame(cluster: Cluster, node: str, claims: VaultClaims, name: ObjectName) -> None:
    path = cluster.bucket_folder(node, claims.bucket) / name.path
    body = path.read_bytes()
    path.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))


@pytest.mark.parametrize("altered", [ObjectKind.PACK, ObjectKind.INDEX])
@pytest.mark.parametrize("asked", ["a", "c"])
async def test_what_one_home_has_altered_after_its_first_frame_comes_back_from_the_other(
    cluster: Cluster, altered: ObjectKind, asked: str
) -> None:
    async with cluster.up("a", "b"):
        claims = replace(await cluster.bucket("a", copies=2, ack_copies=2), scopes=frozenset(Scope))
        async with cluster.client("a", claims) as client, cluster.up("c"):
            names = await a_removed_backup_of_many_frames(client)
            (hurt,) = [name for name in names if name.kind is altered]
            alter_last_frame(cluster, "a", claims, hurt)
            async with an_operator(cluster, claims, asked) as operator:
                assert await operator.restore() == ([str(name) for name in names], [])
            assert set(rows(cluster, *names).values()) == {"live"}


async def test_no_snapshot_comes_back_while_an_index_file_that_it_may_need_is_damaged(cluster: Cluster) -> None:
    async with cluster.up("a", "b"):
        claims = replace(await cluster.bucket("a", copies=2, ack_copies=2), scopes=frozenset(Scope))
        async with cluster.client("a", claims) as client, an_operator(cluster, claims) as operator:
            made, listed, removed = await a_removed_backup_of_many_frames(client)
            for node in ("a", "b"):
                alter_last_frame(cluster, node, claims, listed)
            assert await operator.restore() == ([str(made)], [str(listed)])
            assert operator.held == [str(removed)]
            # It is said again, though nothing is read any more.
            assert await operator.restore(removed) == ([], [str(listed)])
            assert operator.held == [str(removed)]
            assert (state(cluster, listed), state(cluster, removed)) == ("condemned", "condemned")


async def test_a_name_comes_back_with_what_it_needs_though_a_later_seq_is_asked_for(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client, an_operator(cluster, claims) as operator:
            made, listed, removed = await an_unneeded_backup(client)
            session, back = a_session_id(), list[str]()
            while not (step := await operator.step(session, [removed], from_seq=1 << 40)).done:
                back += [one.name for one in step.restored]
            assert back == [str(made), str(listed), str(removed)]
            assert list(step.gone) == []


@pytest.mark.parametrize("is_forgotten", [False, True])
async def test_a_name_for_which_it_is_too_late_since_the_plan_is_named(cluster: Cluster, *, is_forgotten: bool) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client, an_operator(cluster, claims) as operator:
            *_, removed = await an_unneeded_backup(client)
            plan = await operator.plan(removed)
            digest = bytes.fromhex(removed.id)
            await cluster.change("update objects set state = 'deleting' where sha256 = %s", digest)
            if is_forgotten:
                await cluster.change("delete from objects where sha256 = %s", digest)
            session = a_session_id()
            while not (step := await operator.step(session, [removed], plan.from_seq)).done:
                assert str(removed) not in [one.name for one in step.restored]
            assert list(step.gone) == [str(removed)]


async def test_a_damaged_snapshot_stays_in_the_basket_and_is_named(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client, an_operator(cluster, claims) as operator:
            *_, removed = await an_unneeded_backup(client)
            (cluster.bucket_folder("a", claims.bucket) / removed.path).write_bytes(b"other")
            back, damaged = await operator.restore()
            assert (len(back), damaged) == (2, [str(removed)])
            assert state(cluster, removed) == "condemned"


async def test_what_is_gone_for_good_is_said_and_what_is_being_removed_too(cluster: Cluster, reapers: Reapers) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client, an_operator(cluster, claims) as operator:
            made, *_ = await an_unneeded_backup(client)
            assert not (await operator.plan()).protection.HasField("reaped")
            await reapers.reap("a")
            assert there(cluster, "a", claims, made) == [False]
            plan = await operator.plan()
            assert plan.protection.HasField("reaped")
            assert (counts(plan.comes_back), counts(plan.leaving)) == ({}, {})


async def test_keys_come_back_too(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with cluster.client("a", claims) as client, an_operator(cluster, claims) as operator:
            backup = await client.open()
            await client.initialise(backup)
            await client.end(backup)
            own = ObjectName.of(ObjectKind.KEY, b"another")
            retention = await client.open(Purpose.RETENTION)
            await client.put(retention, own, b"another")
            await client.mark(retention)
            (first,) = await client.names(retention, ObjectKind.KEY) - {str(own)}
            assert await client.condemn(retention, ObjectName.parse(first)) == {}
            await client.end(retention)
            assert await operator.restore() == ([first], [])


async def test_another_tenant_s_bucket_is_not_found_and_other_roles_are_refused(cluster: Cluster) -> None:
    async with cluster.up("a"):
        claims = await a_bucket(cluster)
        async with an_operator(cluster, claims) as operator:
            assert await refusal_of(operator.plan(tenant=str(uuid4()))) == "NOT_FOUND"
            assert (await operator.plan(tenant=str(claims.tenant))).from_seq == 0
        async with cluster.internal("a", "cluster") as channel:
            assert await refusal_of(Operator(channel, claims.bucket).plan()) == "NOT_ALLOWED"
