"""What a node refuses is counted once, under one of the causes that the operator's guide names."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from oort.storage.v1 import copies_pb2, copies_pb2_grpc
from prometheus_client import CollectorRegistry

import services.storage.__main__
import services.storage.rest.requests  # noqa: F401 - the same
from domain.names import ObjectKind
from domain.sessions import Purpose, Scope
from services.common.errors import ServiceError
from services.common.metrics import Metrics
from services.storage.sessions.tests.test_sessions import refusal_of
from services.storage.tests import cluster as clusters
from services.storage.tests.cluster import Cluster, a_body, a_device, pack
from services.storage.tests.restics import a_rest_node

_GUIDE = Path(__file__).parents[3] / "docs" / "operator-guide.md"
_COUNTED = re.compile(r"## What is refused, counted\n(.*?)\n## ", re.DOTALL)


def causes() -> Iterator[str]:
    """Of all errors of a storage node."""
    left: list[type[ServiceError]] = [ServiceError]
    while left:
        kind = left.pop()
        left += kind.__subclasses__()
        if (
            kind.__module__.startswith(("services.common.errors", "services.storage."))
            and ".tests." not in kind.__module__
        ):
            yield kind.cause


def test_the_guide_names_every_cause_and_no_other() -> None:
    section = _COUNTED.search(_GUIDE.read_text())
    assert section
    rows = [line.split("|")[1] for line in section[1].splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(causes())


@contextmanager
def counting(monkeypatch: pytest.MonkeyPatch) -> Iterator[CollectorRegistry]:
    """What the next node counts."""
    metrics = Metrics("storage", "a", "test")
    with monkeypatch.context() as patch:
        patch.setattr(clusters, "Metrics", lambda *_: metrics)
        yield metrics.registry


def counts(registry: CollectorRegistry, listener: str = "public") -> dict[str, float]:
    """By cause."""
    samples = [one for family in registry.collect() if family.name == "oort_refusals" for one in family.samples]
    return {
        one.labels["cause"]: one.value
        for one in samples
        if one.name.endswith("_total") and one.labels["listener"] == listener
    }


async def test_what_roles_and_nodes_are_refused_is_told_apart_from_what_devices_are(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with counting(monkeypatch) as registry:
        cluster.node("a")
        async with cluster.up("a"), cluster.internal("a", "auth", "auth-1") as channel:
            copies = copies_pb2_grpc.CopyServiceStub(channel)
            request = copies_pb2.GetCopyRequest(bucket_id=str(uuid4()), name="config", size=1)
            await refusal_of(copies.GetCopy(request).read())
        assert counts(registry) == {}
        assert counts(registry, "internal") == {"not_allowed": 1}


async def test_each_refusal_of_a_call_counts_once(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    with counting(monkeypatch) as registry:
        async with cluster.up("a"):
            claims = await cluster.bucket("a", quota_bytes=1000)
            async with cluster.client("a", claims) as client:
                session = await client.open()
                assert counts(registry) == {}
                name = pack(b"body")
                await refusal_of(client.put(session, name, b"evil"))
                await refusal_of(client.put_pack(session, a_body(2000)))
                await refusal_of(client.reserve(session, *[name] * 1001))
                await refusal_of(client.open(Purpose.RETENTION))
                await refusal_of(client.beat(uuid4()))
                await refusal_of(client.put(session, name, b"bo", size=4))
            async with cluster.client("a", claims, expires=timedelta(seconds=-10)) as late:
                await refusal_of(late.list(session, ObjectKind.PACK))
            async with cluster.client("a", replace(claims, cluster="mars")) as foreign:
                await refusal_of(foreign.list(session, ObjectKind.PACK))
            async with cluster.client("a", replace(claims, device=uuid4())) as copied:
                await refusal_of(copied.list(session, ObjectKind.PACK))
            async with cluster.client("a", a_device()) as stranger:
                await refusal_of(stranger.open())
        assert counts(registry) == {
            "name_mismatch": 2,
            "quota_exceeded": 1,
            "invalid_argument": 1,
            "missing_scope": 1,
            "session_over": 1,
            "expired_token": 1,
            "foreign_token": 1,
            "wrong_device": 1,
            "not_found": 1,
        }


async def test_each_refusal_of_a_restic_counts_once(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    with counting(monkeypatch) as registry:
        async with a_rest_node(cluster) as node:
            claims = await cluster.bucket("a")
            async with node.restic(claims, append_only=True) as restic:
                await restic.initialise()
                assert counts(registry) == {}
                assert (await restic.ask("GET", "nothing/")).status == 404
                assert (await restic.ask("POST", "data/pack", data=b"x")).status == 400
                assert (await restic.ask("POST", "config", data=b"another")).status == 403
                assert (await restic.delete(pack(b"body"))).status == 403
                assert (await restic.put(pack(b"body"), b"body")) == 403
            elsewhere = replace(claims, bucket=uuid4())
            node.auth.known["other", "secret"] = replace(elsewhere, scopes=frozenset({Scope.READ}))
            async with node.as_user("other", "secret", f"/{claims.bucket}/") as other:
                assert (await other.ask("GET", "config")).status == 403
        assert counts(registry) == {
            "not_found": 1,
            "bad_name": 1,
            "exists": 1,
            "missing_scope": 1,
            "not_locked": 1,
            "wrong_bucket": 1,
        }
