"""Files and archives of a snapshot as streams, read by the programs that people have."""

import io
import os
import subprocess
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest
import zstandard

from client.errors import DamagedVault, NoSuchPath, UsageError
from client.restore.archive import open_archive
from client.restore.compare import differences
from client.restore.dump import dump_archive, dump_file
from client.restore.request import ArchiveFormat, Counters, NoProgress
from client.restore.tests.test_restore import flip_a_bit_of, some_files
from client.testing.files import a_mixed_tree, random_bytes
from client.testing.vaults import VaultForTests, a_vault
from client.vault.blobs import blob_id

ROOT = os.geteuid() == 0
MIB = 1 << 20


def archived(vault: VaultForTests, path: Path | str, kind: ArchiveFormat, output: io.BytesIO) -> Counters:
    counters = Counters(NoProgress())
    with vault.opened() as opened, open_archive(kind, output) as archive:
        dump_archive(opened, opened.find_snapshot("latest"), os.fsencode(path), archive, counters)
    return counters


def dumped(vault: VaultForTests, path: Path | str) -> bytes:
    output = io.BytesIO()
    with vault.opened() as opened:
        assert dump_file(opened, opened.find_snapshot("latest"), os.fsencode(path), output) == len(output.getvalue())
    return output.getvalue()


def test_a_file_is_dumped_as_it_was(tmp_path: Path) -> None:
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    (source / "disk").write_bytes(random_bytes(40 * MIB, 9))
    (source / "empty").write_bytes(b"")
    vault.backup(source)
    for name in ("disk", "docs/a.txt", "empty"):
        assert dumped(vault, source / name) == (source / name).read_bytes()
    with pytest.raises(UsageError, match="--archive"):
        dumped(vault, source / "docs")
    with pytest.raises(UsageError, match="--archive"):
        dumped(vault, "/")
    with pytest.raises(NoSuchPath):
        dumped(vault, source / "nothing")


def test_a_damaged_file_is_dumped_up_to_the_damage(tmp_path: Path) -> None:
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    vault.backup(source)
    with vault.opened() as opened:
        trees = opened.find_snapshot("latest")
    assert trees.paths
    flip_a_bit_of(vault, blob_id((source / "pictures" / "3").read_bytes()))
    with pytest.raises(DamagedVault, match="ends there"):
        dumped(vault, source / "pictures" / "3")


@pytest.mark.parametrize("kind", [ArchiveFormat.TAR, ArchiveFormat.TAR_GZ, ArchiveFormat.TAR_ZST])
def test_tar_unpacks_all_that_was_backed_up(tmp_path: Path, kind: ArchiveFormat) -> None:
    source, vault = tmp_path / "source", a_vault(tmp_path / "vault")
    a_mixed_tree(source, privileged=ROOT)
    os.removexattr(source / "small", "system.posix_acl_access")  # GNU tar wants its own keyword for these
    (source / ("long " * 40)).write_text("long name")
    vault.backup(source)
    output = io.BytesIO()

    counters = archived(vault, source, kind, output)

    assert (counters.warned, counters.lost) == (0, 0)
    body = output.getvalue()
    if kind is ArchiveFormat.TAR_ZST:
        body = zstandard.ZstdDecompressor().stream_reader(body).read()  # not every tar knows it
    (tmp_path / "target").mkdir()
    command = ["tar", "--extract", "--xattrs", "--xattrs-include=*", "--same-owner", "--same-permissions"]
    if kind is ArchiveFormat.TAR_GZ:
        command.append("--gzip")
    command += ["--warning=no-unknown-keyword", "--warning=no-timestamp", "--directory", str(tmp_path / "target")]
    done = subprocess.run(command, input=body, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert [str(found) for found in differences(source, tmp_path / "target" / "source")] == []


def test_a_zip_has_files_links_modes_and_times(tmp_path: Path) -> None:
    source, vault = tmp_path / "source", a_vault(tmp_path / "vault")
    a_mixed_tree(source, privileged=ROOT)
    vault.backup(source)
    output = io.BytesIO()

    class Pipe(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            return output.write(data)  # type: ignore[arg-type]

    counters = Counters(NoProgress())
    with vault.opened() as opened, open_archive(ArchiveFormat.ZIP, Pipe()) as archive:  # type: ignore[arg-type]
        dump_archive(opened, opened.find_snapshot("latest"), os.fsencode(source), archive, counters)

    with zipfile.ZipFile(output) as found:
        assert found.testzip() is None
        assert found.read("source/big") == (source / "big").read_bytes()
        assert found.read("source/folder/another name") == (source / "medium").read_bytes()
        assert found.read("source/link") == b"folder/deep/file"
        assert found.getinfo("source/read only").external_attr >> 16 == (source / "read only").stat().st_mode
        assert "source/empty folder/" in found.namelist()
    assert {warning.path.rpartition(b"/")[2] for warning in counters.warnings} == (
        {b"fifo", b'no text \xff\xfe\n"\\'} | ({b"device", b"disk"} if ROOT else set())
    )


def test_what_is_lost_is_left_out_and_named(tmp_path: Path) -> None:
    vault, source = a_vault(tmp_path / "vault"), some_files(tmp_path / "source")
    vault.backup(source)
    flip_a_bit_of(vault, blob_id((source / "pictures" / "3").read_bytes()))
    output = io.BytesIO()

    counters = archived(vault, "/", ArchiveFormat.TAR, output)

    assert [lost.path for lost in counters.losses] == [os.fsencode(source / "pictures" / "3")]
    output.seek(0)
    with tarfile.open(fileobj=output) as found:
        names = found.getnames()
        whole = found.extractfile(str(source / "pictures" / "large").lstrip("/"))
        assert whole is not None
        assert whole.read() == (source / "pictures" / "large").read_bytes()
    assert str(source / "pictures" / "3").lstrip("/") not in names
    assert str(source / "pictures" / "4").lstrip("/") in names


def test_memory_does_not_grow_with_what_is_dumped(tmp_path: Path) -> None:
    source, vault = tmp_path / "source", a_vault(tmp_path / "vault")
    source.mkdir()
    (source / "zeros").write_bytes(bytes(200 * MIB))
    vault.backup(source)

    class Nothing(io.BytesIO):
        def write(self, data: object) -> int:
            return len(data)  # type: ignore[arg-type]

    tracemalloc.start()
    archived(vault, source, ArchiveFormat.TAR, Nothing())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 80 * MIB
