"""An S3 store that does something else than it should, once or always: what a node makes of that."""

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from clouds.testing.proxy import Answer, Proxy, Request, Treatment, a_proxy
from domain.names import CONFIG
from services.common.errors import StartError
from services.storage.errors import DiskFull
from services.storage.tests.cluster import a_body
from services.storage.tests.kept import HASTY, KEY, InStore, address_of, on_s3
from services.storage.volumes.remote.address import StoreAddress
from services.storage.volumes.remote.spool import Spool
from services.storage.volumes.remote.store import PART_BYTES, Store
from services.storage.volumes.remote.volume import RemoteVolume

ROOM = 1 << 40
BUCKET = uuid4()
_NOTHING = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"


@pytest.fixture
def proxied(s3_bucket: str) -> Iterator[Proxy]:
    """In front of the server of S3."""
    with a_proxy(urlsplit(s3_bucket).netloc) as proxy:
        yield proxy


@pytest.fixture
def address(proxied: Proxy, s3_bucket: str) -> StoreAddress:
    return StoreAddress.parse(address_of(f"http://{proxied.address}{urlsplit(s3_bucket).path}", "where"))


@pytest.fixture
def proxied_store(address: StoreAddress) -> Iterator[Store]:
    """One that waits for long for what is to succeed."""
    with closing(Store(address, KEY, "a", replace(HASTY, total=60, behind=60))) as store:
        yield store


@pytest.fixture
def kept(s3_bucket: str, tmp_path: Path) -> Iterator[InStore]:
    """What lies there, seen past the proxy."""
    (tmp_path / "kept").mkdir()
    with on_s3(s3_bucket, "where", tmp_path / "kept") as kept:
        yield kept


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with closing(Spool(tmp_path / "spool", "a", 0)) as spool:
        yield spool


