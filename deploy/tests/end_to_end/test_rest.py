"""A bare restic on a vault, over the REST port of a storage node: alone, append-only, and beside a backup of ours."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from client.restore.compare import differences
from deploy.driver import Device, Operator
from deploy.tests.end_to_end.restic import Restic
from deploy.tests.end_to_end.trees import MIB, NOT_TEXT, SOCKET, a_tree, restored
from deploy.tests.end_to_end.waiting import PATIENCE_SECONDS, wait_for_copies_of, wait_until

pytestmark = pytest.mark.needs("restic")


def over_rest(device: Device, password: str = "", *options: str) -> Restic:
    """restic on the vault `main`; by default with the password that the account has for it."""
    found = device.tool.ok("vault", "rest", "main", "--json", *options).json()
    return Restic(found["url"], password or device.recovery("main")["password"], "--cacert", found["ca"])


def test_restic_uses_a_vault_from_init_to_restore(device: Device, tmp_path: Path) -> None:
    restic = over_rest(device, "a password of its own")
    restic.run("init")
    source = a_tree(tmp_path / "source")
    restic.run("backup", str(source))
    (source / "pictures/large.raw").write_bytes(Random(2).randbytes(5 * MIB))
    restic.run("backup", str(source))
    restic.check()
    restic.run("forget", "--keep-last", "1", "--prune", "--max-unused", "0")
    restic.check()
    assert not restic.run("list", "locks").split()
    restic.run("restore", "latest", "--target", str(tmp_path / "target"))
    assert not list(differences(source, restored(tmp_path / "target", source), skipped=frozenset({SOCKET, NOT_TEXT})))


def test_restic_and_backup_tool_share_a_vault(device: Device, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "letter").write_text("dear restic")
    device.backup("main", source)
    restic = over_rest(device)
    restic.run("restore", "latest", "--target", str(tmp_path / "by-restic"))
    assert restored(tmp_path / "by-restic", source).joinpath("letter").read_text() == "dear restic"
    (source / "letter").write_text("dear backup-tool")
    ours = {snapshot["id"] for snapshot in device.snapshots("main")}
    restic.run("backup", str(source))
    restic.check()
    device.tool.ok("check", "--vault", "main", "--read-data")
    [theirs] = {snapshot["id"] for snapshot in device.snapshots("main")} - ours
    device.restore("main", tmp_path / "by-us", theirs)
    assert restored(tmp_path / "by-us", source).joinpath("letter").read_text() == "dear backup-tool"


def test_a_vault_that_restic_has_made_is_the_account_s_with_the_account_s_password(
    stack: Operator, device: Device, tmp_path: Path
) -> None:
    restic = over_rest(device)
    restic.run("init")
    source = tmp_path / "source"
    source.mkdir()
    (source / "letter").write_text("dear both")
    restic.run("backup", str(source))
    assert "oort-vault: it is missing" in device.tool.ok("check", "--vault", "main").stderr
    device.backup("main", source)
    [vault] = device.tool.ok("vault", "list", "--json").json()
    wait_for_copies_of(stack, vault["bucket"])
    assert all((folder / "oort-vault").is_file() for folder in stack.bucket_folders(vault["bucket"]))
    assert not device.tool.ok("check", "--vault", "main").stderr
    restic.run("check")


def test_an_append_only_url_removes_nothing_and_the_data_is_whole(device: Device, tmp_path: Path) -> None:
    restic = over_rest(device, "a password of its own", "--append-only")
    restic.run("init")
    source = tmp_path / "source"
    source.mkdir()
    for text in ("one", "two"):
        (source / "letter").write_text(text)
        restic.run("backup", str(source))
    with refused(restic, "forget", "--keep-last", "1", "--prune") as line:
        assert "403 The user name and password do not allow to delete" in line
    restic.check()
    assert restic.run("snapshots", "--compact").count(restic_host()) == 2
    restic.run("restore", "latest", "--target", str(tmp_path / "target"))
    assert restored(tmp_path / "target", source).joinpath("letter").read_text() == "two"
    device.tool.ok("vault", "rest", "main", "--revoke")
    another = over_rest(device, "a password of its own", "--append-only")
    assert another.repository != restic.repository


def test_a_prune_of_restic_beside_a_backup_of_ours_loses_nothing(
    stack: Operator, device: Device, tmp_path: Path
) -> None:
    """The backup has packs that no index file lists, and uses others of a snapshot that restic forgets meanwhile."""
    shared, own = Random(7).randbytes(20 * MIB), Random(8).randbytes(40 * MIB)
    forgotten = tmp_path / "forgotten"
    kept = tmp_path / "kept"
    for folder in (forgotten, kept):
        folder.mkdir()
    (forgotten / "data").write_bytes(shared)
    (kept / "letter").write_text("stays")
    doomed = device.backup("main", forgotten)["snapshot"]
    device.backup("main", kept)
    restic = over_rest(device)
    packs = packs_of(stack, device)
    with a_backup_of_a_stream(device) as stream:
        feed(stream, shared + own)
        # What it was given first it has found in the index, and uses.
        wait_until("the backup has stored something", lambda: bool(packs_of(stack, device) - packs))
        with refused(restic, "forget", doomed, "--prune", "--max-unused", "0") as line:
            assert "uses it" in line
        end(stream)
    restic.check()
    device.tool.ok("check", "--vault", "main", "--read-data")
    snapshots = {snapshot["id"]: snapshot["paths"] for snapshot in device.snapshots("main")}
    assert doomed not in snapshots
    [streamed] = [name for name, paths in snapshots.items() if paths == ["/stdin"]]
    device.restore("main", tmp_path / "target", streamed)
    assert (tmp_path / "target/stdin").read_bytes() == shared + own
    # Nothing else runs now: the same goes through.
    restic.run("prune", "--max-unused", "0")
    restic.check()


def test_a_prune_of_restic_goes_through_beside_a_backup_that_uses_nothing_of_it(
    stack: Operator, device: Device, tmp_path: Path
) -> None:
    forgotten = tmp_path / "forgotten"
    forgotten.mkdir()
    (forgotten / "data").write_bytes(Random(7).randbytes(3 * MIB))
    doomed = device.backup("main", forgotten)["snapshot"]
    restic = over_rest(device)
    packs = packs_of(stack, device)
    own = Random(8).randbytes(40 * MIB)
    with a_backup_of_a_stream(device) as stream:
        feed(stream, own)
        wait_until("the backup has stored something", lambda: bool(packs_of(stack, device) - packs))
        restic.run("forget", doomed, "--prune", "--max-unused", "0")
        end(stream)
    restic.check()
    restic.run("restore", "latest", "--target", str(tmp_path / "target"))
    assert (tmp_path / "target/stdin").read_bytes() == own


def packs_of(stack: Operator, device: Device) -> set[str]:
    [vault] = device.tool.ok("vault", "list", "--json").json()
    return {path.name for folder in stack.bucket_folders(vault["bucket"]) for path in folder.glob("data/??/*")}


@contextmanager
def a_backup_of_a_stream(device: Device) -> "Iterator[subprocess.Popen[bytes]]":
    line = device.tool.line("backup", "--vault", "main", "--stdin", "--json")
    with subprocess.Popen(line, env=dict(device.tool.env), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def feed(stream: "subprocess.Popen[bytes]", data: bytes) -> None:
    assert stream.stdin is not None
    stream.stdin.write(data)
    stream.stdin.flush()


def end(stream: "subprocess.Popen[bytes]") -> None:
    assert stream.stdin is not None
    stream.stdin.close()
    assert stream.wait(PATIENCE_SECONDS) == 0


@contextmanager
def refused(restic: Restic, *arguments: str) -> Iterator[str]:
    """Run restic until a removal is refused, which it would repeat for a minute; interrupt it after what is done then.

    Gives the line that it says.
    """
    with restic.start(*arguments) as process:
        try:
            assert process.stderr is not None
            said: list[str] = []
            for line in process.stderr:
                said.append(line)
                if "returned error, retrying" in line:
                    break
            else:
                raise AssertionError(f"restic was not refused: {''.join(said)}")
            yield said[-1]
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=PATIENCE_SECONDS)


def restic_host() -> str:
    return os.uname().nodename
