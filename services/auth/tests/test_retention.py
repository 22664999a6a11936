from dataclasses import dataclass
from datetime import UTC, timedelta

from google.protobuf.timestamp_pb2 import Timestamp
from oort.auth.v1 import devices_pb2, jobs_pb2, profiles_pb2
from oort.auth.v1.profiles_pb2 import RetentionPolicy as Policy
from oort.auth.v1.profiles_pb2 import RetentionRange as Range

from services.auth.tests.kit import Ground, SignedIn, World, an_id, refused

LAST = Policy(mode=802, ranges=[Range(type=900, jobs=7)], time_zone="Europe/Berlin")
MONTHS = Policy(mode=802, ranges=[Range(type=905, months=12), Range(type=906, weeks=4, week_offset=0)])


async def set_policy(world: World, session: SignedIn, vault: str, policy: Policy | None, item: str = "") -> None:
    request = profiles_pb2.SetRetentionRequest(vault_id=vault, item_id=item, policy=policy)
    await world.profiles.SetRetention(request, metadata=session.metadata)


async def the_vault(world: World, session: SignedIn) -> profiles_pb2.Vault:
    answer = await world.profiles.ListVaults(profiles_pb2.ListVaultsRequest(), metadata=session.metadata)
    (vault,) = answer.vaults
    assert answer.now.ToDatetime(UTC) == world.clock.now()
    return vault


async def an_item(world: World, session: SignedIn) -> str:
    item = profiles_pb2.Item(id=str(an_id()), engine="engine1/file", sealed=b"x")
    await world.profiles.PutItem(profiles_pb2.PutItemRequest(item=item), metadata=session.metadata)
    return item.id


@dataclass
class Passes:
    """Jobs of classification 4003 that a device tells of; times in hours from now."""

    world: World
    session: SignedIn
    vault: str

    async def add(
        self, status: int, ended: float, item: str = "", *, prune: bool = True, freed_nothing: bool = False
    ) -> None:
        started = self._at(ended - 1)
        job = jobs_pb2.Job(id=str(an_id()), kind=4003, vault_id=self.vault, item_id=item, started=started, prune=prune)
        await self.world.jobs.StartJob(jobs_pb2.StartJobRequest(job=job), metadata=self.session.metadata)
        request = jobs_pb2.FinishJobRequest(
            job_id=job.id, status=status, ended=self._at(ended), freed_nothing=freed_nothing
        )
        await self.world.jobs.FinishJob(request, metadata=self.session.metadata)

    async def last(self) -> float | None:
        vault = await the_vault(self.world, self.session)
        if not vault.HasField("last_retention"):
            return None
        return (vault.last_retention.ToDatetime(UTC) - self.world.clock.now()) / timedelta(hours=1)

    def _at(self, hours: float) -> Timestamp:
        time = Timestamp()
        time.FromDatetime(self.world.clock.now() + timedelta(hours=hours))
        return time


async def test_policies_of_a_vault_and_of_its_items_are_for_all_devices(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        vault, item = (await world.a_vault(session)).id, await an_item(world, session)
        assert not (await the_vault(world, session)).HasField("retention")
        for policy in (LAST, MONTHS, MONTHS):
            await set_policy(world, session, vault, policy)
            await set_policy(world, session, vault, LAST, item)
        other = await world.signed_in(session.person)
        listed = await the_vault(world, other)
        # Offsets that were left out are told as what they mean.
        assert [(one.months, one.month_offset, one.weeks) for one in listed.retention.ranges] == [(12, 1, 0), (0, 0, 4)]
        assert [(one.item_id, one.policy) for one in listed.item_retention] == [(item, LAST)]
        await set_policy(world, other, vault, None)
        listed = await the_vault(world, session)
        assert not listed.HasField("retention")
        assert len(listed.item_retention) == 1


async def test_an_item_that_goes_takes_its_policy_along(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        vault = (await world.a_vault(session)).id
        other = await world.signed_in(session.person)
        deleted, revoked = await an_item(world, session), await an_item(world, other)
        for item in (deleted, revoked):
            await set_policy(world, session, vault, LAST, item)
        await world.profiles.DeleteItem(profiles_pb2.DeleteItemRequest(id=deleted), metadata=session.metadata)
        assert [one.item_id for one in (await the_vault(world, session)).item_retention] == [revoked]
        await world.devices.RevokeDevice(devices_pb2.RevokeDeviceRequest(id=other.device), metadata=session.metadata)
        assert not (await the_vault(world, session)).item_retention


async def test_what_is_no_policy_or_names_nothing_is_refused_and_changes_nothing(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        vault = (await world.a_vault(session)).id
        await set_policy(world, session, vault, LAST)
        for policy, field in (
            (Policy(), "policy.mode"),
            (Policy(mode=802), "policy.ranges"),
            (Policy(mode=802, ranges=[Range(type=900)]), "policy.ranges[0].jobs"),
            (Policy(mode=802, ranges=[Range(type=904, jobs=1)]), "policy.ranges[0].type"),
            (Policy(mode=802, ranges=[Range(type=900, jobs=1, days=1)]), "policy.ranges[0].days"),
            (Policy(mode=801, time_zone="a\nb"), "policy.time_zone"),
        ):
            with refused("INVALID_ARGUMENT") as refusal:
                await set_policy(world, session, vault, policy)
            assert field in refusal.details
        with refused("NOT_FOUND"):
            await set_policy(world, session, str(an_id()), LAST)
        with refused("NOT_FOUND"):
            await set_policy(world, session, vault, LAST, str(an_id()))
        assert (await the_vault(world, session)).retention == LAST
        await world.profiles.RemoveVault(profiles_pb2.RemoveVaultRequest(vault_id=vault), metadata=session.metadata)
        with refused("NOT_FOUND"):
            await set_policy(world, session, vault, LAST)


async def test_the_last_pass_is_the_last_job_over_the_whole_vault_that_freed_space_and_was_done(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        passes = Passes(world, session, (await world.a_vault(session)).id)
        assert await passes.last() is None
        await passes.add(7002, -1)
        await passes.add(5000, -2, await an_item(world, session))
        await passes.add(5000, -3, prune=False)
        await passes.add(5000, -4, freed_nothing=True)
        assert await passes.last() is None
        for status, hours in ((5000, -30), (7001, -20), (5000, -25)):
            await passes.add(status, hours)
        assert await passes.last() == -20
        await passes.add(5000, 24 * 365)  # of a device whose clock is ahead
        assert await passes.last() == 0
