"""restic from the distribution as the independent program that checks our work, and the other way round."""

import os
import re
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from client.stores.local import LocalStore
from client.vault.blobs import BlobKind
from client.vault.checker import check
from client.vault.locks import Lock, encode_lock, live_locks, vault_lock
from client.vault.modes import NodeType, unix_mode
from client.vault.nodes import Node, encode_tree
from client.vault.repository import Vault, open_vault
from client.vault.tests.builders import PASSWORD, VaultWriter, a_node
from client.vault.tests.test_checker import TEXT_FAULTS, every_kind_of_node
from client.vault.tests.test_locks import DEAD_PID
from domain.names import ObjectKind
from domain.sessions import Purpose

pytestmark = pytest.mark.needs("restic")


def restic(repository: Path | str, *arguments: str, password: str = PASSWORD) -> str:
    environment = os.environ | {"RESTIC_PASSWORD": password}
    command = ["restic", "--repo", str(repository), "--quiet", "--no-cache", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def restored_nodes() -> list[NodeType]:
    """What restic's check is shown: restoring devices is for root alone."""
    return [kind for kind in NodeType if os.getuid() == 0 or kind not in (NodeType.DEV, NodeType.CHARDEV)]


@pytest.mark.parametrize("version", [1, 2])
def test_restic_checks_and_restores_what_we_wrote(tmp_path: Path, version: int) -> None:
    writer = VaultWriter(LocalStore(tmp_path / "ours"), version=version)
    nodes = [node for node in every_kind_of_node(writer) if node.type in restored_nodes()]
    nodes += [
        writer.file(b"big", *(os.urandom(700_000) for _ in range(30))),
        writer.file(b"setuid", b"x" * 5000, mode=1 << 23 | 0o755),
        a_node("grün \U0001f600".encode()),
    ]
    writer.snapshot(writer.tree(*nodes), tags=("oort:item=i", "oort:device=d"))
    vault = writer.finish()
    restic(tmp_path / "ours", "--no-lock", "check", "--read-data")
    assert list(check(vault, read_data=True)) == []
    restic(tmp_path / "ours", "--no-lock", "restore", "latest", "--target", str(tmp_path / "target"))
    for node in nodes:
        if node.type is NodeType.SOCKET or node.name == b"raw link":
            continue  # restic restores no sockets, and 0.14 no targets that are no UTF-8
        path = os.path.join(os.fsencode(tmp_path / "target"), node.name)  # noqa: PTH118 - names are bytes
        found = os.lstat(path)
        if node.type is NodeType.SYMLINK:
            assert os.readlink(path) == node.linktarget  # noqa: PTH115
            continue
        assert found.st_mode == unix_mode(node.mode), node
        assert found.st_mtime_ns == node.mtime_ns or node.type is not NodeType.FILE
        if node.type is NodeType.FILE:
            content = b"".join(vault.load_blob(BlobKind.DATA, blob) for blob in node.content or ())
            assert Path(os.fsdecode(path)).read_bytes() == content
    assert "oort:item=i" in restic(tmp_path / "ours", "--no-lock", "snapshots")
    vault.close()


def a_tree_of_files(folder: Path) -> None:
    (folder / "sub" / "empty").mkdir(parents=True)
    (folder / "file").write_bytes(b"content")
    (folder / "sub" / "big").write_bytes(os.urandom(5 << 20) + bytes(9 << 20))
    (folder / "none").write_bytes(b"")
    (folder / "link").symlink_to("<target & more>")
    os.mkfifo(folder / "fifo")
    (folder / "file").chmod(0o4711)
    (folder / "sub").chmod(0o1777)
    (folder / "hard").hardlink_to(folder / "file")
    Path(os.fsdecode(os.fsencode(folder) + b'/odd \xff\xe2\x80\x8b"\\<&>')).write_bytes(b"odd")
    os.utime(folder / "none", ns=(1, 2))


def all_nodes(vault: Vault, tree: bytes) -> list[Node]:
    nodes = vault.load_tree(tree)
    return nodes + [below for node in nodes if node.subtree for below in all_nodes(vault, node.subtree)]


@pytest.mark.parametrize(("version", "layout"), [("1", "default"), ("2", "default"), ("2", "s3legacy")])
def test_what_restic_made_is_read_and_found_sound(tmp_path: Path, version: str, layout: str) -> None:
    repository, source = tmp_path / "theirs", tmp_path / "source"
    a_tree_of_files(source)
    options = ("--option", f"local.layout={layout}")
    restic(repository, "init", "--repository-version", version, *options, password="chosen")
    for name in ("earlier", "later"):
        (source / name).write_bytes(os.urandom(100_000))
        restic(repository, "backup", str(source), "--tag", "mine", "--exclude", "*.o", *options, password="chosen")
    restic(repository, "key", "list", *options, password="chosen")
    with LocalStore(repository).open(Purpose.READ) as session, open_vault(session, "chosen") as vault:
        assert vault.config.version == int(version)
        assert list(check(vault, read_data=True)) == []
        first, second = vault.snapshots()
        assert (first.paths, first.tags, first.excludes) == ((str(source),), ("mine",), ("*.o",))
        assert second.parent == first.id
        nodes = {node.name: node for node in all_nodes(vault, second.tree)}
        for path in source.rglob("*"):
            node, found = nodes[os.fsencode(path.name)], path.lstat()
            assert unix_mode(node.mode) == found.st_mode
            assert (node.mtime_ns, node.uid, node.size) == (
                found.st_mtime_ns,
                found.st_uid,
                found.st_size if stat.S_ISREG(found.st_mode) else 0,
            )
            if node.type is NodeType.FILE:
                content = b"".join(vault.load_blob(BlobKind.DATA, blob) for blob in node.content or ())
                assert content == path.read_bytes()
        assert nodes[b"link"].linktarget == b"<target & more>"
        for snapshot in (first, second):
            trees = [snapshot.tree, *(n.subtree for n in all_nodes(vault, snapshot.tree) if n.subtree)]
            for tree in trees:
                assert encode_tree(vault.load_tree(tree)) == vault.load_blob(BlobKind.TREE, tree)


@contextmanager
def in_a_folder(repository: Path) -> Iterator[str]:
    yield str(repository)


@contextmanager
def by_rclone(repository: Path) -> Iterator[str]:
    """The repository behind `rclone serve restic`, which says where it listens once it does."""
    command = ["rclone", "serve", "restic", "--addr", "127.0.0.1:0", str(repository)]
    environment = os.environ | {"RCLONE_CONFIG": str(repository.with_suffix(".rclone"))}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            yield "rest:" + next(line for line in server.stderr if "Serving" in line).split()[-1]
        finally:
            server.terminate()


@pytest.mark.parametrize("served", [in_a_folder, pytest.param(by_rclone, marks=pytest.mark.needs("rclone"))])
def test_restic_goes_on_with_our_vault_and_we_with_what_it_wrote(
    tmp_path: Path, served: Callable[[Path], AbstractContextManager[str]]
) -> None:
    writer = VaultWriter(LocalStore(tmp_path / "ours"))
    writer.snapshot(writer.tree(writer.file(b"ours", b"x" * 1000)))
    writer.finish().close()
    assert len(list((tmp_path / "ours" / "data").iterdir())) < 256, "most folders of packs have yet to be made"
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "theirs").write_bytes(os.urandom(3 << 20))
    with served(tmp_path / "ours") as place:
        restic(place, "check", "--read-data")
        restic(place, "rebuild-index")
        restic(place, "backup", str(tmp_path / "source"))
        restic(place, "tag", "--add", "more", "latest")
        restic(place, "forget", "--keep-last", "1", "--group-by", "", "--prune")
        restic(place, "check", "--read-data")
    with LocalStore(tmp_path / "ours").open(Purpose.READ) as session, open_vault(session, PASSWORD) as vault:
        (snapshot,) = vault.snapshots()
        assert snapshot.tags == ("more",)
        assert [problem for problem in check(vault, read_data=True) if problem.is_error] == []
        assert sum(1 for _ in session.list(ObjectKind.LOCK)) == 0


