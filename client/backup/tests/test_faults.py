"""How a backup ends when something fails: one error, no snapshot, no thread left, what is stored is kept."""

import subprocess
import sys
import threading
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from random import Random

import pytest

from client.errors import SessionOver, StoreFull
from client.stores.abc import Buffer
from client.testing.faults import FailingPut, Stuck, Watched
from client.testing.files import random_bytes
from client.testing.threads import none_left
from client.testing.vaults import VaultForTests, a_vault
from domain.names import ObjectKind, ObjectName

_MIB = 1 << 20


def large_files(folder: Path, count: int = 5) -> Path:
    """Files of 20 MiB of random bytes each, and some small ones."""
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"large {number}").write_bytes(random_bytes(20 * _MIB, number))
        (folder / f"small {number}").write_bytes(random_bytes(20_000, 100 + number))
    return folder


@pytest.mark.parametrize(
    ("kind", "nth", "error"),
    [
        (ObjectKind.PACK, 1, StoreFull(place="the disk", detail="no space left on device")),
        (ObjectKind.PACK, 4, SessionOver(place="the node")),
        (ObjectKind.INDEX, 1, StoreFull(place="the disk", detail="no space left on device")),
        (ObjectKind.INDEX, 2, SessionOver(place="the node")),
        (ObjectKind.PACK, 3, KeyboardInterrupt()),
    ],
)
def test_what_cannot_be_stored_ends_the_backup_without_a_snapshot(
    tmp_path: Path, kind: ObjectKind, nth: int, error: BaseException
) -> None:
    vault, source = a_vault(tmp_path / "vault"), large_files(tmp_path / "source")

    with none_left(), pytest.raises(type(error)) as raised:
        vault.backup(source, around=lambda session: FailingPut(session, kind, nth, error))

    assert raised.value is error
    assert vault.objects(ObjectKind.SNAPSHOT) == []
    assert vault.errors() == []
    vault.backup(source)
    assert vault.errors() == []


def test_threads_that_wait_for_a_silent_store_are_woken_when_another_fails(tmp_path: Path) -> None:
    vault, source = a_vault(tmp_path / "vault"), large_files(tmp_path / "source")
    turns = count()

    class SilentThenGivenUp(Stuck):
        def put(self, name: ObjectName, body: Buffer, packs: Sequence[ObjectName] = ()) -> bool:
            if next(turns) == 1:
                self.waiting.wait()
                raise KeyboardInterrupt
            return super().put(name, body, packs)

    with none_left(), pytest.raises(KeyboardInterrupt):
        vault.backup(source, around=lambda session: SilentThenGivenUp(session, SessionOver(place="the node")))


def test_checkpoints_list_what_is_stored_so_that_little_is_at_risk(tmp_path: Path) -> None:
    vault, source = a_vault(tmp_path / "vault"), large_files(tmp_path / "source", 10)
    at_risk: list[int] = []
    lock = threading.Lock()
    unlisted: dict[ObjectName, int] = {}

    class Measured(Watched):
        def put(self, name: ObjectName, body: Buffer, packs: Sequence[ObjectName] = ()) -> bool:
            with lock:
                if name.kind is ObjectKind.PACK:
                    unlisted[name] = len(body)
                    at_risk.append(sum(unlisted.values()))
            new = super().put(name, body, packs)
            with lock:
                for pack in packs:
                    unlisted.pop(pack, None)
            return new

    vault.backup(source, around=Measured)

    assert len(vault.objects(ObjectKind.INDEX)) >= 5
    assert max(at_risk) <= 60 * _MIB


_KILLED = """
import sys
from collections.abc import Sequence
from pathlib import Path
from client.testing.faults import Watched
from client.testing.vaults import VaultForTests
from domain.names import ObjectKind

calls = 0
def on_put(name):
    global calls
    calls += 1
    print(calls, flush=True)

VaultForTests(Path(sys.argv[1])).backup(Path(sys.argv[2]), around=lambda session: Watched(session, on_put))
"""


@pytest.mark.parametrize("seed", range(2))
def test_the_backup_after_a_killed_one_sends_little_again(tmp_path: Path, seed: int) -> None:
    """The whole is 160 MiB; killed after a random number of objects, at a random point within the next."""
    vault, source = a_vault(tmp_path / "vault"), large_files(tmp_path / "source", 8)
    random = Random(seed)
    for _ in range(2):
        kill_after(random.randint(1, 12), random.random() * 0.05, vault, source)
        assert vault.errors() == []

    stored = sum(path.stat().st_size for path in vault.objects(ObjectKind.PACK))
    summary = vault.backup(source)

    whole = 8 * 20 * _MIB
    assert summary.uploaded_bytes + stored - whole <= 2 * 64 * _MIB  # two kills
    assert vault.errors() == []
    assert vault.restore(tmp_path / "target").damaged == ()
    restored = tmp_path / "target" / source.relative_to("/")
    assert all((restored / path.name).read_bytes() == path.read_bytes() for path in source.iterdir())


def kill_after(objects: int, delay: float, vault: VaultForTests, source: Path) -> None:
    """Run a backup in a process of its own and end it by SIGKILL when it has begun to store `objects` objects."""
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(vault.path), str(source)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            if int(line) >= objects:
                threading.Event().wait(delay)
                break
        process.kill()
    process.wait()


def test_a_file_replaced_by_a_folder_while_it_is_read_is_stored_as_it_was_read_and_named(tmp_path: Path) -> None:
    vault, source = a_vault(tmp_path / "vault"), tmp_path / "source"
    source.mkdir()
    file, content = source / "large", random_bytes(120 * _MIB, 7)  # more than is read ahead of what is stored
    file.write_bytes(content)

    one_at_a_time = threading.Lock()

    def replace(_name: ObjectName) -> None:
        with one_at_a_time:
            if file.is_file():
                file.unlink()
                file.mkdir()
                (file / "inner").write_text("inner")

    summary = vault.backup(source, around=lambda session: Watched(session, replace))

    assert [Path(warned.path.decode()).name for warned in summary.warnings] == ["large"]
    assert (file / "inner").exists()
    assert vault.errors() == []
    vault.restore(tmp_path / "target")
    assert (tmp_path / "target" / file.relative_to("/")).read_bytes() == content
    vault.backup(source, parent=summary.snapshot)
    vault.restore(tmp_path / "again")
    assert (tmp_path / "again" / file.relative_to("/") / "inner").read_text() == "inner"
