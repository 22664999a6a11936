"""How long an operator's session goes on asking."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from oort.storage.v1 import sessions_pb2, sessions_pb2_grpc

from client.errors import ServerUnreachable
from client.rpc import Pacing
from client.stores.abc import ObjectInfo
from deploy.seeding.session import BucketSession
from deploy.seeding.tests.buckets import Nodes, a_repository
from domain.names import CONFIG
from domain.sessions import Purpose


class Failing:
    """Takes a body for `seconds` each time, and then finds that its node has gone."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.now = 0.0
        self.attempts = 0

    def take(self, frames: Iterator[bytes]) -> None:
        assert b"".join(frames)
        self.attempts += 1
        self.now += self.seconds
        with grpc.insecure_channel("localhost:1") as gone:
            sessions_pb2_grpc.SessionServiceStub(gone).Beat(sessions_pb2.BeatRequest(), timeout=30)

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(("seconds", "attempts"), [(1000.0, 2), (25.0, 4)])
def test_a_body_is_asked_for_again_however_long_its_first_attempt_took(
    nodes: Nodes, tmp_path: Path, seconds: float, attempts: int
) -> None:
    bucket, failing = nodes.bucket(), Failing(seconds)
    bucket.take_in(a_repository(tmp_path / "source"))
    pacing = Pacing(60, monotonic=lambda: failing.now, sleep=failing.pass_by, jitter=lambda: 0.0)
    with (
        BucketSession.open(nodes.cluster, bucket.id, Purpose.READ, pacing=pacing) as session,
        pytest.raises(ServerUnreachable),
    ):
        session.fetch(ObjectInfo(CONFIG, 0), failing.take)
    assert failing.attempts == attempts
