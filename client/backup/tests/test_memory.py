"""How much memory a backup takes, which must not grow with what is backed up."""

import subprocess
import sys
from pathlib import Path

import pytest

# In a process of its own: what other tests have left would count too.
_PROGRAM = """
import re, sys, threading
from pathlib import Path
from client.testing.vaults import a_vault

peak, ended = 0, threading.Event()

def watch():
    global peak
    while not ended.wait(0.003):
        status = Path("/proc/self/status").read_text()
        peak = max(peak, int(re.search(r"RssAnon:\\s+(\\d+)", status)[1]))

watcher = threading.Thread(target=watch)
watcher.start()
try:
    vault = a_vault(Path(sys.argv[1]), cache=Path(sys.argv[1] + "-cache"))
    first = vault.backup(Path(sys.argv[2]))
    (Path(sys.argv[2]) / "new").write_text("new")
    second = vault.backup(Path(sys.argv[2]), parent=first.snapshot)
finally:
    ended.set()
    watcher.join()
print(first.files_new, second.files_unmodified, second.files_new, peak)
"""
_FILES = 50_000
_BOUND = 145  # MB; with an object for each file it is 175, and grows by 2 MB for every 1,000 files


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_folder_of_many_files_takes_little_memory(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(_FILES):
        (source / f"file-{number:07d}").touch()

    program = [sys.executable, "-c", _PROGRAM, str(tmp_path / "vault"), str(source)]
    told = subprocess.run(program, check=True, capture_output=True, text=True).stdout

    new, unmodified, added, peak = map(int, told.split())
    assert (new, unmodified, added) == (_FILES, _FILES, 1)
    assert 0 < peak < _BOUND << 10
