"""What goes wrong with a store on the net: each is one clear line, and what may pass is waited for."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import groupby

import pytest

from client.errors import DamagedVault, ObjectMissing, SessionOver, StoreError, StoreFull, TruncatedObject
from client.stores.abc import Buffer
from client.stores.cloud import CloudStore, Location
from client.stores.cloud.session import CloudSession
from client.stores.tests.contract import a_pack
from clouds.calls import Patience
from clouds.failures import Failure, Trouble
from clouds.testing.answers import Answers, answering
from domain.names import CONFIG, SEAL, ObjectKind, ObjectName
from domain.sessions import Purpose

HASTY = Patience(answer=30, total=0.5, new=0.3, behind=0.05, first=0.001, longest=0.01)
PATIENT = Patience(answer=60, total=60, new=60, first=0.001, longest=0.01)  # of what is to succeed on a busy machine


@pytest.fixture
def server() -> Iterator[Answers]:
    with answering() as server:
        yield server


@pytest.fixture
def location(server: Answers) -> Location:
    return Location.of_s3(f"http://127.0.0.1:{server.server_port}/bucket/where").opened_by("key", "zqx-secret")


@pytest.fixture
def store(location: Location) -> Iterator[CloudStore]:
    store = CloudStore(location, PATIENT)
    yield store
    store.close()


@pytest.fixture
def hasty(location: Location) -> Iterator[CloudStore]:
    """One that soon gives up what may pass."""
    store = CloudStore(location, HASTY)
    yield store
    store.close()


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (403, "InvalidAccessKeyId", "access key"),
        (403, "SignatureDoesNotMatch", "access key"),
        (403, "AccessDenied", "the key's rights"),
        (404, "NoSuchBucket", "no such bucket"),
        (400, "AuthorizationHeaderMalformed", "another region"),
        (301, "PermanentRedirect", "another region"),
        (403, "RequestTimeTooSkewed", "clock"),
        (503, "SlowDown", "try again later"),
        (409, "ConditionalRequestConflict", "try again later"),
        (501, "NotImplemented", r"lacks what is asked of it \(it answers NotImplemented\)"),
        (400, "Strange", "it answers Strange"),
        (400, "", "the status 400"),
        (405, "", "address is that of such a store"),
    ],
)
def test_a_refusal_is_one_line_that_says_what_to_do(
    hasty: CloudStore, server: Answers, status: int, code: str, said: str
) -> None:
    server.say(status, code)
    with hasty.open(Purpose.READ) as session, pytest.raises(StoreError, match=said) as caught:
        session.get(CONFIG)
    assert "\n" not in str(caught.value)
    assert "zqx-secret" not in str(caught.value)
    assert "{" not in str(caught.value)
    assert not isinstance(caught.value, ObjectMissing)
    assert hasty.place in str(caught.value)


def test_what_may_pass_is_asked_for_again(store: CloudStore, server: Answers) -> None:
    for status, code in ((503, "SlowDown"), (429, ""), (500, "InternalError")):
        server.say(status, code)
    server.say(200, body=b"config")
    with store.open(Purpose.READ) as session:
        assert session.get(CONFIG) == b"config"
    assert server.asked == ["GET"] * 4 + ["HEAD"]


def test_a_refusal_is_not_asked_for_again(store: CloudStore, server: Answers) -> None:
    server.say(403, "AccessDenied")
    with store.open(Purpose.READ) as session, pytest.raises(StoreError):
        session.get(CONFIG)
    assert server.asked == ["GET"]


def test_a_store_that_is_full_says_so(store: CloudStore, server: Answers) -> None:
    server.say(404)
    server.say(507, "XMinioStorageFull")
    with store.open(Purpose.BACKUP) as session, pytest.raises(StoreFull):
        session.put(*a_pack())


def test_an_address_where_nobody_answers_is_given_up_soon(a_free_port: Callable[[], int]) -> None:
    store = CloudStore(Location.of_s3(f"http://127.0.0.1:{a_free_port()}/bucket").opened_by("key", "secret"), HASTY)
    with store.open(Purpose.READ) as session, pytest.raises(StoreError, match="nothing answers there"):
        session.get(CONFIG)
    store.close()


def test_a_store_without_tls_that_is_asked_with_it_is_told_as_such(server: Answers) -> None:
    location = Location.of_s3(f"https://127.0.0.1:{server.server_port}/bucket").opened_by("key", "secret")
    with (
        closing(CloudStore(location)) as store,
        store.open(Purpose.READ) as session,
        pytest.raises(StoreError, match="does not speak TLS"),
    ):
        session.get(CONFIG)


def test_a_body_that_breaks_off_is_fetched_again(store: CloudStore, server: Answers) -> None:
    name, body = a_pack(1000)
    server.say(200, length=1000)
    server.say(200, body=body[:300], length=1000)
    server.say(200, body=body)
    with store.open(Purpose.READ) as session:
        assert session.get(name) == body


def test_a_body_that_is_short_or_altered_is_damage(store: CloudStore, server: Answers) -> None:
    name, body = a_pack(1000)
    server.say(200, body=body[:300])
    with store.open(Purpose.READ) as session:
        with pytest.raises(DamagedVault):
            session.get(name)
        with pytest.raises(TruncatedObject):
            session.get(name, 0, 1000)


def test_a_store_that_loses_what_it_is_given_is_found_out(hasty: CloudStore, server: Answers) -> None:
    name, body = a_pack(1000)
    for answer in (404, 200, 404):
        server.say(answer)
    with hasty.open(Purpose.BACKUP) as session, pytest.raises(StoreError, match="loses what it is given"):
        session.put(name, body)


def test_the_end_of_a_session_ends_its_calls(store: CloudStore, server: Answers) -> None:
    server.say(200)
    server.held = threading.Event()
    session = store.open(Purpose.READ)
    ended: list[BaseException] = []

    def read() -> None:
        try:
            session.get(CONFIG)
        except SessionOver as error:
            ended.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    while not server.asked:
        thread.join(0.001)
    session.close()
    thread.join()
    server.held.set()
    assert len(ended) == 1


def test_a_call_that_is_never_answered_ends(server: Answers) -> None:
    location = Location.of_s3(f"http://127.0.0.1:{server.server_port}/bucket").opened_by("key", "secret")
    store = CloudStore(location, Patience(answer=0.05, total=0.1, new=0.1, first=0.001, longest=0.01))
    server.say(200)
    server.held = threading.Event()
    with store.open(Purpose.READ) as session, pytest.raises(StoreError, match="did not answer in time"):
        session.get(CONFIG)
    server.held.set()
    store.close()


def test_what_is_no_object_is_not_listed_and_packs_come_folder_by_folder(s3_store: CloudStore) -> None:
    with s3_store.open(Purpose.BACKUP) as session:
        packs = dict(a_pack(10 + number) for number in range(12))
        for name, body in packs.items():
            session.put(name, body)
        for path in ("data/zz/strange", f"data/00/{'0' * 63}", "data/readme", "snapshots/readme"):
            session.run(lambda operator, path=path: operator.write(path, b"x"))  # type: ignore[misc]
        assert [info.name for info in session.list(ObjectKind.PACK)] == sorted(packs)
        assert list(session.list(ObjectKind.SNAPSHOT)) == []


def test_an_object_that_lies_there_cut_short_is_replaced(s3_store: CloudStore) -> None:
    name, body = a_pack()
    with s3_store.open(Purpose.BACKUP) as session:
        session.run(lambda operator: operator.write(name.path, body[:-1]))
        assert session.put(name, body)
        assert session.get(name) == body


def test_of_devices_that_create_a_vault_at_once_one_does(s3_location: Location) -> None:
    stores = [CloudStore(s3_location) for _ in range(4)]
    won: list[bytes] = []
    ready = threading.Barrier(4)

    def use(number: int) -> None:
        name, body = a_pack(100)
        key = type(name)(ObjectKind.KEY, name.id)
        with stores[number].open(Purpose.BACKUP) as session:
            ready.wait()
            if session.initialise(key, body, b"config %d" % number, b"seal %d" % number):
                won.append(b"%d" % number)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = won
    with stores[0].open(Purpose.READ) as session:
        assert session.get(CONFIG) == b"config " + winner
        assert [len(session.get(info.name)) for info in session.list(ObjectKind.KEY)] == [100]
        assert session.get(type(CONFIG)(ObjectKind.SEAL)) == b"seal " + winner
    for store in stores:
        store.close()


@pytest.mark.needs("rclone")
def test_on_webdav_an_object_is_written_beside_and_what_was_left_there_is_kept_a_day(webdav_store: CloudStore) -> None:
    with webdav_store.open(Purpose.BACKUP) as session:
        session.run(lambda operator: operator.write("tmp/abandoned", b"half"))
        session.put(*a_pack())
    with webdav_store.open(Purpose.BACKUP) as session:
        left = session.run(lambda operator: operator.exists("tmp/abandoned"))
        assert left
        assert not [entry for entry in _entries(session) if "abandoned" not in entry]


def _entries(session: object) -> list[str]:
    from client.stores.cloud.session import CloudSession
    from clouds.operations import listing

    assert isinstance(session, CloudSession)
    return [entry.path for entry in session.run(listing("tmp/")) if entry.metadata.is_file]


def test_a_body_is_sent_with_a_checksum(store: CloudStore, server: Answers) -> None:
    name, body = a_pack()
    server.say(404)
    server.say(403, "AccessDenied")
    with store.open(Purpose.BACKUP) as session, pytest.raises(StoreError):
        session.put(name, body)
    assert "x-amz-checksum-crc32c" in server.headers[1]


def test_a_store_that_refuses_checksums_gets_none(store: CloudStore, server: Answers) -> None:
    name, body = a_pack(1000)
    for status, code in ((404, ""), (501, "NotImplemented"), (200, "")):
        server.say(status, code)
    server.say(200, length=1000)
    with store.open(Purpose.BACKUP) as session:
        assert session.put(name, body)
    assert server.asked == ["HEAD", "PUT", "PUT", "HEAD"]
    assert "x-amz-checksum-crc32c" not in server.headers[2]


def test_a_write_that_finds_nothing_is_no_missing_object(store: CloudStore, server: Answers) -> None:
    server.say(404)
    with store.open(Purpose.BACKUP) as session, pytest.raises(StoreError, match="storing data/") as caught:
        session.put(*a_pack())
    assert not isinstance(caught.value, ObjectMissing)


def test_a_call_that_stood_still_is_begun_again(location: Location) -> None:
    begun: list[object] = []

    async def stand_still(operator: object) -> None:
        begun.append(operator)
        await asyncio.Event().wait()

    store = CloudStore(location, Patience(answer=0.3, total=0.2, new=0.2, first=0.001, longest=0.01))
    with store.open(Purpose.READ) as session, pytest.raises(StoreError, match="did not answer in time"):
        session.run(stand_still)
    assert len(begun) == 2
    store.close()


def a_page(keys: list[str]) -> bytes:
    rest = "<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>x</ETag><Size>1</Size>"
    contents = "".join(f"<Contents><Key>where/{key}</Key>{rest}</Contents>" for key in keys)
    return f"<ListBucketResult><IsTruncated>true</IsTruncated>{contents}</ListBucketResult>".encode()


def test_a_list_that_begins_anew_without_end_is_refused(store: CloudStore, server: Answers) -> None:
    server.say(200, body=a_page([f"index/{number:064x}" for number in range(200)]))
    with store.open(Purpose.READ) as session, pytest.raises(StoreError, match="begins anew without end"):
        session.list(ObjectKind.INDEX)
    assert len(server.asked) < 20


def test_where_lists_are_pages_of_another_server_no_vault_is_made(hasty: CloudStore, server: Answers) -> None:
    key = ObjectName.of(ObjectKind.KEY, b"key")
    for status, length in ((404, None), (200, None), (200, 3)):
        server.say(status, length=length)
    server.say(200, body=b"<html><body>Please sign in</body></html>")
    with hasty.open(Purpose.BACKUP) as session, pytest.raises(StoreError, match="its list lacks"):
        session.initialise(key, b"key", b"config", b"seal")
    assert [method for method, _ in groupby(server.asked)] == ["HEAD", "PUT", "HEAD", "PUT", "GET", "DELETE"]


def test_a_store_without_conditional_writes_holds_a_vault(
    s3_store: CloudStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = ObjectName.of(ObjectKind.KEY, b"key")
    with s3_store.open(Purpose.BACKUP) as session:
        assert isinstance(session, CloudSession)
        send = session._send

        def refuse_conditions(name: ObjectName, path: str, body: Buffer, *, if_none: bool = False) -> None:
            if if_none:
                raise Failure(Trouble.UNKNOWN_TO_IT, "it lacks that")
            send(name, path, body)

        monkeypatch.setattr(session, "_send", refuse_conditions)
        assert s3_store.creates_once
        assert session.initialise(key, b"key", b"config", b"seal")
        assert not s3_store.creates_once
        assert (session.get(CONFIG), session.get(SEAL)) == (b"config", b"seal")
        assert not session.initialise(ObjectName.of(ObjectKind.KEY, b"2"), b"2", b"another", b"seal")


def test_a_folder_where_a_first_use_was_broken_off_can_be_used(s3_store: CloudStore) -> None:
    key = ObjectName.of(ObjectKind.KEY, b"key")
    with s3_store.open(Purpose.BACKUP) as session:
        session.run(lambda operator: operator.write(key.path, b"key"))
        session.run(lambda operator: operator.write(SEAL.path, b"of another"))
        assert s3_store.is_empty()
        assert session.initialise(ObjectName.of(ObjectKind.KEY, b"2"), b"2", b"config", b"seal")
        assert session.get(SEAL) == b"seal"
        session.run(lambda operator: operator.delete(CONFIG.path))
        session.put(*a_pack())
        assert not s3_store.is_empty()


@pytest.mark.needs("rclone")
def test_on_webdav_an_object_whose_renaming_lost_its_answer_is_stored(webdav_store: CloudStore) -> None:
    with webdav_store.open(Purpose.BACKUP) as session:
        assert isinstance(session, CloudSession)
        for name, body in (a_pack(), (SEAL, b"seal")):
            session.run(lambda operator, name=name, body=body: operator.write(name.path, body))  # type: ignore[misc]
            session._place(name, "tmp/gone", body)
        with pytest.raises(StoreError, match="is gone"):
            session._place(SEAL, "tmp/gone", b"laes")
        with pytest.raises(StoreError, match="is gone"):
            session._place(CONFIG, "tmp/gone", b"config")


@pytest.mark.needs("rclone")
def test_on_webdav_a_folder_that_is_missing_is_not_an_empty_one(webdav_store: CloudStore) -> None:
    with webdav_store.open(Purpose.BACKUP) as session:
        assert session.initialise(ObjectName.of(ObjectKind.KEY, b"key"), b"key", b"config", b"seal")
        for kind in (ObjectKind.SNAPSHOT, ObjectKind.INDEX, ObjectKind.PACK, ObjectKind.LOCK):
            assert list(session.list(kind)) == []
            session.run(lambda operator, kind=kind: operator.remove_all(f"{kind.value}/"))  # type: ignore[misc]
            with pytest.raises(StoreError, match=f"no folder '{kind.value}'"):
                list(session.list(kind))


def test_a_list_that_breaks_off_is_never_taken_for_a_shorter_one(store: CloudStore, server: Answers) -> None:
    page = a_page([f"index/{number:064x}" for number in range(2)]).replace(b"true", b"false")
    with store.open(Purpose.READ) as session:
        for cut in range(len(page)):
            server.answers.clear()
            server.say(200, body=page[:cut])
            server.say(200, body=page)
            assert len(list(session.list(ObjectKind.INDEX))) == 2
