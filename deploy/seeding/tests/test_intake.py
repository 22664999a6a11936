"""A repository's folder taken into a bucket."""

import errno
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import pytest

from client.errors import NotFound, QuotaExceeded, RetentionRunning, StoreError, UsageError
from client.stores.local import LocalStore
from client.testing.damage import flip, remove, truncate
from deploy.seeding.errors import AnotherVault, NotARepository
from deploy.seeding.session import BucketSession
from deploy.seeding.tests.buckets import Nodes, a_repository, files
from domain.names import CONFIG, SEAL, ObjectKind, ObjectName
from domain.sessions import Purpose


def test_all_of_a_repository_comes_in_and_a_device_reads_it(nodes: Nodes, tmp_path: Path) -> None:
    source, bucket = files(a_repository(tmp_path / "source")), nodes.bucket()
    moved = bucket.take_in(tmp_path / "source")
    assert moved.objects == {"keys": 1, "data": 3, "index": 1, "snapshots": 1}
    assert (moved.kept, moved.damaged) == (0, {})
    assert bucket.files() == source
    with bucket.device() as store, store.open(Purpose.READ) as session:
        assert [info.name.path in source for info in session.list(ObjectKind.SNAPSHOT)] == [True]
        assert session.get(CONFIG) == source["config"]
        assert session.get(SEAL) == source["oort-vault"]
    assert bucket.open_sessions() == 0


def test_the_same_again_moves_nothing(nodes: Nodes, tmp_path: Path) -> None:
    bucket, source = nodes.bucket(), a_repository(tmp_path / "source")
    bucket.take_in(source)
    again = bucket.take_in(source)
    assert (again.objects, again.bytes, again.kept, again.damaged) == ({}, 0, 6, {})


@pytest.mark.parametrize("damage", [flip, truncate])
@pytest.mark.parametrize("kind", ["data", "index", "snapshots"])
def test_a_damaged_file_is_named_and_comes_in_when_it_is_mended(
    nodes: Nodes, tmp_path: Path, kind: str, damage: Callable[[Path, Path], None]
) -> None:
    bucket, source = nodes.bucket(), a_repository(tmp_path / "source")
    victim = max(one for one in (source / kind).rglob("*") if one.is_file())
    whole = victim.read_bytes()
    damage(victim, victim)
    moved = bucket.take_in(source)
    # Without the only index file nobody could read the snapshot.
    stays = {kind, "snapshots"} if kind == "index" else {kind}
    assert {name.partition("/")[0] for name in moved.damaged} == stays
    assert f"{kind}/{victim.name}" in moved.damaged
    assert sum(moved.objects.values()) == 6 - len(stays)
    victim.write_bytes(whole)
    assert bucket.take_in(source).damaged == {}
    assert bucket.files() == files(source)


def test_no_snapshot_comes_in_while_one_of_the_index_files_is_left_out(nodes: Nodes, tmp_path: Path) -> None:
    bucket, source = nodes.bucket(), a_repository(tmp_path / "source")
    bucket.take_in(source)
    bodies = os.urandom(1000), os.urandom(1000)
    with LocalStore(source).open(Purpose.ADOPT) as session:
        index, snapshot = (
            ObjectName.of(kind, body)
            for kind, body in zip((ObjectKind.INDEX, ObjectKind.SNAPSHOT), bodies, strict=True)
        )
        session.put(index, bodies[0])
        session.put(snapshot, bodies[1])
    truncate(source / index.path, source / index.path)
    moved = bucket.take_in(source)
    # The snapshot that the bucket has is in.
    assert (moved.objects, moved.kept, set(moved.damaged)) == ({}, 6, {str(index), str(snapshot)})


def test_index_files_without_a_pack_are_refused(nodes: Nodes, tmp_path: Path) -> None:
    bucket, source = nodes.bucket(), a_repository(tmp_path / "source")
    for pack in source.glob("data/*/*"):
        pack.unlink()
    with pytest.raises(NotARepository, match="not one pack"):
        bucket.take_in(source)
    assert bucket.files() == {}


def test_a_bucket_with_another_vault_is_refused(nodes: Nodes, tmp_path: Path) -> None:
    bucket = nodes.bucket()
    bucket.take_in(a_repository(tmp_path / "one"))
    before = bucket.files()
    with pytest.raises(AnotherVault):
        bucket.take_in(a_repository(tmp_path / "other"))
    assert bucket.files() == before


