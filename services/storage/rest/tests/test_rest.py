"""restic's REST protocol: what is asked and answered over HTTPS, and what is refused (docs/sessions.md, "restic")."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import aiohttp
import pytest
from aiohttp import web

from domain.names import ObjectKind, ObjectName
from services.common.errors import StartError
from services.common.settings import load
from services.storage.rest.requests import VERSION_1
from services.storage.settings import StorageSettings
from services.storage.tests.cluster import Cluster, a_body, index, pack
from services.storage.tests.restics import RestNode, a_rest_node, basic_auth
from services.storage.transfer.frames import get_message
from services.storage.transfer.gets import Gets


async def test_a_vault_is_initialised_once_and_holds_what_is_put(cluster: Cluster) -> None:
    body = a_body(2_500_000)
    async with a_rest_node(cluster) as node:
        claims = await cluster.bucket("a")
        async with node.restic(claims) as restic:
            assert (await restic.ask("HEAD", "config")).status == 404
            await restic.initialise()
            assert (await restic.ask("POST", "config", data=b"another")).status == 403
            assert (await restic.ask("GET", "config")).body == b"config"
            assert (await restic.ask("HEAD", "config")).headers["Content-Length"] == "6"
            await restic.lock()
            assert await restic.put(pack(body), body) == 200
            # An answer was lost: the same again is the same, and no other body passes for it.
            assert await restic.put(pack(body), body) == 200
            assert await restic.put(pack(body), body[:-1] + b"x") == 400
            assert (await restic.get(pack(body))).body == body
            whole = await restic.get(pack(body), Range="bytes=0-")
            assert (whole.status, whole.body) == (206, body)
            part = await restic.get(pack(body), Range="bytes=1048000-1048999")
            assert (part.status, part.body) == (206, body[1_048_000:1_049_000])
            assert part.headers["Content-Range"] == f"bytes 1048000-1048999/{len(body)}"
            assert (await restic.get(pack(body), Range="bytes=-5")).body == body[-5:]
            assert (await restic.get(pack(body), Range=f"bytes={len(body)}-")).status == 416
            head = await restic.ask("HEAD", str(pack(body)))
            assert (head.status, head.headers["Content-Length"]) == (200, str(len(body)))
            listed = await restic.ask("GET", "data/", headers={"Accept": "application/vnd.x.restic.rest.v2"})
            assert listed.json() == [{"name": pack(body).id, "size": len(body)}]
            old = await restic.ask("GET", "data/")
            assert (old.headers["Content-Type"], old.json()) == (VERSION_1, [pack(body).id])
    assert (cluster.bucket_folder("a", claims.bucket) / pack(body).path).read_bytes() == body


async def test_what_grpc_clients_put_a_restic_reads_and_the_other_way_round(cluster: Cluster) -> None:
    async with a_rest_node(cluster) as node:
        claims = await cluster.bucket("a")
        async with cluster.client("a", claims) as client, node.restic(claims) as restic:
            session = await client.open()
            await client.initialise(session)
            made = await client.put_pack(session, b"ours")
            await client.end(session)
            assert (await restic.get(made)).body == b"ours"
            lock = await restic.lock()
            theirs = await restic.back_up()
            assert (await restic.delete(lock)).status == 200
            session = await client.open()
            assert await client.names(session, ObjectKind.PACK) == {str(made), str(theirs[0])}
            assert await client.names(session, ObjectKind.SNAPSHOT) == {str(theirs[2])}


async def test_many_objects_are_listed_whole(cluster: Cluster) -> None:
    async with a_rest_node(cluster) as node:
        claims = await cluster.bucket("a")
        await cluster.change(
            "insert into objects (bucket_id, tenant_id, user_id, kind, sha256, size, created_seq)"
            " select %s, %s, %s, 'data', sha256(n::text::bytea), n, 0 from generate_series(1, 2500) as n",
            *(claims.bucket, claims.tenant, claims.user),
        )
        async with node.restic(claims) as restic:
            assert len(await restic.names(ObjectKind.PACK)) == 2500
            await restic.lock()
            assert len(await restic.names(ObjectKind.PACK)) == 2500


@pytest.mark.parametrize("kind", [kind for kind in ObjectKind if not kind.is_root_file])
async def test_of_a_vault_that_the_catalogue_does_not_know_it_is_not_said_that_nothing_is_there(
    cluster: Cluster, kind: ObjectKind
) -> None:
    """A restic that runs while the catalogue is made anew must not take what it has stored for lost."""
    async with a_rest_node(cluster) as node:
        claims = replace(await cluster.bucket("a"), bucket=uuid4())
        async with node.restic(claims) as restic:
            assert (await restic.ask("GET", f"{kind.value}/")).status == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", f"data/{'0' * 64}", b"other content", 400),
        ("POST", f"index/{'0' * 64}", b"", 400),
        ("POST", f"keys/{'0' * 64}", b"other content", 400),
        ("POST", f"locks/{'0' * 64}", b"other content", 400),
        ("POST", "data/pack", b"x", 400),
        ("POST", f"data/{'0' * 63}", b"x", 400),
        ("POST", f"data/{'A' * 64}", b"x", 400),
        ("POST", f"oort-vault/{'0' * 64}", b"x", 404),
        ("POST", "oort-vault", b"x", 404),
        ("GET", "../../../etc/passwd", b"", 404),
        ("GET", "nothing/", b"", 404),
        ("GET", f"data/{'0' * 64}", b"", 404),
        ("DELETE", f"snapshots/{'0' * 64}", b"", 404),
        ("DELETE", f"locks/{'0' * 64}", b"", 404),
        ("DELETE", "config", b"", 403),
        ("DELETE", "", b"", 501),
        ("GET", "", b"", 501),
        ("PUT", f"data/{'0' * 64}", b"x", 501),
        ("POST", f"locks/{'0' * 64}", bytes(1 << 20), 400),
    ],
)
async def test_what_is_wrong_is_refused_with_a_line(
    cluster: Cluster, method: str, path: str, body: bytes, status: int
) -> None:
    async with a_rest_node(cluster) as node:
        claims = await cluster.bucket("a")
        async with node.restic(claims) as restic:
            await restic.initialise()
            await restic.lock()
            answer = await restic.ask(method, path, data=body)
            assert answer.status == status
            assert answer.line
            assert answer.body.decode() == f"{answer.line}\n"
            assert await restic.names(ObjectKind.PACK) == set()


async def test_a_body_of_unknown_length_is_refused(cluster: Cluster) -> None:
    async def in_parts() -> AsyncIterator[bytes]:
        yield b"body"

    async with a_rest_node(cluster) as node, node.restic(await cluster.bucket("a")) as restic:
        await restic.initialise()
        await restic.lock()
        answer = await restic.ask("POST", str(pack(b"body")), data=in_parts())
        assert (answer.status, answer.line) == (400, "The request says no Content-Length.")


async def test_a_body_that_is_cut_off_leaves_nothing(cluster: Cluster) -> None:
    body = a_body(3 << 20)
    async with a_rest_node(cluster) as node:
        claims = await cluster.bucket("a")
        async with node.restic(claims) as restic:
            await restic.initialise()
            await restic.lock()
            await cut_off(node, str(claims.bucket), pack(body), body[: 2 << 20], len(body))
            assert await restic.names(ObjectKind.PACK) == set()
            assert await restic.put(pack(body), body) == 200


async def cut_off(node: RestNode, bucket: str, name: ObjectName, part: bytes, size: int) -> None:
    """Send a part of a body, and go."""
    [(username, password)] = node.auth.known
    host, port = node.endpoint.split(":")
    context = ssl.create_default_context(cafile=str(node.cluster.certificates.ca))
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    writer.write(
        f"POST /{bucket}/{name} HTTP/1.1\r\nHost: {node.endpoint}\r\nContent-Length: {size}\r\n"
        f"Authorization: {basic_auth(username, password)}\r\n\r\n".encode()
    )
    writer.write(part)
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def test_a_quota_holds_and_says_so_in_the_status_line(cluster: Cluster) -> None:
    async with a_rest_node(cluster) as node:
        claims = await cluster.bucket("a", quota_bytes=2000)
        async with node.restic(claims) as restic:
            await restic.initialise()
            await restic.lock()
            body = a_body(1900)
            answer = await restic.ask("POST", str(pack(body)), data=body)
            assert answer.status == 403
            assert "may hold 2000 bytes" in answer.line


async def test_a_full_vault_takes_the_index_files_of_who_may_remove(cluster: Cluster) -> None:
    async with a_rest_node(cluster) as node:
        claims = await cluster.bucket("a", quota_bytes=16_000)
        async with node.restic(claims) as restic, node.restic(claims, append_only=True) as appender:
            await restic.initialise()
            await restic.lock()
            [(used,)] = cluster.sql("select bytes from buckets where id = %s", claims.bucket)
            await restic.store(pack(body := a_body(16_000 - used)), body)
            assert await restic.put(pack(b"more"), b"more") == 403
            body = a_body(900)
            assert await appender.put(index(body), body) == 403
            assert await restic.put(index(body), body) == 200
            # A part of the quota, and no more.
            body = a_body(900)
            assert await restic.put(index(body), body) == 403


async def test_a_pack_that_was_lost_is_taken_again(cluster: Cluster) -> None:
    body = a_body()
    async with a_rest_node(cluster) as node:
        claims = await cluster.bucket("a")
        async with node.restic(claims) as restic:
            await restic.initialise()
            await restic.lock()
            await restic.store(pack(body), body)
            (cluster.bucket_folder("a", claims.bucket) / pack(body).path).unlink()
            await cluster.change(
                "insert into missing_copies (object_id, node_id, bucket_id, tenant_id, user_id)"
                " select id, 'a', bucket_id, tenant_id, user_id from objects where kind = 'data'"
            )
            assert await restic.put(pack(body), body) == 200
            assert (await restic.get(pack(body))).body == body


async def test_nobody_gets_in_but_by_a_url_of_that_vault(cluster: Cluster) -> None:
    async with a_rest_node(cluster) as node:
        claims = await cluster.bucket("a")
        other = await cluster.bucket("a")
        async with node.restic(claims) as restic, node.restic(other) as theirs:
            await restic.initialise()
            async with theirs.session.get(restic.url + "config") as answer:
                assert answer.status == 403
            for username, password in ((str(claims.device), "guess"), (str(uuid4()), "secret"), ("x", "y" * 600)):
                async with node.as_user(username, password, f"/{claims.bucket}/") as nobody:
                    refused = await nobody.ask("GET", "config")
                    assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, 'Basic realm="oort"')
            async with aiohttp.ClientSession() as bare:
                context = ssl.create_default_context(cafile=str(cluster.certificates.ca))
                for header in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic !"}):
                    async with bare.get(restic.url + "config", ssl=context, headers=header) as answer:
                        assert answer.status == 401


async def test_auth_is_asked_once_a_minute_and_an_outage_does_not_end_a_restic(cluster: Cluster) -> None:
    async with a_rest_node(cluster) as node:
        claims = await cluster.bucket("a")
        async with node.restic(claims) as restic:
            await restic.initialise()
            asked = node.auth.asked
            node.auth.is_down = True
            assert (await restic.ask("GET", "config")).status == 200
            assert node.auth.asked == asked
            async with node.restic(replace(claims, device=uuid4())) as another:
                refused = await another.ask("GET", "config")
                assert (refused.status, refused.headers["Retry-After"]) == (503, "15")
                assert refused.line == "The auth server cannot be reached at the moment: try again."


async def test_an_append_only_url_stores_and_removes_nothing_but_locks(cluster: Cluster) -> None:
    async with a_rest_node(cluster) as node:
        claims = await cluster.bucket("a")
        async with node.restic(claims, append_only=True) as restic:
            await restic.initialise()
            lock = await restic.lock()
            names = await restic.back_up()
            for name in names:
                answer = await restic.delete(name)
                assert (answer.status, answer.line) == (403, "The user name and password do not allow to delete.")
            assert (await restic.delete(lock)).status == 200
            assert await restic.names(ObjectKind.SNAPSHOT) == {str(names[2])}


async def test_a_damaged_copy_is_no_answer(cluster: Cluster) -> None:
    body = a_body()
    async with a_rest_node(cluster) as node:
        claims = await cluster.bucket("a")
        async with node.restic(claims) as restic:
            await restic.initialise()
            await restic.lock()
            await restic.store(pack(body), body)
            place = cluster.bucket_folder("a", claims.bucket) / pack(body).path
            place.chmod(0o600)
            place.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
            damaged = await restic.get(pack(body))
            assert (damaged.status, "damaged or missing" in damaged.line) == (404, True)


async def test_what_breaks_in_the_middle_of_an_answer_cuts_it_off(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another status would be taken for a part of the body."""
    body = a_body(100)

    async def breaks(*_args: object) -> AsyncIterator[bytes]:
        yield get_message(body[:10])
        raise RuntimeError("as the test wants")

    async with a_rest_node(cluster) as node, node.restic(await cluster.bucket("a")) as restic:
        await restic.initialise()
        await restic.lock()
        await restic.store(pack(body), body)
        monkeypatch.setattr(Gets, "read", breaks)
        with pytest.raises(aiohttp.ClientError):
            await restic.get(pack(body))


