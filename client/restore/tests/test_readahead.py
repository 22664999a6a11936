"""What is fetched ahead, when nobody wants it any more."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from itertools import cycle, islice
from pathlib import Path

import pytest

from client.restore import readahead
from client.restore.fetch import FETCHERS
from client.restore.readahead import contents
from client.stores.limited import LimitedStore, Limits, Line, PaceClock
from client.stores.local import LocalSession
from client.testing.files import random_bytes
from client.testing.vaults import a_vault
from client.vault.blobs import BlobKind, blob_id
from client.vault.index import Location
from domain.bandwidth import Timetable
from domain.names import ObjectName


def test_who_ends_early_does_not_wait_until_the_line_is_free(tmp_path: Path) -> None:
    vault, source = a_vault(tmp_path / "vault"), tmp_path / "file"
    source.write_bytes(random_bytes(1000, 1))
    vault.backup(source)
    is_busy, waiting = threading.Event(), threading.Event()
    woken: list[bool] = []

    def wait(event: threading.Event, _: float) -> bool:
        if is_busy.is_set():
            waiting.set()
            woken.append(event.wait(60))
        return event.is_set()

    line = Line(Limits(None, Timetable.parse("1k")), PaceClock(wait=wait))
    vault.store = LimitedStore(vault.store, line)
    with vault.opened() as opened:
        location = opened.index.find(BlobKind.DATA, blob_id(source.read_bytes()))
        line.download.count(1 << 20)
        is_busy.set()

        def locations() -> Iterator[Location | None]:
            yield from [location] * 1024  # a batch
            assert waiting.wait(60)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            list(contents(opened, locations()))
    assert woken == [True], "it waited for its turn"


def test_who_ends_early_waits_only_for_requests_that_have_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault, source = a_vault(tmp_path / "vault"), tmp_path / "source"
    source.mkdir()
    bodies = [random_bytes(100_000, number) for number in range(4 * FETCHERS)]
    for number, body in enumerate(bodies):
        (source / str(number)).write_bytes(body)
    vault.backup(source)
    has_begun, may_end = threading.Semaphore(0), threading.Event()
    unended: list[Future[object]] = []
    get_at_once = LocalSession.get

    def get(session: LocalSession, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        has_begun.release()
        assert may_end.wait(60)
        return get_at_once(session, name, offset, length)

    def wait_for(requests: Sequence[Future[object]], _: float) -> None:
        may_end.set()
        unended.extend(wait(requests, 60).not_done)

    with vault.opened() as opened:
        found = [opened.index.find(BlobKind.DATA, blob_id(body)) for body in bodies]
        located = sorted((one for one in found if one), key=lambda one: (one.pack, one.entry.offset))
        apart = located[::2]  # so that each takes a request
        monkeypatch.setattr(LocalSession, "get", get)
        monkeypatch.setattr(readahead, "wait", wait_for)

        def locations() -> Iterator[Location | None]:
            yield from islice(cycle(apart), 100)  # more than one batch, less than two
            for _ in range(FETCHERS):
                assert has_begun.acquire(timeout=60)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            list(contents(opened, locations()))
    assert may_end.is_set()
    assert not has_begun.acquire(blocking=False), "for the others were cancelled"
    assert unended == []