@pytest.mark.parametrize("lacking", ["config", "keys"])
def test_what_is_no_repository_is_refused_and_leaves_the_bucket_empty(
    nodes: Nodes, tmp_path: Path, lacking: str
) -> None:
    bucket, source = nodes.bucket(), a_repository(tmp_path / "source")
    for one in [source / "config"] if lacking == "config" else list((source / "keys").iterdir()):
        remove(one, one)
    (tmp_path / "file").touch()
    for folder in (source, tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(NotARepository):
            bucket.take_in(folder)
    assert bucket.files() == {}


def test_no_link_leads_to_what_is_stored(nodes: Nodes, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    for victim in ("config", "data", "index", "data/ab"):
        name = victim.replace("/", "-")
        bucket, source = nodes.bucket(), a_repository(tmp_path / name)
        if (source / victim).exists():
            (source / victim).rename(tmp_path / f"real-{name}")
            (source / victim).symlink_to(tmp_path / f"real-{name}")
        else:
            (source / victim).symlink_to(tmp_path / "real-data", target_is_directory=True)
        with pytest.raises(NotARepository, match="link"):
            bucket.take_in(source)
        assert bucket.files() == {}
    bucket, source = nodes.bucket(), a_repository(tmp_path / "source")
    secret.write_bytes(next((tmp_path / "config" / "keys").iterdir()).read_bytes())
    linked = source / "keys" / sha256(secret.read_bytes()).hexdigest()
    for link in (source / SEAL.path, linked):
        link.unlink(missing_ok=True)
        link.symlink_to(secret)
    moved = bucket.take_in(source)
    assert moved.damaged == dict.fromkeys((f"keys/{linked.name}", "oort-vault"), "it is a link")
    assert len([name for name in bucket.files() if name.startswith("keys/")]) == 1
    assert "oort-vault" not in bucket.files()


def test_a_seal_that_is_broken_or_of_another_account_is_left_out(nodes: Nodes, tmp_path: Path) -> None:
    broken, other = a_repository(tmp_path / "broken"), a_repository(tmp_path / "other", user=uuid4())
    (broken / SEAL.path).write_bytes(b"\xff{}")
    for source, why in ((broken, "no seal"), (other, "another account")):
        bucket = nodes.bucket()
        moved = bucket.take_in(source)
        assert list(moved.damaged) == ["oort-vault"]
        assert why in moved.damaged["oort-vault"]
        assert set(bucket.files()) == set(files(source)) - {"oort-vault"}


def test_a_seal_that_the_disk_does_not_give_stops_the_import_before_anything_is_stored(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, source = nodes.bucket(), a_repository(tmp_path / "source")
    opened = os.open

    def failing(path: Path, flags: int, *mode: int) -> int:
        if path == source / SEAL.path:
            raise OSError(errno.EIO, "Input/output error")
        return opened(path, flags, *mode)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", failing)
        with pytest.raises(StoreError, match="Input/output"):
            bucket.take_in(source)
    assert bucket.files() == {}


def test_what_is_too_large_or_no_file_is_not_read(nodes: Nodes, tmp_path: Path) -> None:
    source = a_repository(tmp_path / "source")
    (source / SEAL.path).unlink()
    os.mkfifo(source / SEAL.path)
    large = source / "keys" / ("0" * 64)
    large.touch()
    os.truncate(large, 1 << 40)
    assert set(nodes.bucket().take_in(source).damaged) == {"oort-vault", f"keys/{large.name}"}
    os.truncate(source / "config", 1 << 40)
    with pytest.raises(NotARepository, match="at most"):
        nodes.bucket().take_in(source)


def test_a_repository_that_is_too_large_for_the_quota_is_gone_on_with_when_there_is_more(
    nodes: Nodes, tmp_path: Path
) -> None:
    bucket, source = nodes.bucket(quota_bytes=2_000_000), a_repository(tmp_path / "source")
    with pytest.raises(QuotaExceeded):
        bucket.take_in(source)
    nodes.running.catalogue.execute("update buckets set quota_bytes = 0 where id = %s", (bucket.id,))
    assert bucket.take_in(source).damaged == {}
    assert bucket.files() == files(source)


def test_a_lost_pack_of_the_bucket_is_healed(nodes: Nodes, tmp_path: Path) -> None:
    bucket, source = nodes.bucket(), a_repository(tmp_path / "source")
    bucket.take_in(source)
    victim = next(bucket.folder.glob("data/*/*"))
    victim.unlink()
    nodes.running.catalogue.execute(
        "insert into missing_copies (object_id, node_id, bucket_id, tenant_id, user_id)"
        " select id, 'a', bucket_id, tenant_id, user_id from objects"
        " where bucket_id = %s and encode(sha256, 'hex') = %s",
        (bucket.id, victim.name),
    )
    bucket.take_in(source)
    assert bucket.files() == files(source)


def test_nothing_comes_in_while_a_retention_runs_and_none_begins_meanwhile(nodes: Nodes, tmp_path: Path) -> None:
    bucket, source = nodes.bucket(), a_repository(tmp_path / "source")
    with bucket.device() as store:
        with store.open(Purpose.RETENTION), pytest.raises(RetentionRunning):
            bucket.take_in(source)
        with BucketSession.open(nodes.cluster, bucket.id, Purpose.ADOPT), pytest.raises(RetentionRunning):
            store.open(Purpose.RETENTION)
        with store.open(Purpose.RETENTION):
            pass


def test_a_bucket_that_is_not_there_is_named(nodes: Nodes) -> None:
    for bucket, kind in (("0190c0de-0000-7000-8000-000000000000", NotFound), ("bucket", UsageError)):
        with pytest.raises(kind), BucketSession.open(nodes.cluster, bucket, Purpose.READ):
            pass