async def test_a_reader_that_stands_still_at_the_end_of_an_answer_is_given_up(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_response: web.StreamResponse, _rest: bytes = b"") -> None:
        await asyncio.Event().wait()

    async with a_rest_node(cluster, stall_seconds=0.2) as node, node.restic(await cluster.bucket("a")) as restic:
        monkeypatch.setattr(web.StreamResponse, "write_eof", never)
        with pytest.raises(aiohttp.ClientError):
            await restic.ask("GET", "data/")


async def test_an_initialisation_that_was_broken_off_leaves_no_key_to_the_next_one(cluster: Cluster) -> None:
    """restic would give up over it where its password is the same."""
    async with a_rest_node(cluster) as node:
        claims = await cluster.bucket("a")
        async with node.restic(claims) as restic:
            assert (await restic.ask("POST", "?create=true")).status == 200
            stray = await restic.store(ObjectName.of(ObjectKind.KEY, b"of the first"), b"of the first")
            assert await restic.names(ObjectKind.KEY) == {str(stray)}
            await restic.initialise()
            [key] = await restic.names(ObjectKind.KEY)
            assert key != str(stray)
            # An initialised vault keeps its key, whatever is begun.
            assert (await restic.ask("POST", "?create=true")).status == 200
            assert await restic.names(ObjectKind.KEY) == {key}


async def test_a_config_is_refused_once_another_initialisation_has_taken_its_key(cluster: Cluster) -> None:
    async with a_rest_node(cluster) as node, node.restic(await cluster.bucket("a")) as restic:
        assert (await restic.ask("POST", "?create=true")).status == 200
        await restic.store(ObjectName.of(ObjectKind.KEY, b"of the first"), b"of the first")
        assert (await restic.ask("POST", "?create=true")).status == 200
        refused = await restic.ask("POST", "config", data=b"of the first")
        assert (refused.status, "initialise it again" in refused.line) == (403, True)
        await restic.initialise()


def test_a_rest_port_needs_an_address_and_auth(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in cluster.node("a").model_dump().items():
        if value is not None:
            text = ":".join(map(str, value)) if isinstance(value, list) else str(value)
            monkeypatch.setenv(f"OORT_{key.upper()}", text)
    monkeypatch.setenv("OORT_REST_LISTEN", "127.0.0.1:0")
    with pytest.raises(StartError, match="needs OORT_AUTH_SERVER and OORT_REST_ENDPOINT too"):
        load(StorageSettings)
