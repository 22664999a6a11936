"""What a backup holds of its packs: so many bytes, and so many blobs, however many it stores."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import pytest

from client.backup import upload
from client.backup.packing import Packer
from client.backup.request import Counters, NoProgress
from client.backup.upload import MeteredSession, Uploader
from client.flow import Crew
from client.testing.faults import SessionAround
from client.testing.vaults import a_vault
from client.vault.blobs import SEAL_OVERHEAD, BlobKind, Buffer
from client.vault.repository import Vault
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose

_BLOB = 1000  # bytes of noise
_PACK_BLOBS = 64
_PACK = _PACK_BLOBS * (_BLOB + SEAL_OVERHEAD)
_BATCH = 8


@pytest.fixture(autouse=True)
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.vault.packs.MAX_BLOBS", _PACK_BLOBS)


class Waiting(Crew):
    """Tells when the main thread is about to wait."""

    def __init__(self, tell: Callable[[], None]) -> None:
        super().__init__()
        self._tell = tell

    def wait_until(self, condition: threading.Condition, is_so: Callable[[], bool]) -> None:
        if threading.current_thread() is threading.main_thread() and not is_so():
            self._tell()
        super().wait_until(condition, is_so)


class Held(SessionAround):
    """Stores no pack before it may."""

    def __init__(self, vault: Vault, may_store: threading.Event) -> None:
        super().__init__(vault.session)
        self._may_store = may_store

    def put(self, name: ObjectName, body: Buffer, packs: Sequence[ObjectName] = ()) -> bool:
        if name.kind is ObjectKind.PACK:
            self._may_store.wait()
        return super().put(name, body, packs)


def store_noise(vault: Vault, session: MeteredSession, counters: Counters, crew: Crew, blobs: int) -> None:
    random = Random(1)
    uploader = Uploader(crew, vault, session, locked=False)
    packer = Packer(vault, uploader, counters, random)
    uploader.start()
    for _ in range(blobs // _BATCH):
        packer.store(BlobKind.DATA, [random.randbytes(_BLOB) for _ in range(_BATCH)])
    packer.finish()
    uploader.close()
    crew.wait()
    uploader.list_rest()


def test_open_packs_wait_with_those_in_flight_within_one_bound_of_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "PACKS_BYTES", 3 * _PACK)
    counters, may_store = Counters(NoProgress(), lambda: 0), threading.Event()
    held: list[int] = []  # of what was sealed, as long as no pack is stored

    def waits() -> None:
        if not may_store.is_set():
            held.append(counters.report().stored_bytes)
            may_store.set()

    with a_vault(tmp_path / "vault").opened(Purpose.BACKUP) as vault:
        session = MeteredSession(Held(vault, may_store), vault)
        store_noise(vault, session, counters, Waiting(waits), 10 * _PACK_BLOBS)
    batch = _BATCH * _PACK // _PACK_BLOBS
    assert 2 * _PACK < held[0] <= 3 * _PACK + batch


def test_an_index_file_is_written_when_many_blobs_are_not_listed_however_small_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "CHECKPOINT_BLOBS", 2 * _PACK_BLOBS)
    stored = a_vault(tmp_path / "vault")
    with stored.opened(Purpose.BACKUP) as vault:
        counters = Counters(NoProgress(), lambda: 0)
        store_noise(vault, MeteredSession(vault.session, vault), counters, Crew(), 40 * _PACK_BLOBS)
    with stored.opened() as vault:
        listed = [sum(map(len, vault.read_index_file(name).packs)) for name in vault.index.files]
    assert sum(listed) == 40 * _PACK_BLOBS
    # The other thread may have stored packs while a file was written, until it is due to write one itself.
    assert max(listed) <= (2 + upload.UPLOADS) * _PACK_BLOBS
