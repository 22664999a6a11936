"""How a node takes a prefix of a store: whose it is, what is tried there, and what is left of that."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from services.common.errors import StartError
from services.storage.tests.kept import InStore, on_s3
from services.storage.volumes.remote import store
from services.storage.volumes.remote.spool import Spool
from services.storage.volumes.remote.store import Store, StoreAway
from services.storage.volumes.remote.volume import RemoteVolume

ROOM = 1 << 40


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with closing(Spool(tmp_path / "spool", "a", 0)) as spool:
        yield spool


@pytest.fixture
def kept(s3_bucket: str, tmp_path: Path) -> Iterator[InStore]:
    with on_s3(s3_bucket, "where", tmp_path) as kept:
        yield kept


def _refused(*_: object) -> None:
    raise StoreAway("look at the key's rights", what="The store")


def test_a_node_of_that_name_in_another_cluster_is_another(kept: InStore, spool: Spool) -> None:
    RemoteVolume(kept.store, spool, "a", ROOM, cluster="local")
    RemoteVolume(kept.store, spool, "a", ROOM, cluster="local")
    with pytest.raises(StartError, match="belongs to node local/a, and this is other/a"):
        RemoteVolume(kept.store, spool, "a", ROOM, cluster="other")


def test_of_two_nodes_that_start_at_once_on_one_prefix_one_is_told_of_the_other(
    kept: InStore, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Store.copy

    def other_tries_between(of: Store, source: str, target: str, size: int) -> bool:
        monkeypatch.setattr(Store, "copy", copy)
        RemoteVolume(kept.store, spool, "b", ROOM, cluster="local")
        return copy(of, source, target, size)

    monkeypatch.setattr(Store, "copy", other_tries_between)
    with pytest.raises(StartError, match="belongs to node local/b, and this is local/a"):
        RemoteVolume(kept.store, spool, "a", ROOM, cluster="local")


def test_a_store_whose_mark_alone_is_gone_is_told_with_the_vaults_in_it(kept: InStore, spool: Spool) -> None:
    RemoteVolume(kept.store, spool, "a", ROOM, cluster="local")
    bucket = uuid4()
    kept.write(f"buckets/{bucket}/config", b"config")
    kept.store.delete("oort-disk.json")
    with capture_logs() as logs:
        assert RemoteVolume(kept.store, spool, "a", ROOM, cluster="local").held() == {bucket}
    assert [line["buckets"] for line in logs if "had no mark" in line["event"]] == [1]


def test_what_a_node_left_of_a_trial_hinders_none_and_is_removed_later(
    kept: InStore, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.write("incoming/tried/some/first", b"This may be removed.")
    kept.write("incoming/tried/x", b"not of a trial")
    RemoteVolume(kept.store, spool, "a", ROOM, cluster="local")
    assert kept.files() == ["incoming/tried/some/first", "incoming/tried/x"]
    monkeypatch.setattr(store, "_LEFT_AFTER", timedelta(hours=-1))
    RemoteVolume(kept.store, spool, "a", ROOM, cluster="local")
    assert kept.files() == ["incoming/tried/x"]


def test_a_store_that_does_not_copy_or_remove_is_refused(
    kept: InStore, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for call in ("copy", "delete"):
        with monkeypatch.context() as patched:
            patched.setattr(Store, call, _refused)
            with pytest.raises(StartError, match="the key's rights"):
                RemoteVolume(kept.store, spool, "a", ROOM, cluster="local")
    monkeypatch.setattr(store, "_LEFT_AFTER", timedelta(hours=-1))
    RemoteVolume(kept.store, spool, "a", ROOM, cluster="local")
    assert kept.files() == []


def test_a_store_that_replaces_what_must_not_be_replaced_is_refused(
    kept: InStore, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As stores do that pass over If-None-Match."""
    create = Store.create

    def ignoring(of: Store, path: str, body: bytes) -> bool:
        of.delete(path)
        return create(of, path, body)

    monkeypatch.setattr(Store, "create", ignoring)
    with pytest.raises(StartError, match=r"replaces an object .* \(If-None-Match: \*\)"):
        RemoteVolume(kept.store, spool, "a", ROOM, cluster="local")
