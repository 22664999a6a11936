"""A node whose store is away when it starts, with a disk beside it: where bodies go, and what is said of them."""

from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from domain.names import ObjectName
from services.common.errors import Unavailable
from services.storage.tests.cluster import a_body, pack
from services.storage.tests.kept import InStore, on_s3
from services.storage.volumes.disk import Disk
from services.storage.volumes.disks import Disks
from services.storage.volumes.remote.spool import Spool
from services.storage.volumes.remote.store import Store, StoreAway
from services.storage.volumes.remote.volume import RemoteVolume
from services.storage.volumes.staging import NO_SESSION, StagedName

BUCKET, BODY = uuid4(), a_body()
SMALL_ROOM = 1  # so that what is new goes to the disk


@pytest.fixture
def kept(s3_bucket: str, tmp_path: Path) -> Iterator[InStore]:
    """A store of the node with a bucket in it."""
    with on_s3(s3_bucket, "where", tmp_path) as kept:
        kept.volume().close()
        kept.write(f"buckets/{BUCKET}/{pack(BODY).path}", BODY)
        yield kept


@pytest.fixture
def store(kept: InStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteVolume]:
    """Opened while it was away; it answers now."""
    with closing(Spool(tmp_path / "spool of this run", "a", 0)) as spool:
        with monkeypatch.context() as away:
            away.setattr(Store, "read", _away)
            store = RemoteVolume(kept.store, spool, "a", SMALL_ROOM, cluster="local")
        yield store


def _away(*_: object) -> None:
    raise StoreAway("it does not answer", passes=True, what="The store")


class Watching(Disk):
    """A disk that is looked at when the store has just come."""

    store: RemoteVolume

    @property
    def is_there(self) -> bool:
        self.store.claim()
        return super().is_there


@pytest.fixture
def disk(tmp_path: Path, store: RemoteVolume) -> Iterator[Watching]:
    with closing(Watching(tmp_path / "disk", "a", 0)) as disk:
        disk.store = store
        yield disk


def staged(bucket: UUID, name: ObjectName, body: bytes) -> StagedName:
    return StagedName(bucket, NO_SESSION, name, sha256(body).digest())


def test_a_put_between_whose_looks_the_store_comes_goes_where_its_bucket_lies(
    disk: Watching, store: RemoteVolume
) -> None:
    disks, later = Disks([disk, store], "a"), a_body()
    disks.stage(staged(BUCKET, pack(later), later), len(later)).discard()
    assert disks.holding(BUCKET) == [store]
    other = uuid4()
    disks.stage(staged(other, pack(later), later), len(later)).discard()
    assert disks.holding(other) == [disk]


def test_what_is_not_on_the_disk_that_holds_its_bucket_may_lie_in_the_store_that_is_away(
    disk: Watching, store: RemoteVolume
) -> None:
    here = a_body()
    disk.stage(staged(BUCKET, pack(here), here), len(here)).discard()
    disks = Disks([disk, store], "a")
    for ask in (disks.open, disks.hash):
        with pytest.raises(Unavailable):
            ask(BUCKET, pack(BODY), len(BODY))
    store.claim()
    assert disks.hash(BUCKET, pack(BODY), len(BODY)) == sha256(BODY).digest()
    assert disks.open(BUCKET, pack(here), len(here)) is None
