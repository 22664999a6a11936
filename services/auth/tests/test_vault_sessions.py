"""An administrator lists and ends the sessions on the vaults of its tenant, and of no other."""

import grpc
from oort.auth.v1 import admin_pb2, profiles_pb2
from oort.storage.v1 import sessions_pb2

from services.auth.store.users import Role
from services.auth.tests.kit import Ground, LetEverythingThrough, SignedIn, World, an_id, as_caller, refused


def open_session(world: World, owner: SignedIn, vault: profiles_pb2.Vault) -> sessions_pb2.OpenSession:
    session = sessions_pb2.OpenSession(
        id=str(an_id()),
        bucket_id=vault.id,
        tenant_id=owner.person.tenant_id,
        user_id=owner.person.id,
        device_id=owner.device,
        purpose="backup",
        held_objects=3,
        held_bytes=4000,
    )
    world.nodes.sessions.append(session)
    return session


async def sessions_of(
    world: World, boss: SignedIn, vault: str = "", silent: list[str] | None = None
) -> list[admin_pb2.VaultSession]:
    """All pages; `silent` gets the clusters that did not answer, of which there are none without it."""
    found: list[admin_pb2.VaultSession] = []
    token = ""
    while True:
        request = admin_pb2.ListSessionsRequest(vault_id=vault, page_token=token)
        page = await world.admin.ListSessions(request, metadata=boss.metadata)
        found += page.sessions
        if page.silent_cluster:
            assert silent is not None
            silent.append(page.silent_cluster)
        token = page.next_page_token
        if not token:
            return found


async def test_sessions_are_told_with_the_names_of_what_they_belong_to(ground: Ground) -> None:
    async with ground.world() as world:
        boss = await world.signed_in(await world.a_tenant(), device=False)
        assert await sessions_of(world, boss) == []
        user = await world.signed_in(await world.a_user(boss.person))
        vault, other = await world.a_vault(user, "documents"), await world.a_vault(user, "pictures")
        first, second = open_session(world, user, vault), open_session(world, user, other)
        told = await sessions_of(world, boss)
        assert [one.id for one in told] == [first.id, second.id]
        assert (told[0].vault_name, told[0].username, told[0].device_name) == (
            "documents",
            user.person.username,
            "laptop",
        )
        assert (told[0].cluster, told[0].purpose, told[0].held_objects, told[0].held_bytes) == (
            world.cluster,
            "backup",
            3,
            4000,
        )
        assert [one.id for one in await sessions_of(world, boss, other.id)] == [second.id]
        await world.admin.EndSession(admin_pb2.EndSessionRequest(session_id=first.id), metadata=boss.metadata)
        assert [one.id for one in await sessions_of(world, boss)] == [second.id]
        with refused("NOT_FOUND"):
            await world.admin.EndSession(admin_pb2.EndSessionRequest(session_id=first.id), metadata=boss.metadata)
        with refused("INVALID_ARGUMENT"):
            await sessions_of(world, boss, "no-id")


async def test_sessions_of_the_other_clusters_are_listed_and_ended_while_one_is_away(ground: Ground) -> None:
    async with ground.world() as world, ground.world(clock=world.clock) as other:
        # Asked by name: the one that is away comes first.
        away, there = sorted((world, other), key=lambda one: one.cluster)
        boss = await away.signed_in(await away.a_tenant(), device=False)
        user = await away.signed_in(await away.a_user(boss.person))
        lost = open_session(away, user, await away.a_vault(user))
        session = open_session(there, user, await there.a_vault(user))
        away.nodes.failing = grpc.StatusCode.UNAVAILABLE
        silent: list[str] = []
        listed = await sessions_of(away, boss, silent=silent)
        assert ([one.id for one in listed], silent) == ([session.id], [away.cluster])
        await away.admin.EndSession(admin_pb2.EndSessionRequest(session_id=session.id), metadata=boss.metadata)
        assert there.nodes.sessions == []
        # Nobody can say that there is no such session.
        for unknown in (lost.id, str(an_id())):
            with refused("STORAGE_UNAVAILABLE"):
                await away.admin.EndSession(admin_pb2.EndSessionRequest(session_id=unknown), metadata=boss.metadata)
        assert away.nodes.sessions == [lost]


async def test_those_of_another_tenant_are_neither_seen_nor_ended_even_behind_an_open_gate(ground: Ground) -> None:
    async with ground.world() as world:
        stranger = await world.a_signed_in_user()
        session = open_session(world, stranger, await world.a_vault(stranger))
        user = await world.a_signed_in_user()
        await world.a_vault(user)
        with refused("NOT_ALLOWED"):
            await sessions_of(world, user)
        gate = LetEverythingThrough(as_caller(user, Role.ADMIN))
        async with ground.world(gate, world.clock) as opened:
            opened.nodes.sessions, opened.cluster = world.nodes.sessions, world.cluster
            await opened.a_template(user.person.tenant_id)
            assert await sessions_of(opened, user) == []
            with refused("NOT_FOUND"):
                await opened.admin.EndSession(admin_pb2.EndSessionRequest(session_id=session.id))
        assert world.nodes.sessions == [session]
