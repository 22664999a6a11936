"""Faults on the way to a store of S3, which a proxy makes: nobody sees them, or they are told as what they are."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from client.errors import DamagedVault, ObjectMissing, StoreError, TruncatedObject
from client.stores.cloud import CloudStore, Location, Remembered
from client.stores.tests.contract import a_pack
from clouds.testing.clock import a_jumping_clock
from clouds.testing.faults import FAULTS, shortens_the_answer, slows_down
from clouds.testing.proxy import Answer, Proxy, Request, Treatment, a_proxy
from domain.names import CONFIG, SEAL, ObjectKind, ObjectName
from domain.sessions import Purpose


@pytest.fixture
def proxy(s3_bucket: str) -> Iterator[Proxy]:
    with a_proxy(urlsplit(s3_bucket).netloc) as proxy:
        yield proxy


@pytest.fixture
def through(proxy: Proxy, s3_bucket: str) -> Iterator[CloudStore]:
    """A store behind the proxy."""
    location = Location.of_s3(f"http://{proxy.address}{urlsplit(s3_bucket).path}")
    store = CloudStore(location.opened_by("key", "secret"), clock=a_jumping_clock())
    yield store
    store.close()


def first(fault: Treatment, method: str) -> Treatment:
    """The fault befalls the first call of that method, and no other."""
    waiting = [fault]
    return lambda request: (waiting.pop() if waiting and request.method == method else Request.passed_on)(request)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_one_call_is_seen_by_nobody(through: CloudStore, proxy: Proxy, fault: Treatment) -> None:
    with through.open(Purpose.BACKUP) as session:
        for method in ("HEAD", "PUT"):
            proxy.treatment = first(fault, method)
            name, body = a_pack()
            assert session.put(name, body)
        for offset, length in ((0, None), (10, 100), (10, None)):
            proxy.treatment = first(fault, "GET")
            assert session.get(name, offset, length) == body[offset : offset + length if length else None]
        index = ObjectName.of(ObjectKind.INDEX, body)
        session.put(index, body)
        proxy.treatment = first(fault, "GET")
        assert [info.name for info in session.list(ObjectKind.INDEX)] == [index]
        proxy.treatment = first(fault, "DELETE")
        session.remove(index)
        assert not session.exists(index)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("of", [CONFIG, SEAL])
def test_a_vault_is_made_once_whatever_befalls_the_writing_of_its_root(
    through: CloudStore, proxy: Proxy, fault: Treatment, of: ObjectName
) -> None:
    waiting = [fault]

    def treated(request: Request) -> Answer | None:
        is_it = request.method == "PUT" and request.path.endswith(of.path)
        return (waiting.pop() if waiting and is_it else Request.passed_on)(request)

    proxy.treatment = treated
    with through.open(Purpose.BACKUP) as session:
        assert session.initialise(ObjectName.of(ObjectKind.KEY, b"key"), b"key", b"config", b"seal")
        assert (session.get(CONFIG), session.get(SEAL)) == (b"config", b"seal")
        assert not session.initialise(ObjectName.of(ObjectKind.KEY, b"2"), b"2", b"another", b"laes")
        assert [session.get(info.name) for info in session.list(ObjectKind.KEY)] == [b"key"]
    assert not waiting
    assert through.creates_once, "and the store sees to it itself"


def test_a_store_that_takes_a_second_write_of_what_is_there_is_not_believed_to_tell_who_was_first(
    through: CloudStore, proxy: Proxy
) -> None:
    def heedless(request: Request) -> Answer:
        headers = {name: value for name, value in request.headers.items() if name.lower() != "if-none-match"}
        return replace(request, headers=headers).passed_on()

    proxy.treatment = heedless
    with through.open(Purpose.BACKUP) as session:
        assert session.initialise(ObjectName.of(ObjectKind.KEY, b"key"), b"key", b"config", b"seal")
        assert not through.creates_once
        assert not session.initialise(ObjectName.of(ObjectKind.KEY, b"2"), b"2", b"another", b"laes")
        assert session.get(CONFIG) == b"config"


def test_a_list_that_is_a_little_old_is_waited_for(through: CloudStore, proxy: Proxy) -> None:
    name = ObjectName.of(ObjectKind.SNAPSHOT, b"snapshot")
    with through.open(Purpose.BACKUP) as session:
        session.list(ObjectKind.SNAPSHOT)
        old = proxy.asked[-1].passed_on()
        session.commit(name, b"snapshot")
        waiting = [old, old, old]
        proxy.treatment = lambda request: waiting.pop() if waiting and request.is_of_a_list else request.passed_on()
        assert [info.name for info in session.list(ObjectKind.SNAPSHOT)] == [name]
        assert not waiting
        session.remove(name)
        assert list(session.list(ObjectKind.SNAPSHOT)) == []


def test_what_this_device_stored_earlier_is_in_every_list_by_which_things_are_removed(
    through: CloudStore, proxy: Proxy, tmp_path: Path
) -> None:
    through.remembered = Remembered(tmp_path)
    snapshot, body = ObjectName.of(ObjectKind.SNAPSHOT, b"snapshot"), b"snapshot"
    with through.open(Purpose.BACKUP) as session:
        session.list(ObjectKind.SNAPSHOT)
        old = proxy.asked[-1].passed_on()
        session.commit(snapshot, body)
    proxy.treatment = lambda request: old if request.is_of_a_list else request.passed_on()
    with through.open(Purpose.RETENTION) as session, pytest.raises(StoreError, match="which this device stored"):
        session.list(ObjectKind.SNAPSHOT)
    with through.open(Purpose.READ) as session:
        assert list(session.list(ObjectKind.SNAPSHOT)) == [], "who only reads is shown what there is"
    through.remembered = Remembered()
    with through.open(Purpose.RETENTION) as session:
        assert list(session.list(ObjectKind.SNAPSHOT)) == [], "as another device sees it, which knows nothing of it"


def test_what_was_stored_by_a_command_that_failed_is_in_every_list_by_which_things_are_removed(
    through: CloudStore, proxy: Proxy, tmp_path: Path
) -> None:
    through.remembered = Remembered(tmp_path)
    index, body = ObjectName.of(ObjectKind.INDEX, b"index"), b"index"
    with through.open(Purpose.BACKUP) as session:
        session.list(ObjectKind.INDEX)
        old = proxy.asked[-1].passed_on()
        proxy.treatment = lambda request: Answer.of(404) if request.method == "HEAD" else request.passed_on()
        with pytest.raises(StoreError, match="is not there"):
            session.put(index, body)
    proxy.treatment = lambda request: old if request.is_of_a_list else request.passed_on()
    with through.open(Purpose.RETENTION) as session, pytest.raises(StoreError, match="which this device stored"):
        session.list(ObjectKind.INDEX)


def test_what_a_store_does_not_show_yet_is_not_forgotten(through: CloudStore, proxy: Proxy, tmp_path: Path) -> None:
    through.remembered = Remembered(tmp_path)
    index, body = ObjectName.of(ObjectKind.INDEX, b"index"), b"index"
    with through.open(Purpose.BACKUP) as session:
        session.list(ObjectKind.INDEX)
        old = proxy.asked[-1].passed_on()
        session.put(index, body)
    with through.open(Purpose.RETENTION) as session:
        hides = {"GET": old, "HEAD": Answer.of(404)}
        proxy.treatment = lambda request: hides[request.method]
        assert list(session.list(ObjectKind.INDEX)) == []
        proxy.treatment = lambda request: old if request.is_of_a_list else request.passed_on()
        with pytest.raises(StoreError, match="which this device stored"):
            session.list(ObjectKind.INDEX)


def test_what_another_program_removed_is_no_more_looked_for(through: CloudStore, proxy: Proxy, tmp_path: Path) -> None:
    through.remembered = Remembered(tmp_path)
    lock, index = ObjectName.of(ObjectKind.LOCK, b"lock"), ObjectName.of(ObjectKind.INDEX, b"index")
    with through.open(Purpose.BACKUP) as session, closing(through.beside("")) as other:
        session.put(lock, b"lock")
        session.put(index, b"index")
        with other.open(Purpose.BACKUP) as theirs:
            theirs.remove(lock)
            theirs.remove(index)
        with pytest.raises(ObjectMissing):
            session.remove(lock)
        assert list(session.list(ObjectKind.LOCK)) == []
    two_hours_ago = time.time() - 2 * 3600
    os.utime(tmp_path / "index" / index.id, (two_hours_ago, two_hours_ago))
    with through.open(Purpose.RETENTION) as session:
        assert list(session.list(ObjectKind.INDEX)) == []
        proxy.asked.clear()
        assert list(session.list(ObjectKind.INDEX)) == []
    assert [request.method for request in proxy.asked] == ["GET"], "it is forgotten"


def test_names_that_a_list_lacks_are_asked_for_at_once_and_each_again_by_itself(
    through: CloudStore, proxy: Proxy, tmp_path: Path
) -> None:
    through.remembered = Remembered(tmp_path)
    names = [ObjectName.of(ObjectKind.INDEX, body) for body in (b"1", b"2", b"3", b"4")]
    for name in names:
        through.remembered.add(name)
    others = threading.Barrier(len(names))
    waiting = list(names)
    slow_down = first(slows_down, "HEAD")

    def treated(request: Request) -> Answer | None:
        if request.method == "HEAD" and waiting:
            waiting.pop()
            others.wait(60)
        return slow_down(request)

    proxy.treatment = treated
    with through.open(Purpose.RETENTION) as session:
        assert list(session.list(ObjectKind.INDEX)) == []
    assert [request.method for request in proxy.asked] == ["GET"] + ["HEAD"] * (len(names) + 1)


def test_a_store_that_shows_an_object_a_little_later_has_stored_it(through: CloudStore, proxy: Proxy) -> None:
    name, body = a_pack()
    hidden = [Answer.of(404)] * 4  # the first of which is to whether it is there already
    proxy.treatment = lambda request: hidden.pop() if hidden and request.method == "HEAD" else request.passed_on()
    with through.open(Purpose.BACKUP) as session:
        assert session.put(name, body)
        assert not hidden


@pytest.mark.parametrize("code", ["SignatureDoesNotMatch", "RequestTimeTooSkewed", "AuthorizationHeaderMalformed"])
def test_what_an_answer_without_a_body_cannot_say_is_asked_for(through: CloudStore, proxy: Proxy, code: str) -> None:
    proxy.treatment = lambda _: Answer.refusal(403, code)
    said = {"SignatureDoesNotMatch": "access key", "RequestTimeTooSkewed": "clock"}.get(code, "another region")
    with through.open(Purpose.BACKUP) as session, pytest.raises(StoreError, match=said):
        session.put(*a_pack())
    assert [request.method for request in proxy.asked] == ["HEAD", "GET"]


def test_a_pack_of_which_too_little_comes_for_good_is_damaged_and_it_is_said_how(
    through: CloudStore, proxy: Proxy
) -> None:
    name, body = a_pack()
    with through.open(Purpose.BACKUP) as session:
        session.initialise(ObjectName.of(ObjectKind.KEY, b"key"), b"key", b"config", b"seal")
        session.put(name, body)
        proxy.treatment = lambda request: (shortens_the_answer if request.method == "GET" else Request.passed_on)(
            request
        )
        for offset, length in ((0, None), (10, 100), (10, None)):
            asked = f"fewer than the {length or len(body) - offset} bytes from {offset} that it has: try again later"
            with pytest.raises(DamagedVault, match=asked) as caught:
                session.get(name, offset, length)
            assert not isinstance(caught.value, TruncatedObject), "it is whole, as far as is known"
        with pytest.raises(StoreError, match=r"sends fewer than the 6 bytes from 0 .*\(config\)"):
            session.get(CONFIG)
