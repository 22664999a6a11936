"""`oort session list` while a storage cluster is away; on a running stack, whose one cluster it has, in end_to_end."""

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import grpc
import pytest
from oort.auth.v1 import admin_pb2

from deploy.administrator import Administrator
from deploy.cli import accounts
from deploy.cli.__main__ import app

if TYPE_CHECKING:
    from client.account.connection import Connection


@dataclass
class Pages:
    """A connection to an auth role of two clusters, one page each: the first is silent, the second has a session."""

    channel: grpc.Channel = field(default_factory=lambda: grpc.insecure_channel("nowhere.invalid:1"))

    def call(self, _method: object, request: admin_pb2.ListSessionsRequest) -> admin_pb2.ListSessionsResponse:
        if not request.page_token:
            return admin_pb2.ListSessionsResponse(silent_cluster="away", next_page_token="next")
        return admin_pb2.ListSessionsResponse(sessions=[admin_pb2.VaultSession(id="one", cluster="there")])


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_what_other_clusters_tell_is_listed_and_the_silent_one_named(
    options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = Pages()
    monkeypatch.setattr(accounts, "_signed_in", lambda _data: nullcontext(Administrator(cast("Connection", pages))))
    assert app(["session", "list", *options], standalone_mode=False) == 3
    told = capsys.readouterr()
    assert "one" in told.out
    assert told.err == "oort: the storage cluster away does not answer: its sessions are not listed.\n"
    pages.channel.close()
