"""A follower is a whole repository at any moment, whatever is backed up, pruned and brought back meanwhile."""

import asyncio
from dataclasses import dataclass, field
from random import Random

import pytest

from domain.names import ObjectName
from domain.sessions import Purpose
from services.storage.regions.tests.two_clusters import PATIENCE_SECONDS, Regions, contents, full
from services.storage.tests.cluster import Client, a_body, index, snapshot

_STEPS = 14


@dataclass
class Vault:
    """What its index files list and its snapshots need, of all that were ever made; and what is there of them."""

    client: Client
    random: Random
    lists: dict[bytes, set[bytes]] = field(default_factory=dict)
    needs: dict[bytes, set[bytes]] = field(default_factory=dict)
    snapshots: list[ObjectName] = field(default_factory=list)
    indexes: list[ObjectName] = field(default_factory=list)
    packs: list[ObjectName] = field(default_factory=list)  # all that there ever were

    async def back_up(self) -> None:
        """Some packs are new; some are those of others, which may be condemned by now."""
        session = await self.client.open()
        await self.client.initialise(session)
        used = []
        for _ in range(self.random.randint(1, 3)):
            used.append(await self.client.put_pack(session, a_body()))
            self.packs.append(used[-1])
        old = self.random.sample(self.packs, min(3, len(self.packs)))
        gone = await self.client.reserve(session, *old)
        used += [one for one in old if str(one) not in gone]
        listing, made = a_body(), a_body()
        self.lists[_digest(index(listing))] = {_digest(one) for one in used}
        self.needs[_digest(snapshot(made))] = {_digest(one) for one in used}
        self.indexes.append(await self.client.put_index(session, list(dict.fromkeys(used)), listing))
        self.snapshots.append(await self.client.commit(session, made))
        await self.client.end(session)

    async def prune(self) -> None:
        """Some snapshots go; one new index file lists what the others need, and the rest is condemned."""
        session = await self.client.open(Purpose.RETENTION)
        for one in self.random.sample(self.snapshots, len(self.snapshots) // 2):
            await self.client.remove(session, one)
            self.snapshots.remove(one)
        await self.client.mark(session)
        kept = set().union(*(self.needs[_digest(one)] for one in self.snapshots))
        listing = a_body()
        self.lists[_digest(index(listing))] = kept
        await self.client.put(session, index(listing), listing)
        assert await self.client.condemn(session, *self.indexes) == {}
        self.indexes = [index(listing)]
        assert await self.client.condemn(session, *(one for one in set(self.packs) if _digest(one) not in kept)) == {}
        await self.client.end(session)

    def require_whole(self, there: set[tuple[str, bytes]]) -> None:
        """Of what is there every index file has its packs, and every snapshot what it needs, in index files."""
        packs = {digest for kind, digest in there if kind == "data"}
        listed: set[bytes] = set()
        for kind, digest in there:
            if kind == "index":
                assert self.lists[digest] <= packs
                listed |= self.lists[digest]
        for kind, digest in there:
            if kind == "snapshots":
                assert self.needs[digest] <= listed
        if any(kind in ("index", "snapshots") for kind, _ in there):
            assert {"config", "keys"} <= {kind for kind, _ in there}


@pytest.mark.parametrize("removals", [True, False])
async def test_whatever_happens_there_the_follower_lacks_nothing_of_what_it_shows(
    regions: Regions, removals: bool
) -> None:
    async with regions.up():
        claims = full(await regions.here.bucket("a"))
        async with regions.here.client("a", claims) as client:
            vault = Vault(client, Random(20 + removals))
            await vault.back_up()
            await regions.follow(claims, removals=removals)
            looking = asyncio.ensure_future(_look_on(regions, vault))
            for _ in range(_STEPS):
                await (vault.back_up() if vault.random.random() < 0.65 else vault.prune())
                if looking.done():
                    looking.result()
            async with asyncio.timeout(PATIENCE_SECONDS):
                while True:
                    here, there = contents(regions.here, claims.bucket), contents(regions.there, claims.bucket)
                    if here == there or (not removals and here <= there):
                        break
                    await asyncio.sleep(0.05)
            looking.cancel()
            assert await asyncio.gather(looking, return_exceptions=True)
            assert looking.cancelled()


async def _look_on(regions: Regions, vault: Vault) -> None:
    while True:
        there = await asyncio.to_thread(contents, regions.there, vault.client.claims.bucket)
        vault.require_whole(there)
        await asyncio.sleep(0.01)


def _digest(name: ObjectName) -> bytes:
    return bytes.fromhex(name.id)