class KeepsFolders:
    """A list of what is tried has each folder that was ever written to."""

    def __init__(self) -> None:
        self.folders: set[str] = set()

    def __call__(self, request: Request) -> Answer:
        if found := re.search(r"/(where/incoming/tried/\w+/)first", request.path):
            self.folders.add(found[1])
        if not request.is_of_a_list or "prefix=where/incoming/tried/&" not in f"{unquote(request.query)}&":
            return request.passed_on()
        folders = "".join(f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>" for folder in self.folders)
        return Answer.of(
            200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{folders}</ListBucketResult>".encode()
        )


def lying(is_meant: Callable[[Request], bool], answer: Answer) -> Treatment:
    """What is asked so gets that answer, all else the server's."""
    return lambda request: answer if is_meant(request) else request.passed_on()


_LISTS_NOTHING = lying(lambda asked: asked.is_of_a_list, Answer.of(200, _NOTHING))


def test_bodies_are_sent_without_checksums_to_a_store_that_refuses_those_at_the_start(
    proxied: Proxy, proxied_store: Store, spool: Spool
) -> None:
    def knows_no_checksums(request: Request) -> Answer:
        has_one = any(name.lower() == "x-amz-checksum-crc32c" for name in request.headers)
        return Answer.refusal(501, "NotImplemented") if has_one else request.passed_on()

    proxied.treatment = knows_no_checksums
    with capture_logs() as logs:
        assert RemoteVolume(proxied_store, spool, "a", ROOM, cluster="local").is_there
    assert [line["cause"] for line in logs if "no checksums" in line["event"]] == [
        "it lacks what is asked of it (it answers NotImplemented)"
    ]


def test_a_store_that_shows_late_what_was_written_is_waited_for(
    proxied: Proxy, proxied_store: Store, spool: Spool
) -> None:
    late = 2

    def shows_late(request: Request) -> Answer:
        nonlocal late
        if request.method == "HEAD" and request.path.endswith("second") and late:
            late -= 1
            return Answer.of(404)
        return request.passed_on()

    proxied.treatment = shows_late
    assert RemoteVolume(proxied_store, spool, "a", ROOM, cluster="local").is_there
    assert not late


@pytest.mark.parametrize(
    ("treatment", "said"),
    [
        (
            lying(lambda asked: asked.method == "HEAD" and "second" in asked.path, Answer.of(404)),
            "was given 20 bytes",
        ),
        (lying(lambda asked: asked.method == "GET" and "second" in asked.path, Answer.of(404)), "did not keep"),
        (_LISTS_NOTHING, "does not list"),
        (KeepsFolders(), "keeps a folder"),
    ],
)
def test_a_store_that_does_not_show_what_was_written_is_refused(
    proxied: Proxy, address: StoreAddress, spool: Spool, treatment: Treatment, said: str
) -> None:
    proxied.treatment = treatment
    with closing(Store(address, KEY, "a", HASTY)) as store, pytest.raises(StartError, match=said):
        RemoteVolume(store, spool, "a", ROOM, cluster="local")


@pytest.mark.parametrize(("treatment", "said"), [(_LISTS_NOTHING, "does not list"), (KeepsFolders(), "keeps a folder")])
def test_a_node_starts_with_a_store_of_its_own_whose_lists_are_not_right(  # noqa: PLR0917 - fixtures
    proxied: Proxy, address: StoreAddress, kept: InStore, spool: Spool, treatment: Treatment, said: str
) -> None:
    kept.volume().close()
    proxied.treatment = treatment
    with closing(Store(address, KEY, "a", HASTY)) as store, capture_logs() as logs:
        assert RemoteVolume(store, spool, "a", ROOM, cluster="local").is_there
    assert [said in line["cause"] for line in logs if line["log_level"] == "error"] == [True]


def test_a_list_that_lags_once_is_asked_for_again(proxied: Proxy, proxied_store: Store, spool: Spool) -> None:
    lags = True

    def late(request: Request) -> Answer:
        nonlocal lags
        if lags and request.is_of_a_list and re.search(r"tried/\w+/", unquote(request.query)):
            lags = False
            return Answer.of(200, _NOTHING)
        return request.passed_on()

    proxied.treatment = late
    assert RemoteVolume(proxied_store, spool, "a", ROOM, cluster="local").is_there
    assert not lags


@pytest.mark.parametrize("is_own", [True, False])
def test_a_store_that_is_full_is_taken_where_it_is_the_nodes_already(
    proxied: Proxy, proxied_store: Store, kept: InStore, spool: Spool, *, is_own: bool
) -> None:
    if is_own:
        kept.volume().close()
        kept.write(f"buckets/{BUCKET}/config", b"config")
    proxied.treatment = lying(lambda asked: asked.method == "PUT", Answer.refusal(507, "InsufficientStorage"))
    if not is_own:
        with pytest.raises(StartError, match="is full"):
            RemoteVolume(proxied_store, spool, "a", ROOM, cluster="local")
        return
    volume = RemoteVolume(proxied_store, spool, "a", ROOM, cluster="local")
    assert volume.is_there
    assert volume.free_bytes == 0
    assert volume.remove(BUCKET, [CONFIG]) == {CONFIG}
    assert kept.files() == []


def test_a_body_whose_upload_was_ended_by_a_rule_is_sent_anew(
    proxied: Proxy, proxied_store: Store, tmp_path: Path
) -> None:
    body = a_body(2 * PART_BYTES)
    refusals = [404]

    def ends_one(request: Request) -> Answer:
        if "partNumber=2" in request.query and refusals:
            return Answer.refusal(refusals.pop(), "NoSuchUpload")
        return request.passed_on()

    proxied.treatment = ends_one
    (tmp_path / "body").write_bytes(body)
    proxied_store.upload(tmp_path / "body", "incoming/x", len(body))
    assert not refusals
    assert proxied_store.read("incoming/x") == body


def test_a_body_of_which_a_part_was_refused_is_sent_again(proxied: Proxy, proxied_store: Store, tmp_path: Path) -> None:
    refusals = ["SlowDown", "InternalError"]
    body = a_body(2 * PART_BYTES)

    def refuses(request: Request) -> Answer:
        return (
            Answer.refusal(503, refusals.pop()) if "partNumber=2" in request.query and refusals else request.passed_on()
        )

    proxied.treatment = refuses
    (tmp_path / "body").write_bytes(body)
    proxied_store.upload(tmp_path / "body", "incoming/x", len(body))
    assert proxied_store.read("incoming/x") == body
    proxied.treatment = lying(lambda asked: "partNumber=2" in asked.query, Answer.refusal(507, "InsufficientStorage"))
    with pytest.raises(DiskFull):
        proxied_store.upload(tmp_path / "body", "incoming/y", len(body))
    assert proxied_store.is_full
    assert proxied_store.size("incoming/y") is None
