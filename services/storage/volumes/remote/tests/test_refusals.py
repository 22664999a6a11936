"""What a node says of stores that it cannot use, or that fail: each is one clear line, and none an empty store."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from clouds.testing.answers import Answers, answering
from domain.names import CONFIG
from services.common.errors import StartError, Unavailable
from services.storage.errors import DiskFull
from services.storage.tests.cluster import a_body, pack
from services.storage.tests.kept import HASTY, KEY, InStore, address_of, on_s3
from services.storage.volumes.remote.address import StoreAddress
from services.storage.volumes.remote.spool import Spool
from services.storage.volumes.remote.store import Store, StoreAway
from services.storage.volumes.remote.volume import RemoteVolume
from services.storage.volumes.staging import StagedName

ROOM = 1 << 40


@pytest.fixture
def server() -> Iterator[Answers]:
    with answering() as server:
        yield server


def store_address(server: Answers) -> StoreAddress:
    return StoreAddress.parse(address_of(f"http://127.0.0.1:{server.server_port}/bucket", "where"))


@pytest.fixture
def store(server: Answers) -> Iterator[Store]:
    address = store_address(server)
    with closing(Store(address, KEY, "a", HASTY)) as store:
        yield store


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with closing(Spool(tmp_path / "spool", "a", 0)) as spool:
        yield spool


@pytest.fixture
def kept(s3_bucket: str, tmp_path: Path) -> Iterator[InStore]:
    with on_s3(s3_bucket, "where", tmp_path) as kept:
        yield kept


def test_a_store_that_knows_no_such_write_is_refused(
    store: Store, spool: Spool, server: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "try_out", lambda *_: None)
    server.say(404)
    server.say(501, "NotImplemented")
    with pytest.raises(StartError, match=r"does not know a write that replaces nothing .*NotImplemented"):
        RemoteVolume(store, spool, "a", ROOM, cluster="local")


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [(403, "AccessDenied", "the key's rights"), (404, "NoSuchBucket", "no such bucket")],
)
def test_a_node_does_not_start_on_a_store_that_refuses_it(  # noqa: PLR0917 - fixtures
    store: Store, spool: Spool, server: Answers, status: int, code: str, said: str
) -> None:
    server.say(status, code)
    with pytest.raises(StartError, match=said):
        RemoteVolume(store, spool, "a", ROOM, cluster="local")


def test_a_store_that_is_away_at_the_start_is_taken_when_it_is_there(
    kept: InStore, store: Store, spool: Spool, server: Answers
) -> None:
    bucket, body = uuid4(), a_body()
    RemoteVolume(kept.store, spool, "a", ROOM, cluster="local")
    kept.write(f"buckets/{bucket}/{pack(body).path}", body)
    server.say(503, "SlowDown")
    with capture_logs() as logs:
        volume = RemoteVolume(store, spool, "a", ROOM, cluster="local")
    assert any(line["log_level"] == "error" and "busy" in line["cause"] for line in logs)
    assert not volume.is_there
    # Whatever is asked about may lie there.
    assert (volume.free_bytes, volume.has_bucket(bucket), volume.may_hold(bucket)) == (0, False, True)
    for asked in (
        volume.held,
        lambda: list(volume.staged()),
        lambda: list(volume.staged(bucket)),
        lambda: volume.sessions_of(bucket),
        lambda: volume.is_noted(bucket),
        lambda: volume.note(bucket),
    ):
        with pytest.raises(Unavailable):
            asked()
    assert set(server.asked) == {"GET"}
    volume.store = kept.store
    assert not volume.is_there
    volume.claim()
    assert volume.is_there
    assert volume.held() == {bucket}
    opened = volume.open(bucket, pack(body), len(body))
    assert opened is not None
    assert opened.read(0, len(body)) == body


def test_a_store_that_was_away_and_is_another_nodes_is_never_taken(
    kept: InStore, store: Store, spool: Spool, server: Answers
) -> None:
    RemoteVolume(kept.store, spool, "a", ROOM, cluster="other")
    server.say(503, "SlowDown")
    now = [0.0]
    volume = RemoteVolume(store, spool, "a", ROOM, cluster="local", monotonic=lambda: now[0])
    volume.store = kept.store
    with capture_logs() as logs:
        for _ in range(3):
            now[0] += 301
            volume.claim()
        assert not volume.is_there
    assert ["belongs to node other/a" in line["cause"] for line in logs] == [True]
    with pytest.raises(StoreAway) as caught:
        volume.held()
    assert "belongs to node other/a" in caught.value.why


def test_a_store_that_refuses_the_node_is_asked_again_after_a_while(
    kept: InStore, store: Store, spool: Spool, server: Answers
) -> None:
    server.say(503, "SlowDown")
    now = [0.0]
    volume = RemoteVolume(store, spool, "a", ROOM, cluster="local", monotonic=lambda: now[0])
    server.answers.clear()
    server.say(403, "AccessDenied")
    volume.claim()
    asked = len(server.asked)
    volume.claim()
    assert len(server.asked) == asked
    volume.store = kept.store
    now[0] = 299
    volume.claim()
    assert not volume.is_there
    now[0] = 301
    volume.claim()
    assert volume.is_there


def test_what_fails_later_says_nothing_of_the_objects(kept: InStore, spool: Spool, server: Answers) -> None:
    bucket, body = uuid4(), a_body()
    volume = RemoteVolume(kept.store, spool, "a", ROOM, cluster="local")
    volume.make_bucket(bucket)
    address = store_address(server)
    server.say(503, "SlowDown")
    with closing(Store(address, KEY, "a", HASTY)) as volume.store:
        for asked in (
            lambda: volume.open(bucket, pack(body), 1),
            lambda: volume.lacking(bucket, [(pack(body), 1)]),
            lambda: volume.remove(bucket, [pack(body)]),
            volume.held,
            lambda: list(volume.staged()),  # a rescan that saw none would have them thrown away
            lambda: list(volume.staged(bucket)),
        ):
            with capture_logs() as logs, pytest.raises(Unavailable, match=r"^The store of node a cannot be") as caught:
                asked()
            assert "127.0.0.1" not in str((caught.value, caught.value.fields))  # it is for the operator alone
            assert any("busy" in line["cause"] and "127.0.0.1" in line["store"] for line in logs)
        assert not volume.is_there


def test_no_deletion_goes_on_when_one_has_failed(store: Store, server: Answers) -> None:
    """It might remove what was stored anew under its name since."""
    server.say(403, "QuotaExceeded")
    server.say(204)
    with pytest.raises(DiskFull):
        store.delete_all([f"data/{number}" for number in range(40)])
    assert len(server.asked) >= 40


def test_a_copy_is_in_its_place_although_the_staged_one_could_not_be_removed(
    kept: InStore, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, body = uuid4(), a_body()
    volume = RemoteVolume(kept.store, spool, "a", ROOM, cluster="local")
    arriving = volume.stage(StagedName(bucket, uuid4(), pack(body), sha256(body).digest()), len(body))
    arriving.write(body)
    arriving.finish()
    with monkeypatch.context() as patched:
        patched.setattr(Store, "delete", _refused)
        arriving.place()
    assert f"buckets/{bucket}/{pack(body).path}" in kept.files()
    (left,) = volume.staged(bucket)
    left.place()
    assert kept.files() == [f"buckets/{bucket}/{pack(body).path}"]


def test_nothing_is_missing_while_the_store_itself_is_not_found(kept: InStore, spool: Spool, server: Answers) -> None:
    """As when its route leads elsewhere, and a proxy knows no such page."""
    bucket, body = uuid4(), a_body()
    volume = RemoteVolume(kept.store, spool, "a", ROOM, cluster="local")
    kept.write(f"buckets/{bucket}/{pack(body).path}", body)
    opened = volume.open(bucket, pack(body), len(body))
    assert opened is not None
    assert volume.open(bucket, pack(b"never put"), 9) is None
    server.say(404, body=b"<html>no such page</html>")
    with closing(Store(store_address(server), KEY, "a", HASTY)) as volume.store:
        for asked in (
            lambda: opened.read(0, 10),
            lambda: volume.open(bucket, pack(body), len(body)),
            lambda: volume.lacking(bucket, [(pack(body), len(body))]),
            lambda: volume.stage(StagedName(bucket, uuid4(), CONFIG, sha256(body).digest()), 1, first=True),
        ):
            with pytest.raises(Unavailable):
                asked()
    volume.store = kept.store
    kept.store.delete(f"buckets/{bucket}/{pack(body).path}")
    assert opened.read(0, 10) == b""


def test_what_the_store_does_not_take_is_a_full_disk_and_what_it_loses_no_copy(
    kept: InStore, spool: Spool, server: Answers, store: Store
) -> None:
    volume = RemoteVolume(kept.store, spool, "a", ROOM, cluster="local")
    volume.store = store
    body = a_body()
    name = StagedName(uuid4(), uuid4(), pack(body), sha256(body).digest())
    server.say(403, "QuotaExceeded")
    full = volume.stage(name, len(body))
    full.write(body)
    with pytest.raises(DiskFull):
        full.finish()
    full.discard()
    server.answers.clear()
    server.say(200)
    server.say(404)
    lost = volume.stage(name, len(body))
    lost.write(body)
    with pytest.raises(StoreAway) as caught:
        lost.finish()
    assert "was given 1000 bytes" in caught.value.why
    lost.discard()
    assert spool.clear() == 0


def test_a_store_has_room_unless_it_was_full_a_moment_ago_or_the_spool_is(
    kept: InStore, server: Answers, tmp_path: Path
) -> None:
    now, free = [0.0], [1000]
    body = tmp_path / "body"
    body.write_bytes(b"body")
    with ExitStack() as stack:
        spool = stack.enter_context(closing(Spool(tmp_path / "spool", "a", 500, free_bytes=lambda _: free[0])))
        store = Store(store_address(server), KEY, "a", HASTY, monotonic=lambda: now[0])
        stack.enter_context(closing(store))
        volume = RemoteVolume(kept.store, spool, "a", ROOM, cluster="local")
        volume.store = store
        assert volume.free_bytes == ROOM
        free[0] = 500
        assert volume.free_bytes == 0
        free[0] = 501
        server.say(507)
        for wait in (299, 301):
            with pytest.raises(DiskFull):
                store.upload(body, "incoming/x", 4)
            now[0] += wait
            assert volume.free_bytes == (0 if wait < 300 else ROOM)
        with pytest.raises(DiskFull):
            store.upload(body, "incoming/x", 4)
        server.answers.clear()
        server.say(200)
        server.say(200, length=4)
        store.upload(body, "incoming/x", 4)
        assert volume.free_bytes == ROOM


def test_a_part_is_asked_for_alone(store: Store, server: Answers) -> None:
    server.say(206, body=b"half of it")
    assert store.read("data", 10, 10) == b"half of it"
    assert server.headers[-1]["range"] == "bytes=10-19"


def test_a_store_that_never_answers_is_given_up(server: Answers) -> None:
    server.say(200)
    server.held = threading.Event()
    address = store_address(server)
    with closing(Store(address, KEY, "a", replace(HASTY, answer=0.1, total=0))) as store:
        with pytest.raises(StoreAway) as caught:
            store.size("data")
        assert "did not answer in time" in caught.value.why
        server.held.set()


def test_a_large_body_that_stands_still_is_given_up_as_soon_as_a_part_would_be(server: Answers, tmp_path: Path) -> None:
    server.say(200)
    server.held = threading.Event()
    body = tmp_path / "body"
    body.touch()
    os.truncate(body, 16 << 30)
    patience = replace(HASTY, answer=0.1, total=0, slowest=64 << 20)
    with closing(Store(store_address(server), KEY, "a", patience)) as store:
        begun = time.monotonic()
        for send in (
            lambda: store.upload(body, "incoming/x", 16 << 30),
            lambda: store.copy("incoming/x", "buckets/x", 16 << 30),
        ):
            with pytest.raises(StoreAway) as caught:
                send()
            assert "did not answer in time" in caught.value.why
        assert time.monotonic() - begun < 60  # and not the four minutes that all of it may take
        server.held.set()


def test_a_part_that_breaks_off_is_no_object_that_was_cut(store: Store, server: Answers) -> None:
    server.say(206, body=b"half", length=8)
    with pytest.raises(Unavailable):
        store.read("data", 0, 8)
    for size, is_cut in ((4, True), (100, False)):  # as the store then says of it
        server.answers.clear()
        for _ in range(3):
            server.say(206, body=b"half")
            server.say(200, length=size)
        if is_cut:
            assert store.read("data", 4, 8) is None
        else:
            with pytest.raises(StoreAway) as caught:
                store.read("data", 4, 8)
            assert "fewer than the 8 bytes from 4 that it has" in caught.value.why


def test_a_part_that_came_short_is_read_again(store: Store, server: Answers) -> None:
    server.say(206, body=b"half")
    server.say(200, length=12)
    server.say(206, body=b"all of it")
    assert store.read("data", 3, 9) == b"all of it"
    assert server.asked == ["GET", "HEAD", "GET"]


def test_a_body_that_comes_there_altered_is_sent_again_with_its_checksum(server: Answers, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"body")
    said = "The provided 'x-amz-checksum' header does not match what was computed."
    mismatch = f"<Error><Code>XAmzContentChecksumMismatch</Code><Message>{said}</Message></Error>"
    server.say(400, body=mismatch.encode())
    server.say(400, "BadDigest")
    server.say(200)
    server.say(200, length=4)
    with closing(Store(store_address(server), KEY, "a", replace(HASTY, total=60))) as store:
        store.upload(tmp_path / "body", "incoming/x", 4)
    assert server.asked == ["PUT", "PUT", "PUT", "HEAD"]
    assert all("x-amz-checksum-crc32c" in headers for headers in server.headers[:3])


def _refused(*_: object) -> None:
    raise StoreAway("look at the key's rights", what="The store")


def test_one_process_has_a_spool(tmp_path: Path, spool: Spool) -> None:
    with pytest.raises(StartError, match="another storage node"):
        Spool(tmp_path / "spool", "b", 0)
    with pytest.raises(DiskFull):
        Spool(tmp_path / "other", "a", 1 << 60).begin(
            StagedName(uuid4(), uuid4(), pack(b"x"), sha256(b"x").digest()), 1, frees=False
        )
    assert spool.clear() == 0


def test_of_a_store_that_is_away_nothing_is_called_cleared_or_not_noted(kept: InStore) -> None:
    body, bucket = a_body(), uuid4()
    with closing(kept.volume()) as volume:
        path = f"buckets/{bucket}/{pack(body).path}"
        kept.write(path, body)
        marker = kept.read("oort-disk.json")
        kept.store.delete("oort-disk.json")
        with pytest.raises(Unavailable):
            volume.is_noted(uuid4())
        with pytest.raises(Unavailable):
            volume.sessions_of(bucket)
        with pytest.raises(Unavailable):
            volume.clear(uuid4(), set())
        kept.write("oort-disk.json", marker)
        assert kept.read(path) == body
        assert volume.sessions_of(bucket) == set()
