import os
import sys
from pathlib import Path

import pytest

from bench.measure import NotMeasured, measure, processor_seconds

# Takes memory, maps as much again from a file, and stays until it has been looked at.
_TAKE = """
import mmap, os, subprocess, sys, time
taken = bytearray(b"x") * (64 << 20)
with open(sys.argv[1], "r+b") as file:
    mapped = mmap.mmap(file.fileno(), 0)
    touched = sum(mapped[at] for at in range(0, len(mapped), 4096))
if len(sys.argv) > 2:
    subprocess.run([sys.executable, "-c", sys.argv[2], sys.argv[1]], check=True)
time.sleep(2)
"""


@pytest.fixture
def mapped(tmp_path: Path) -> Path:
    file = tmp_path / "mapped"
    file.write_bytes(bytes(128 << 20))
    return file


def test_memory_is_what_the_program_made_and_not_what_it_mapped(mapped: Path, tmp_path: Path) -> None:
    run = measure([sys.executable, "-c", _TAKE, str(mapped)], os.environ, tmp_path / "log")
    assert 64 << 20 <= run.peak < 128 << 20


def test_the_memory_of_child_processes_counts(mapped: Path, tmp_path: Path) -> None:
    run = measure([sys.executable, "-c", _TAKE, str(mapped), _TAKE], os.environ, tmp_path / "log")
    assert 128 << 20 <= run.peak < 192 << 20


def test_the_processor_seconds_of_ended_children_count(tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    before = processor_seconds([os.getpid()])
    run = measure([sys.executable, "-c", burn], os.environ, tmp_path / "log")
    assert run.client_cpu >= 0.3
    assert processor_seconds([os.getpid()]) - before >= 0.3


def test_a_command_that_fails_has_no_figures(tmp_path: Path) -> None:
    with pytest.raises(NotMeasured, match=r"(?s)ended with 3:.*out of ink"):
        measure(["sh", "-c", "echo out of ink; exit 3"], os.environ, tmp_path / "log")
