import asyncio

import grpc
import jwt
from oort.auth.v1 import profiles_pb2

from domain.sessions import Scope
from domain.tokens import AUDIENCE, ISSUER, LIFETIME_SECONDS, VaultClaims, key_id
from services.auth.tests.kit import SIGNING_KEY, Ground, Refusal, SignedIn, World, a_name, an_id, refused

LIST = profiles_pb2.ListVaultsRequest()


async def vaults_of(world: World, session: SignedIn) -> list[profiles_pb2.Vault]:
    return list((await world.profiles.ListVaults(LIST, metadata=session.metadata)).vaults)


async def ask(
    world: World, session: SignedIn, vault_id: str, name: str, template: str = "default"
) -> profiles_pb2.Vault:
    request = profiles_pb2.RequestVaultRequest(id=vault_id, name=name, template=template)
    return (await world.profiles.RequestVault(request, metadata=session.metadata)).vault


async def ask_in_vain(world: World, session: SignedIn, vault_id: str) -> Refusal:
    """Ask while storage fails, and let the pauses between the attempts pass."""

    async def in_vain() -> Refusal:
        with refused("STORAGE_UNAVAILABLE") as refusal:
            await ask(world, session, vault_id, "photos")
        return refusal

    trying = asyncio.create_task(in_vain())
    while not trying.done():
        await asyncio.sleep(0)
        if world.clock.sleepers:
            await world.clock.advance(3)
    return await trying


async def token_for(
    world: World, session: SignedIn, vault_id: str, *scopes: str
) -> profiles_pb2.IssueVaultTokenResponse:
    request = profiles_pb2.IssueVaultTokenRequest(vault_id=vault_id, scopes=scopes)
    return await world.profiles.IssueVaultToken(request, metadata=session.metadata)