@pytest.mark.parametrize("fault", ["not written as Go's encoding/json", "not as strconv.Quote", "not sorted by"])
def test_restic_calls_vaults_clean_in_which_we_find_faults(tmp_path: Path, fault: str) -> None:
    """Why there is a strict check of our own."""
    change = next(change for change, expected in TEXT_FAULTS if expected.startswith(fault))
    writer = VaultWriter(LocalStore(tmp_path / "ours"))
    text = encode_tree([a_node(b"a"), a_node(b"b<", group="g")]).decode()
    writer.snapshot(writer.raw_tree(change(text).encode()))
    vault = writer.finish()
    restic(tmp_path / "ours", "--no-lock", "check", "--read-data")
    assert any(fault in str(problem) for problem in check(vault))
    vault.close()


def test_restic_reads_our_locks_and_stays_out(tmp_path: Path) -> None:
    refusal = rf"locked exclusively by PID {os.getpid()} on {re.escape(socket.gethostname())}"
    with (
        VaultWriter(LocalStore(tmp_path / "ours")).finish() as vault,
        vault_lock(vault, needed=True, exclusive=True),
        pytest.raises(AssertionError, match=refusal),
    ):
        restic(tmp_path / "ours", "snapshots")


def test_restic_unlock_removes_what_was_left_behind_and_ends_nobody_whose_lock_counts(tmp_path: Path) -> None:
    with VaultWriter(LocalStore(tmp_path / "ours")).finish() as vault, vault_lock(vault, needed=True):
        dead = Lock(time.time_ns(), True, socket.gethostname(), "fd0", DEAD_PID, pid_space="5e" * 16)
        vault.save_unpacked(ObjectKind.LOCK, encode_lock(dead))
        restic(tmp_path / "ours", "unlock")  # which sends SIGHUP to this process, to see whether it is there
        ((_, left),) = live_locks(vault, time.time_ns())
        assert left.pid == os.getpid()
