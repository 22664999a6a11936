"""What cannot be read gives an error, and nothing else does."""

import os
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from client.errors import StoreError
from client.mount.tests.a_mount import a_mount
from client.stores.abc import StoreSession
from client.stores.local import LocalStore
from client.testing.faults import SessionAround
from client.testing.files import random_bytes
from client.testing.vaults import VaultForTests, a_vault
from client.vault.blobs import BlobId, BlobKind
from client.vault.nodes import encode_tree
from client.vault.tests import builders
from client.vault.tests.builders import VaultWriter
from client.vault.walk import list_snapshot
from domain.names import ObjectKind, ObjectName

pytestmark = pytest.mark.needs("fusermount3")
PAGE = 4096
SECONDS = 120


def test_a_damaged_blob_is_an_error_where_it_lies_and_nowhere_else(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "large").write_bytes(random_bytes(24 << 20))
    (source / "whole").write_bytes(random_bytes(3 << 20, 1))
    vault = a_vault(tmp_path / "vault")
    vault.backup(source)
    parts = blobs_of(vault, source / "large")
    number = len(parts) // 2
    harm(vault, parts[number][0])
    start = sum(length for _, length in parts[:number])
    after = start + parts[number][1]

    with a_mount(vault.store, tmp_path / "mount") as mounted:
        folder = mounted.snapshot(source)
        opened = os.open(folder / "large", os.O_RDONLY)
        try:
            content = (source / "large").read_bytes()
            for offset in range(0, len(content), PAGE):
                if offset + PAGE <= start or offset >= after:
                    assert os.pread(opened, PAGE, offset) == content[offset : offset + PAGE]
                else:
                    with pytest.raises(OSError, match="Input/output error"):
                        os.pread(opened, PAGE, offset)
        finally:
            os.close(opened)
        with pytest.raises(OSError, match="Input/output error"):
            (folder / "large").read_bytes()
        assert (folder / "whole").read_bytes() == (source / "whole").read_bytes()
        # In words, with the path, and once.
        ((path, reason),) = mounted.failures
        assert path.endswith(os.fsencode(source / "large"))
        assert parts[number][0].hex() in reason


def test_a_pack_that_is_gone_is_an_error_for_its_files_and_a_folder_that_is_lost_for_itself(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "lost").mkdir(parents=True)
    (source / "lost" / "a").write_text("a")
    (source / "kept").mkdir()
    (source / "kept" / "b").write_text("b")
    vault = a_vault(tmp_path / "vault")
    first = vault.backup(source / "kept")
    vault.backup(source / "kept", source / "lost", parent=first.snapshot)
    with vault.opened() as opened:
        for listed in list_snapshot(opened, opened.snapshots()[-1], os.fsencode(source)):
            if listed.path.endswith(b"/lost"):
                assert listed.node.subtree
                trees = opened.index.find(BlobKind.TREE, listed.node.subtree)
            if listed.path.endswith(b"/a"):
                assert listed.node.content
                data = opened.index.find(BlobKind.DATA, listed.node.content[0])
    assert trees
    assert data
    (vault.path / data.pack.path).unlink()

    with a_mount(vault.store, tmp_path / "mount") as mounted:
        folder = mounted.snapshot(source)
        assert (folder / "lost" / "a").stat().st_size == 1
        with pytest.raises(OSError, match="Input/output error"):
            (folder / "lost" / "a").read_text()
        assert (folder / "kept" / "b").read_text() == "b"
        assert any(path.endswith(b"/lost/a") for path, _ in mounted.failures)

    harm(vault, trees.entry.id, BlobKind.TREE)
    with a_mount(vault.store, tmp_path / "again") as mounted:
        folder = mounted.snapshot(source)
        with pytest.raises(OSError, match="Input/output error"):
            list((folder / "lost").iterdir())
        assert (folder / "kept" / "b").read_text() == "b"
        assert [path.endswith(b"/lost") for path, _ in mounted.failures] == [True]


