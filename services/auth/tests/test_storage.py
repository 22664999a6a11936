"""What auth makes of a storage cluster that does not answer."""

import asyncio
from typing import TYPE_CHECKING, Any, cast

import grpc
import pytest

from services.auth import storage
from services.auth.errors import StorageUnavailable
from services.auth.storage import Storage
from services.auth.store.clusters import StorageCluster
from services.common.testing.clock import ManualClock

if TYPE_CHECKING:
    from services.common.database import Database


async def test_a_cluster_whose_nodes_stand_still_is_named_before_who_asks_has_given_up_auth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(storage, "ANSWER_SECONDS", 0.01)
    asked = Storage(cast("Database", None), ManualClock(), lambda _: cast("grpc.aio.Channel", None), 1)

    async def never(_channel: grpc.aio.Channel) -> Any:
        await asyncio.Event().wait()

    with pytest.raises(StorageUnavailable, match="far"):
        await asyncio.wait_for(asked.ask(StorageCluster("far", ["a:1", "b:1"], [], None), never), 60)
