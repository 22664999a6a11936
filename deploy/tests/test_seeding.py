"""Which cluster `oort bucket export`, `import` and `adopt` are about."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.errors import ServerUnreachable
from deploy.cli.__main__ import app
from deploy.local.cluster import Cluster

BUCKET = "00000000-0000-7000-8000-000000000001"


@pytest.mark.parametrize("command", [("export", BUCKET, "folder"), ("import", "folder", BUCKET), ("adopt", BUCKET)])
def test_a_bucket_of_another_cluster_is_asked_of_that(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: tuple[str, ...]
) -> None:
    asked: list[Sequence[str] | None] = []

    @contextmanager
    def of_stack(_data: Path, at: Sequence[str] | None = None) -> Iterator[Cluster]:
        asked.append(at)
        raise ServerUnreachable(server="far", reason="it is away")
        yield

    monkeypatch.setattr(Cluster, "of_stack", of_stack)
    runner = CliRunner()
    for at in ((), ("--at", "far-1:8161", "--at", "far-2:8161")):
        assert runner.invoke(app, ["bucket", *command, *at, "--data", str(tmp_path)]).exit_code != 0
    assert [list(one or ()) for one in asked] == [[], ["far-1:8161", "far-2:8161"]]