def test_what_was_repacked_meanwhile_is_read_where_it_lies_now(tmp_path: Path) -> None:
    """As after a lock that was lost while the machine slept: no snapshot has come or gone since."""
    writer = VaultWriter(LocalStore(tmp_path / "vault"))
    contents = [random_bytes(100_000, number) for number in range(6)]
    nodes = [writer.file(b"%d" % number, content) for number, content in enumerate(contents)]
    writer.snapshot(writer.tree(writer.folder(b"folder", *nodes)))
    with a_mount(writer.store, tmp_path / "mount", password=builders.PASSWORD) as mounted:
        folder = mounted.at / "dates" / "latest" / "folder"
        assert folder.exists()
        former = [
            path for kind in ("data", "index") for path in (tmp_path / "vault" / kind).rglob("*") if path.is_file()
        ]
        writer.blobs(BlobKind.TREE, encode_tree(nodes), encode_tree([]))
        writer.blobs(BlobKind.DATA, b"what comes before", *contents)
        writer.index.flush()
        for path in former:
            path.unlink()
        with ThreadPoolExecutor(len(contents)) as pool:
            assert list(pool.map(lambda path: path.read_bytes(), sorted(folder.iterdir()))) == contents
        assert mounted.failures == []
    writer.finish().session.close()


class Line(SessionAround):
    """A connection that can be cut, or stand still."""

    def __init__(self, session: StoreSession) -> None:
        super().__init__(session)
        self.is_cut = False
        self.moves = threading.Event()
        self.moves.set()
        self.asked = threading.Event()

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        if self.is_cut:
            raise StoreError(place="the store", detail="the line is cut")
        if name.kind is ObjectKind.PACK:
            self.asked.set()
            assert self.moves.wait(SECONDS)
        return super().get(name, offset, length)


def test_a_line_that_is_cut_is_an_error_until_it_is_there_again(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(random_bytes(9 << 20))
    (source / "b").write_bytes(random_bytes(9 << 20, 1))
    vault = a_vault(tmp_path / "vault")
    vault.backup(source)
    lines: list[Line] = []

    def around(session: StoreSession) -> StoreSession:
        lines.append(Line(session))
        return lines[0]

    with a_mount(vault.store, tmp_path / "mount", around=around, refresh_seconds=0) as mounted:
        folder = mounted.snapshot(source)
        assert (folder / "a").read_bytes() == (source / "a").read_bytes()
        lines[0].is_cut = True
        assert (folder / "a").read_bytes() == (source / "a").read_bytes()
        with pytest.raises(OSError, match="Input/output error"):
            (folder / "b").read_bytes()
        assert "the line is cut" in mounted.failures[0][1]
        lines[0].is_cut = False
        assert (folder / "b").read_bytes() == (source / "b").read_bytes()


def test_who_waits_for_a_line_that_stands_still_can_be_ended(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(random_bytes(1 << 20))
    vault = a_vault(tmp_path / "vault")
    vault.backup(tmp_path / "a")
    lines: list[Line] = []

    def around(session: StoreSession) -> StoreSession:
        lines.append(Line(session))
        return lines[0]

    with a_mount(vault.store, tmp_path / "mount", around=around) as mounted:
        seen = mounted.snapshot(tmp_path / "a")
        assert seen.stat().st_size == 1 << 20
        lines[0].asked.clear()
        lines[0].moves.clear()
        try:
            with subprocess.Popen(["cat", str(seen)], stdout=subprocess.DEVNULL) as cat:
                assert lines[0].asked.wait(SECONDS)
                cat.kill()
                assert cat.wait(SECONDS) == -signal.SIGKILL
        finally:
            lines[0].moves.set()
        assert seen.read_bytes() == (tmp_path / "a").read_bytes()


def blobs_of(vault: VaultForTests, path: Path) -> list[tuple[BlobId, int]]:
    """The blobs of a file in the latest snapshot, and their lengths."""
    with vault.opened() as opened:
        node = next(list_snapshot(opened, opened.snapshots()[-1], os.fsencode(path))).node
        locations = [opened.index.find(BlobKind.DATA, blob) for blob in node.content or ()]
    return [(location.entry.id, location.entry.length_plain) for location in locations if location]


def harm(vault: VaultForTests, blob: BlobId, kind: BlobKind = BlobKind.DATA) -> None:
    """Flip a bit of a blob in its pack."""
    with vault.opened() as opened:
        location = opened.index.find(kind, blob)
    assert location
    pack = vault.path / location.pack.path
    body = bytearray(pack.read_bytes())
    body[location.entry.offset + location.entry.length // 2] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(body)
