"""How much memory a restore out of a store on the net takes, which must not grow with what is restored."""

import subprocess
import sys
from pathlib import Path

import pytest

from client.stores.cloud import CloudStore, Location
from client.testing.files import random_bytes
from client.testing.vaults import PASSWORD, VaultForTests
from client.vault.repository import create_vault
from domain.sessions import Purpose

# In a process of its own: what other tests have left would count too.
_PROGRAM = """
import re, sys, threading
from pathlib import Path
from client.cli.start import leave
from client.stores.cloud import CloudStore, Location
from client.testing.vaults import VaultForTests

def held():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

before = peak = held()
ended = threading.Event()

def watch():
    global peak
    while not ended.wait(0.003):
        peak = max(peak, held())

watcher = threading.Thread(target=watch)
watcher.start()
try:
    vault = VaultForTests(Path())
    vault.store = CloudStore(Location.of_s3(sys.argv[1]).opened_by("key", "secret"))
    restored = vault.restore(Path(sys.argv[2]))
    vault.store.close()
finally:
    ended.set()
    watcher.join()
print(restored.fetched_bytes, peak - before)
leave(0)  # as the program does: opendal's threads may still be about
"""
_SIZE = 128 << 20
_BOUND = 100 << 10  # KiB; it takes some 40 MiB, and 155 where answers are held until a look for garbage


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_large_file_out_of_a_store_on_the_net_takes_little_memory(s3_bucket: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(random_bytes(_SIZE, 1))
    vault = VaultForTests(tmp_path)
    vault.store = store = CloudStore(Location.of_s3(s3_bucket).opened_by("key", "secret"))
    with store.open(Purpose.BACKUP) as session:
        made = create_vault(session, PASSWORD)
        assert made is not None
        made.close()
    vault.backup(source)
    store.close()

    program = [sys.executable, "-c", _PROGRAM, s3_bucket, str(tmp_path / "restored")]
    told = subprocess.run(program, check=True, capture_output=True, text=True).stdout

    fetched, taken = map(int, told.split())
    assert fetched >= _SIZE
    assert 0 < taken < _BOUND
