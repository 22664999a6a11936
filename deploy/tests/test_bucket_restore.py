"""`oort bucket restore` while a retention runs; on a running stack in end_to_end."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import grpc
import pytest
from oort.auth.v1 import admin_pb2
from oort.storage.v1 import protection_pb2

from client.account.connection import Refused, translate
from client.errors import ServerError
from client.rpc import Refusal
from deploy.buckets import BucketAdministrator, Plan, Protection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from client.account.connection import Connection

PLAN = Plan(0, [], [], [], Protection(0, "", ""))


@dataclass
class Node:
    """A connection to an auth role that refuses the first steps of a restore, or those from one on."""

    channel: grpc.Channel
    refused: range
    server: str = "auth"
    steps: int = 0
    ended: list[str] = field(default_factory=list)

    def ask(self, _method: object, _request: object) -> protection_pb2.RestoreResponse:
        self.steps += 1
        if self.steps - 1 in self.refused:
            raise Refused(Refusal(grpc.StatusCode.FAILED_PRECONDITION, "BUCKET_REFUSED", "A retention is open."))
        return protection_pb2.RestoreResponse(done=self.steps > self.refused.stop + 1)

    def call(self, method: object, request: Any) -> object:
        if isinstance(request, admin_pb2.EndSessionRequest):
            self.ended.append(request.session_id)
            return admin_pb2.EndSessionResponse()
        try:
            return self.ask(method, request)
        except Refused as refused:
            raise translate(refused.refusal, self.server) from None


@pytest.fixture
def channel() -> "Iterator[grpc.Channel]":
    with grpc.insecure_channel("nowhere.invalid:1") as channel:
        yield channel


def restore(node: Node) -> tuple[list[str], list[float]]:
    """What it said that it waits for, and its pauses. Raises as the restore does."""
    said: list[str] = []
    pauses: list[float] = []
    administrator = BucketAdministrator(cast("Connection", node))
    try:
        administrator.restore("bucket", PLAN, [], lambda _: None, waits=said.append, pause=pauses.append)
    finally:
        assert sum(pauses) <= 600
    return said, pauses


def test_a_retention_that_runs_is_waited_for_and_said_once(channel: grpc.Channel) -> None:
    node = Node(channel, range(3))
    said, pauses = restore(node)
    assert (said, len(pauses), node.ended) == (["A retention is open."], 3, [])


def test_one_that_does_not_end_is_given_up(channel: grpc.Channel) -> None:
    node = Node(channel, range(10_000))
    with pytest.raises(ServerError, match="A retention is open"):
        restore(node)
    assert node.steps == 121


def test_a_restore_that_gives_up_in_the_middle_ends_its_session(channel: grpc.Channel) -> None:
    node = Node(channel, range(1, 10_000))
    with pytest.raises(ServerError):
        restore(node)
    assert (node.steps, len(node.ended)) == (2, 1)