async def test_a_requested_vault_has_a_bucket_of_its_template_under_its_own_id(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        await world.a_template(session.person.tenant_id, quota_bytes=1 << 40)
        vault_id = str(an_id())
        vault = await ask(world, session, vault_id, "  photos ")
        assert (vault.name, vault.kind, vault.bucket_id) == ("photos", profiles_pb2.VAULT_KIND_BUCKET, vault_id)
        assert (vault.cluster, vault.quota_bytes, vault.sealed_key) == (world.cluster, 1 << 40, b"")
        (bucket,) = world.nodes.buckets.values()
        assert (bucket.id, bucket.tenant_id, bucket.user_id) == (vault_id, session.person.tenant_id, session.person.id)
        assert (bucket.copies, bucket.ack_copies, bucket.quota_bytes) == (2, 1, 1 << 40)
        assert await vaults_of(world, session) == [vault]


async def test_a_repeated_request_is_the_same_request_also_at_once(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        await world.a_template(session.person.tenant_id)
        vault_id = str(an_id())
        made = await asyncio.gather(*(ask(world, session, vault_id, "photos") for _ in range(5)))
        assert {vault.id for vault in made} == {vault_id}
        assert len(world.nodes.buckets) == 1
        await world.profiles.SetVaultKey(
            profiles_pb2.SetVaultKeyRequest(vault_id=vault_id, sealed_key=b"E"), metadata=session.metadata
        )
        assert (await ask(world, session, vault_id, "photos")).sealed_key == b"E"
        with refused("INVALID_ARGUMENT"):
            await ask(world, session, vault_id, "other name")


async def test_an_unknown_template_is_refused_with_those_there_are(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        with refused("NO_SUCH_TEMPLATE") as refusal:
            await ask(world, session, str(an_id()), "photos")
        assert "none" in refusal.details
        await world.a_template(session.person.tenant_id, "default")
        await world.a_template(session.person.tenant_id, "archive")
        with refused("NO_SUCH_TEMPLATE") as refusal:
            await ask(world, session, str(an_id()), "photos", "missing")
        assert "archive, default" in refusal.details
        assert not world.nodes.buckets


async def test_a_taken_name_is_refused_before_a_bucket_is_made(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        await world.a_vault(session, "photos")
        with refused("NAME_TAKEN"):
            await ask(world, session, str(an_id()), "photos")
        local = profiles_pb2.Vault(
            id=str(an_id()), name="photos", kind=profiles_pb2.VAULT_KIND_LOCAL, sealed_place=b"sealed"
        )
        with refused("NAME_TAKEN"):
            await world.profiles.AddVault(profiles_pb2.AddVaultRequest(vault=local), metadata=session.metadata)
        assert world.nodes.creates == 1
        neighbour = await world.a_signed_in_user()
        await world.a_vault(neighbour, "photos")


async def test_two_devices_that_ask_for_one_name_at_once_get_one_vault(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        await world.a_template(session.person.tenant_id)
        outcomes = await asyncio.gather(
            *(ask(world, session, str(an_id()), "photos") for _ in range(4)), return_exceptions=True
        )
        assert sum(isinstance(outcome, profiles_pb2.Vault) for outcome in outcomes) == 1
        assert len(await vaults_of(world, session)) == 1


async def test_storage_out_of_reach_leaves_no_vault_and_the_same_call_succeeds_later(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        await world.a_template(session.person.tenant_id)
        vault_id = str(an_id())
        world.nodes.failing = grpc.StatusCode.UNAVAILABLE
        refusal = await ask_in_vain(world, session, vault_id)
        assert "none of its nodes answers" in refusal.details
        assert world.nodes.creates >= 2
        assert await vaults_of(world, session) == []
        world.nodes.failing = None
        world.nodes.too_few = True
        refusal = await ask_in_vain(world, session, vault_id)
        assert "Two copies need two nodes." in refusal.details
        world.nodes.too_few = False
        assert (await ask(world, session, vault_id, "photos")).id == vault_id


async def test_a_bucket_of_another_user_is_never_entered(ground: Ground) -> None:
    async with ground.world() as world:
        owner, thief = await world.a_signed_in_user(), await world.a_signed_in_user()
        vault = await world.a_vault(owner)
        await world.a_template(thief.person.tenant_id)
        with refused("INVALID_ARGUMENT"):
            await ask(world, thief, vault.id, "mine now")
        assert await vaults_of(world, thief) == []


async def test_a_vault_gets_its_key_once(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        vault = await world.a_vault(session)

        async def set_key(key: bytes) -> None:
            request = profiles_pb2.SetVaultKeyRequest(vault_id=vault.id, sealed_key=key)
            await world.profiles.SetVaultKey(request, metadata=session.metadata)

        await set_key(b"first")
        await set_key(b"first")
        with refused("VAULT_HAS_KEY"):
            await set_key(b"second")
        assert (await vaults_of(world, session))[0].sealed_key == b"first"


async def test_the_key_of_a_vault_gives_way_to_another_only_if_it_is_the_one_that_is_named(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        vault = await world.a_vault(session)

        async def set_key(key: bytes, replaces: bytes = b"") -> None:
            request = profiles_pb2.SetVaultKeyRequest(vault_id=vault.id, sealed_key=key, replaces=replaces)
            await world.profiles.SetVaultKey(request, metadata=session.metadata)

        await set_key(b"first")
        await set_key(b"second", replaces=b"first")
        await set_key(b"second", replaces=b"first")  # its answer was lost
        for wrong in (b"", b"first"):
            with refused("VAULT_HAS_KEY"):
                await set_key(b"third", replaces=wrong)
        assert (await vaults_of(world, session))[0].sealed_key == b"second"


async def test_a_local_vault_is_entered_with_its_sealed_place(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        vault = profiles_pb2.Vault(
            id=str(an_id()),
            name="disk",
            kind=profiles_pb2.VAULT_KIND_LOCAL,
            sealed_place=b"sealed path",
            sealed_key=b"sealed E",
        )
        request = profiles_pb2.AddVaultRequest(vault=vault)
        first = (await world.profiles.AddVault(request, metadata=session.metadata)).vault
        assert (await world.profiles.AddVault(request, metadata=session.metadata)).vault == first
        assert (first.sealed_place, first.sealed_key, first.bucket_id) == (b"sealed path", b"sealed E", "")
        request.vault.sealed_place = b"elsewhere"
        with refused("INVALID_ARGUMENT"):
            await world.profiles.AddVault(request, metadata=session.metadata)
        request.vault.kind = profiles_pb2.VAULT_KIND_BUCKET
        with refused("INVALID_ARGUMENT"):
            await world.profiles.AddVault(request, metadata=session.metadata)
        with refused("INVALID_ARGUMENT"):
            await token_for(world, session, first.id, "read")


async def test_the_place_of_a_local_vault_gives_way_to_another_only_if_it_is_the_one_that_is_named(
    ground: Ground,
) -> None:
    async with ground.world() as world:
        session, other = await world.a_signed_in_user(), await world.a_signed_in_user()
        vault = profiles_pb2.Vault(
            id=str(an_id()), name="store", kind=profiles_pb2.VAULT_KIND_LOCAL, sealed_place=b"first"
        )
        await world.profiles.AddVault(profiles_pb2.AddVaultRequest(vault=vault), metadata=session.metadata)

        async def set_place(place: bytes, replaces: bytes, by: SignedIn = session) -> None:
            request = profiles_pb2.SetVaultPlaceRequest(vault_id=vault.id, sealed_place=place, replaces=replaces)
            await world.profiles.SetVaultPlace(request, metadata=by.metadata)

        await set_place(b"second", replaces=b"first")
        await set_place(b"second", replaces=b"first")  # its answer was lost
        with refused("STALE_VERSION"):
            await set_place(b"third", replaces=b"first")
        with refused("INVALID_ARGUMENT"):
            await set_place(b"", replaces=b"second")
        with refused("NOT_FOUND"):
            await set_place(b"third", replaces=b"second", by=other)
        assert (await vaults_of(world, session))[0].sealed_place == b"second"


async def test_a_removed_vault_is_out_of_the_profile_and_its_name_is_free(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        vault = await world.a_vault(session, "photos")
        request = profiles_pb2.RemoveVaultRequest(vault_id=vault.id)
        await world.profiles.RemoveVault(request, metadata=session.metadata)
        await world.profiles.RemoveVault(request, metadata=session.metadata)
        assert await vaults_of(world, session) == []
        with refused("NOT_FOUND"):
            await token_for(world, session, vault.id, "read")
        with refused("INVALID_ARGUMENT"):
            await ask(world, session, vault.id, "photos")
        await world.a_vault(session, "photos")


async def test_names_that_cannot_be_are_refused(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        await world.a_template(session.person.tenant_id)
        for name in ("", "   ", "a\nb", "a\0b", "x" * 256):
            with refused("BAD_NAME"):
                await ask(world, session, str(an_id()), name)
        with refused("INVALID_ARGUMENT"):
            await ask(world, session, "not an id", "photos")
        with refused("INVALID_ARGUMENT"):
            await ask(world, session, "01900000-0000-4000-8000-000000000001", "photos")


async def test_a_token_says_what_the_node_must_know_and_is_signed(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        vault = await world.a_vault(session)
        issued = await token_for(world, session, vault.id, "read", "append")
        public_key = SIGNING_KEY.public_key()
        assert jwt.get_unverified_header(issued.token) == {
            "alg": "EdDSA",
            "typ": "JWT",
            "kid": key_id(public_key.public_bytes_raw()),
        }
        payload = jwt.decode(
            issued.token,
            public_key,
            algorithms=["EdDSA"],
            audience=AUDIENCE,
            issuer=ISSUER,
            options={"verify_exp": False, "verify_iat": False, "require": ["iat", "exp", "aud", "iss"]},
        )
        assert payload["exp"] - payload["iat"] == LIFETIME_SECONDS
        assert payload["exp"] == issued.expires.seconds
        claims = VaultClaims.from_payload(payload)
        assert (str(claims.tenant), str(claims.user)) == (session.person.tenant_id, session.person.id)
        assert (str(claims.device), str(claims.bucket)) == (session.device, vault.bucket_id)
        assert claims.device_key == session.key.public_key().public_bytes_raw()
        assert (claims.cluster, claims.scopes) == (world.cluster, frozenset({Scope.READ, Scope.APPEND}))
        assert list(issued.endpoints) == ["n1.test:8061", "n2.test:8061"]


async def test_the_last_known_nodes_are_named_while_storage_is_out_of_reach(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        vault = await world.a_vault(session)
        world.nodes.failing = grpc.StatusCode.UNAVAILABLE
        with refused("STORAGE_UNAVAILABLE"):
            await token_for(world, session, vault.id, "read")
        world.nodes.failing = None
        first = await token_for(world, session, vault.id, "read")
        world.nodes.failing = grpc.StatusCode.UNAVAILABLE
        world.clock.jump(3600)
        later = await token_for(world, session, vault.id, "read")
        assert list(later.endpoints) == list(first.endpoints)
        assert world.nodes.describes == 3


async def test_a_token_is_for_a_device_and_its_scopes_are_known_ones(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        vault = await world.a_vault(session)
        web = await world.signed_in(session.person, device=False)
        with refused("NOT_ALLOWED"):
            await token_for(world, web, vault.id, "read")
        with refused("INVALID_ARGUMENT"):
            await token_for(world, session, vault.id, "read", "everything")
        with refused("INVALID_ARGUMENT"):
            await token_for(world, session, vault.id)
        with refused("NOT_FOUND"):
            await token_for(world, await world.a_signed_in_user(), vault.id, "read")


async def test_vaults_and_templates_are_listed_in_pages(ground: Ground) -> None:
    async with ground.world() as world:
        session = await world.a_signed_in_user()
        names = sorted(a_name("vault") for _ in range(5))
        for name in names:
            await world.a_vault(session, name)
        seen: list[str] = []
        token = ""
        while True:
            request = profiles_pb2.ListVaultsRequest(page_size=2, page_token=token)
            answer = await world.profiles.ListVaults(request, metadata=session.metadata)
            assert len(answer.vaults) <= 2
            seen += [vault.name for vault in answer.vaults]
            token = answer.next_page_token
            if not token:
                break
        assert seen == names
        templates = await world.profiles.ListTemplates(profiles_pb2.ListTemplatesRequest(), metadata=session.metadata)
        assert [template.name for template in templates.templates] == ["default"]
        with refused("INVALID_ARGUMENT"):
            await world.profiles.ListVaults(
                profiles_pb2.ListVaultsRequest(page_token="forged"), metadata=session.metadata
            )
