"""What is fetched ahead, when nobody wants it any more."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.restore.readahead import contents
from client.stores.limited import LimitedStore, Limits, Line, PaceClock
from client.testing.files import random_bytes
from client.testing.vaults import a_vault
from client.vault.blobs import BlobKind, blob_id
from client.vault.index import Location
from domain.bandwidth import Timetable


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
