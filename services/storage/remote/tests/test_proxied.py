"""An S3 store that does something else than it should, once or always: what a node makes of that."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs

from clouds.testing.proxy import Answer, Proxy, Request, Treatment, a_proxy
from services.common.errors import StartError
from services.storage.errors import DiskFull
from services.storage.remote.address import StoreAddress
from services.storage.remote.spool import Spool
from services.storage.remote.store import PART_BYTES, Store
from services.storage.remote.volume import RemoteVolume
from services.storage.tests.cluster import a_body
from services.storage.tests.kept import HASTY, KEY, address_of

ROOM = 1 << 40
_LISTS_NOTHING = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
_LISTS_ALL = (
    b"<ListBucketResult><IsTruncated>false</IsTruncated>"
    b"<CommonPrefixes><Prefix>where/incoming/tried/</Prefix></CommonPrefixes>"
    + b"".join(
        b"<Contents><Key>where/incoming/tried/%s</Key><Size>20</Size><ETag>x</ETag>"
        b"<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>" % name
        for name in (b"first", b"second")
    )
    + b"</ListBucketResult>"
)


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
def spool(tmp_path: Path) -> Iterator[Spool]:
    with closing(Spool(tmp_path / "spool", "a", 0)) as spool:
        yield spool


def lying(is_meant: Callable[[Request], bool], answer: Answer) -> Treatment:
    """What is asked so gets that answer, all else the server's."""
    return lambda request: answer if is_meant(request) else request.passed_on()


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
    ("is_meant", "answer", "said"),
    [
        (lambda asked: asked.method == "HEAD" and "second" in asked.path, Answer.of(404), "was given 20 bytes"),
        (lambda asked: asked.method == "GET" and "second" in asked.path, Answer.of(404), "did not keep"),
        (lambda asked: asked.is_of_a_list, Answer.of(200, _LISTS_NOTHING), "does not list"),
        (lambda asked: asked.is_of_a_list, Answer.of(200, _LISTS_ALL), "keeps a folder"),
    ],
)
def test_a_store_that_does_not_show_what_was_written_is_refused(  # noqa: PLR0917 - fixtures
    proxied: Proxy,
    address: StoreAddress,
    spool: Spool,
    is_meant: Callable[[Request], bool],
    answer: Answer,
    said: str,
) -> None:
    proxied.treatment = lying(is_meant, answer)
    with closing(Store(address, KEY, "a", HASTY)) as store, pytest.raises(StartError, match=said):
        RemoteVolume(store, spool, "a", ROOM, cluster="local")


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
