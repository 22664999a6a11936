"""Repacking with a process that opens blobs, and what becomes of it when that dies."""

import os

import pytest

from client.reachability.reading import read_runs
from client.reachability.tests.a_history import AS_IT_IS, History, chunk
from client.retention.prune import openers
from client.retention.prune.openers import Opener
from client.stores.tests.memory import MemoryStore
from client.vault.blobs import BlobKind, blob_id

pytestmark = pytest.mark.skipif(os.name != "posix", reason="there is such a process where descriptors are passed on")


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openers, "_WORTH_IT", 0)
    monkeypatch.setattr(openers, "processors", lambda: 2)


def a_history() -> History:
    history = History()
    first = history.backup({"all": range(60)})
    assert first is not None
    history.backup({"most": [number for number in range(60) if number % 3]})
    history.forget(first)
    return history


def test_what_is_repacked_with_it_is_whole() -> None:
    history = a_history()
    report = history.prune(AS_IT_IS)
    assert report.repacked_packs > 10
    assert history.problems() == []
    assert history.blobs() == history.needed()


def test_a_blob_that_does_not_open_is_found_out() -> None:
    history = a_history()
    assert isinstance(history.store, MemoryStore)
    with history.opened() as vault:
        (place,) = vault.index.find_all(BlobKind.DATA, blob_id(chunk(4)))
    body = bytearray(history.store.objects[place.pack])
    body[place.entry.offset + 20] ^= 1
    history.store.objects[place.pack] = bytes(body)

    report = history.prune(AS_IT_IS)

    assert [named.partition(":")[0] for named in report.damaged.named] == [str(place.pack)]


def test_what_it_had_in_hand_when_it_died_is_opened_here() -> None:
    history = a_history()
    with history.opened() as vault:
        runs = [
            run
            for pack, entries in vault.index.packs()
            for run in read_runs(vault, pack, [(0, entry) for entry in entries])
        ]
        opener = Opener(vault.keys, len(runs))
        assert all(is_open for _, is_open in opener.opened(runs))
        process = opener._process
        assert process is not None
        process.kill()
        process.wait()
        given_back = list(opener.opened(runs))
        opener.close()
    assert [run for run, _ in given_back] == runs
    assert not any(is_open for _, is_open in given_back)
