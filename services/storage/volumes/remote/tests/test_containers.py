"""Stores of each kind: nothing is lost while a container is not there, and nothing is seen that is not whole."""

import errno
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from itertools import count
from pathlib import Path
from uuid import uuid4

import pytest

from domain.names import CONFIG
from services.common.errors import StartError, Unavailable
from services.storage.tests.cluster import a_body, pack
from services.storage.tests.kept import InStore, on_emulator, on_s3
from services.storage.volumes.disks import Disks
from services.storage.volumes.remote import store
from services.storage.volumes.remote.spool import Spool
from services.storage.volumes.remote.store import PART_BYTES
from services.storage.volumes.remote.volume import RemoteVolume
from services.storage.volumes.staging import StagedName

ROOM = 1 << 40


@pytest.fixture(params=["s3"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[InStore]:
    """Where `emulated.py` runs these it asks for an emulator."""
    if request.param == "emulator":
        with on_emulator(request.getfixturevalue("emulator"), tmp_path.name, tmp_path) as kept:
            yield kept
    else:
        with on_s3(request.getfixturevalue("s3_bucket"), "where", tmp_path) as kept:
            yield kept


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with closing(Spool(tmp_path / "spool", "a", 0)) as spool:
        yield spool


def test_a_node_does_not_start_where_its_container_is_not(kept: InStore, spool: Spool) -> None:
    with kept.elsewhere() as missing, pytest.raises(StartError, match="no such bucket or container"):
        RemoteVolume(missing, spool, "a", ROOM, cluster="local")


def test_nothing_is_missing_while_the_container_is_not_there(kept: InStore, spool: Spool) -> None:
    bucket, body, other = uuid4(), a_body(), a_body()
    volume = RemoteVolume(kept.store, spool, "a", ROOM, cluster="local")
    disks = Disks([volume], "a")
    name = StagedName(bucket, uuid4(), pack(body), sha256(body).digest())
    arriving = volume.stage(name, len(body))
    arriving.write(body)
    arriving.finish()
    kept.write(f"buckets/{bucket}/{pack(other).path}", other)
    opened = volume.open(bucket, pack(other), len(other))
    assert opened is not None
    many = [(pack(a_body()), 1000) for _ in range(2)]
    asked: list[Callable[[], object]] = [
        lambda: opened.read(0, 10),
        lambda: disks.open(bucket, pack(other), len(other)),
        lambda: disks.hash(bucket, pack(other), len(other)),
        lambda: disks.lacking(bucket, [(pack(other), len(other)), *many]),
        lambda: disks.lacking(bucket, [(CONFIG, 6)] * 9),  # these are listed
        lambda: disks.remove(bucket, [pack(other)]),
        lambda: disks.clear(bucket, {name.session}, uuid4()),
        lambda: volume.clear(bucket, {name.session}),
        lambda: volume.stage(replace(name, name=CONFIG), 6, first=True),
        lambda: list(volume.staged()),
        lambda: list(volume.files(bucket)),
        lambda: volume.root_files(bucket),
        lambda: volume.sessions_of(bucket),
        lambda: volume.is_noted(uuid4()),
        lambda: volume.note(uuid4()),
        volume.held,
        arriving.place,
    ]
    with kept.elsewhere() as volume.store:
        assert not volume.is_there
        for ask in asked:
            with pytest.raises(Unavailable):
                ask()
        later = volume.stage(replace(name, name=pack(other), sha256=sha256(other).digest()), len(other))
        later.write(other)
        with pytest.raises(Unavailable):
            later.finish()
        later.discard()
    volume.store = kept.store
    assert volume.is_there
    assert disks.hash(bucket, pack(other), len(other)) == sha256(other).digest()
    arriving.place()
    assert kept.files() == sorted(f"buckets/{bucket}/{pack(one).path}" for one in (body, other))


def test_of_an_upload_that_breaks_off_nothing_is_seen(
    kept: InStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.write("incoming/other", b"other")
    size = 3 * PART_BYTES
    (tmp_path / "body").write_bytes(bytes(size))
    for path in ("incoming/torn", "incoming/other"):
        pieces = count()

        def breaks(pieces: Iterator[int] = pieces) -> None:
            if next(pieces) > 2 * PART_BYTES >> 20:
                raise OSError(errno.EIO, "it breaks")

        monkeypatch.setattr(store, "more_came", breaks)  # which follows each piece
        with pytest.raises(OSError, match="it breaks"):
            kept.store.upload(tmp_path / "body", path, size)
    monkeypatch.undo()
    assert kept.store.size("incoming/torn") is None
    assert kept.files() == ["incoming/other"]
    assert kept.read("incoming/other") == b"other"


def test_of_those_that_create_one_object_at_once_one_does(kept: InStore) -> None:
    bodies = [b"%d" % number for number in range(8)]
    with ThreadPoolExecutor(len(bodies)) as threads:
        made = list(threads.map(lambda body: kept.store.create("marker", body), bodies))
    assert made.count(True) == 1
    assert kept.read("marker") == bodies[made.index(True)]


def test_an_object_that_was_cut_since_it_was_opened_reads_as_cut(kept: InStore, spool: Spool) -> None:
    volume = RemoteVolume(kept.store, spool, "a", ROOM, cluster="local")
    bucket, body = uuid4(), a_body()
    path = f"buckets/{bucket}/{pack(body).path}"
    kept.write(path, body)
    opened = volume.open(bucket, pack(body), len(body))
    assert opened is not None
    kept.write(path, body[:100])
    assert opened.read(0, 100) == body[:100]
    assert opened.read(50, 100) == b""  # a part of what is asked for is there, and none of the next
    assert opened.read(500, 100) == b""
    assert volume.open(bucket, pack(body), len(body)) is None
