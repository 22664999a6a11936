"""What a backup holds of its packs: so many bytes, and so many blobs, however many it stores."""

from pathlib import Path
from random import Random

import pytest

from client.backup import upload
from client.backup.destinations import Destinations, Target
from client.backup.request import Counters, NoProgress
from client.flow import Crew
from client.testing.vaults import a_vault
from client.vault.blobs import SEAL_OVERHEAD, BlobKind
from client.vault.repository import Vault
from client.vault.sealing import Compression
from domain.sessions import Purpose

_BLOB = 1000  # bytes of noise
_PACK_BLOBS = 64
_PACK = _PACK_BLOBS * (_BLOB + SEAL_OVERHEAD)
_BATCH = 8


@pytest.fixture(autouse=True)
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.vault.packs.MAX_BLOBS", _PACK_BLOBS)


def store_noise(vault: Vault, blobs: int) -> None:
    random = Random(1)
    crew, counters = Crew(), Counters(NoProgress(), lambda: 0)
    vaults = Destinations([Target(vault, vault.session)], crew, counters, random, Compression.AUTO)
    vaults.prepare()
    vaults.start()
    for _ in range(blobs // _BATCH):
        vaults.store(BlobKind.DATA, [random.randbytes(_BLOB) for _ in range(_BATCH)])
    vaults.finish()
    vaults.all[0].uploader.list_rest()


def test_an_index_file_is_written_when_many_blobs_are_not_listed_however_small_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "CHECKPOINT_BLOBS", 2 * _PACK_BLOBS)
    stored = a_vault(tmp_path / "vault")
    with stored.opened(Purpose.BACKUP) as vault:
        store_noise(vault, 40 * _PACK_BLOBS)
    with stored.opened() as vault:
        listed = [sum(map(len, vault.read_index_file(name).packs)) for name in vault.index.files]
    assert sum(listed) == 40 * _PACK_BLOBS
    # The other thread may have stored packs while a file was written, until it is due to write one itself.
    assert max(listed) <= (2 + upload.UPLOADS) * _PACK_BLOBS
