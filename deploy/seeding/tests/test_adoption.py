"""Files copied by hand into a bucket's folder on a node, entered where they lie."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import cast
from uuid import UUID, uuid4

import grpc
import pytest
from oort.storage.v1.adoptions_pb2 import ReadRootsResponse

from client.errors import (
    DamagedVault,
    NotFound,
    OortError,
    QuotaExceeded,
    RetentionRunning,
    ServerUnreachable,
    UsageError,
)
from client.stores.abc import ObjectInfo
from client.testing.damage import flip, truncate
from deploy.local.cluster import Cluster
from deploy.seeding.adoption import _Adoption, adopt
from deploy.seeding.errors import AnotherVault, NotARepository
from deploy.seeding.session import BucketSession
from deploy.seeding.tests.buckets import Bucket, Nodes, a_repository, files, nothing
from domain.names import CONFIG, SEAL, ObjectKind, ObjectName
from domain.sessions import Purpose
from services.storage.volumes.steady import SteadyReader
from services.storage.volumes.volume import OpenObject


def copied_by_hand(bucket: Bucket, source: Path) -> dict[str, bytes]:
    """As `cp -r` or rsync fill the folder; answers what lies there then."""
    shutil.copytree(source, bucket.folder, dirs_exist_ok=True)
    return bucket.files()


def rows(bucket: Bucket, statement: str) -> list[tuple[object, ...]]:
    return list(bucket.nodes.running.catalogue.execute(statement, (bucket.id,)).fetchall())


def change(bucket: Bucket, statement: str) -> None:
    bucket.nodes.running.catalogue.execute(statement, (bucket.id,))


def states(bucket: Bucket) -> dict[str, str]:
    """Of each object but the root files."""
    found = rows(bucket, "select kind, encode(sha256, 'hex'), state from objects where bucket_id = %s")
    return {f"{kind}/{digest}": str(state) for kind, digest, state in found if kind not in ("config", "oort-vault")}


def names(bucket: Bucket, kind: str) -> list[str]:
    return [f"{kind}/{path.name}" for path in sorted((bucket.folder / kind).rglob("*")) if path.is_file()]


def more(source: Path, *kinds: ObjectKind) -> list[ObjectName]:
    """Another object of each kind in a repository."""
    added = []
    with_body = {ObjectName.of(kind, body): body for kind in kinds if (body := os.urandom(1000))}
    for name, body in with_body.items():
        place = source / name.path
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(body)
        added.append(name)
    return added


def test_the_homes_in_another_cluster_are_reached_where_they_say_that_they_are(nodes: Nodes, tmp_path: Path) -> None:
    bucket = nodes.bucket()
    copied_by_hand(bucket, a_repository(tmp_path / "source"))
    here, asked = nodes.cluster.channel("a"), list[str]()

    def connect(endpoint: str) -> grpc.Channel:
        asked.append(endpoint)
        return here

    far = Cluster({"a name of its own:8161": here}, connect)
    with BucketSession.open(far, bucket.id, Purpose.ADOPT) as session:
        adopted = adopt(session, [], nothing)
    assert (sum(adopted.objects.values()), adopted.down) == (6, {})
    assert asked == [nodes.running.cluster.settings["a"].internal_endpoint]
    with pytest.raises(NotFound, match="no node nobody"):
        far.channel("nobody")


def test_all_of_a_repository_is_entered_where_it_lies_and_a_device_reads_it(nodes: Nodes, tmp_path: Path) -> None:
    bucket, source = nodes.bucket(), files(a_repository(tmp_path / "source"))
    copied_by_hand(bucket, tmp_path / "source")
    before = {path.name: path.stat().st_ino for path in bucket.folder.glob("data/*/*")}
    adopted = bucket.adopt()
    assert adopted.objects == {"keys": 1, "data": 3, "index": 1, "snapshots": 1}
    assert (adopted.kept, adopted.damaged, adopted.down) == (0, {}, {})
    assert bucket.files() == source
    assert {path.name: path.stat().st_ino for path in bucket.folder.glob("data/*/*")} == before
    with bucket.device() as store, store.open(Purpose.READ) as session:
        for path in source:
            name = ObjectName.parse(
                path if path in ("config", "oort-vault") else f"{path.split('/')[0]}/{Path(path).name}"
            )
            assert session.get(name) == source[path]
    assert bucket.open_sessions() == 0


def test_what_is_entered_counts_and_is_received_now_by_this_node(nodes: Nodes, tmp_path: Path) -> None:
    bucket = nodes.bucket()
    here = copied_by_hand(bucket, a_repository(tmp_path / "source"))
    for path in bucket.folder.rglob("*"):
        os.utime(path, (0, 0))
    bucket.adopt()
    size = sum(map(len, here.values()))
    assert rows(bucket, "select objects, bytes, live_snapshots from buckets where id = %s") == [(len(here), size, 1)]
    assert rows(bucket, "select count(*) from objects where bucket_id = %s and created < now() - interval '1 day'") == [
        (0,)
    ]
    assert rows(bucket, "select count(*) from missing_copies where bucket_id = %s") == [(0,)]


def test_the_same_again_enters_nothing(nodes: Nodes, tmp_path: Path) -> None:
    bucket = nodes.bucket()
    copied_by_hand(bucket, a_repository(tmp_path / "source"))
    bucket.adopt()
    again = bucket.adopt()
    assert (again.objects, again.bytes, again.damaged) == ({}, 0, {})
    assert again.kept == 5  # packs, index file and snapshot; keys that are known are not told


def test_nothing_leaves_the_vault_until_no_file_is_left_out(nodes: Nodes, tmp_path: Path) -> None:
    bucket = nodes.bucket()
    copied_by_hand(bucket, a_repository(tmp_path / "source"))
    stray = bucket.folder / "data" / "stray"
    stray.touch()
    adopting = "select adopting from buckets where id = %s"
    assert bucket.adopt().damaged
    assert rows(bucket, adopting) == [(True,)]
    stray.unlink()
    assert not bucket.adopt().damaged
    assert rows(bucket, adopting) == [(False,)]


@pytest.mark.parametrize("damage", [flip, truncate])
@pytest.mark.parametrize("kind", ["data", "index", "snapshots"])
def test_a_damaged_file_is_named_and_stays_and_is_entered_when_it_is_mended(
    nodes: Nodes, tmp_path: Path, kind: str, damage: Callable[[Path, Path], None]
) -> None:
    bucket = nodes.bucket()
    here = copied_by_hand(bucket, a_repository(tmp_path / "source"))
    victim = max(one for one in (bucket.folder / kind).rglob("*") if one.is_file())
    whole = victim.read_bytes()
    damage(victim, victim)
    spoilt = victim.read_bytes()
    adopted = bucket.adopt()
    # Without the only index file nobody could read the snapshot.
    stays = {kind, "snapshots"} if kind == "index" else {kind}
    assert {name.partition("/")[0] for name in adopted.damaged} == stays
    assert adopted.damaged[f"{kind}/{victim.name}"] == "its content has another SHA-256 than its name"
    assert victim.read_bytes() == spoilt
    assert not {f"{kind}/{victim.name}"} & set(states(bucket))
    victim.write_bytes(whole)
    assert bucket.adopt().damaged == {}
    assert len(states(bucket)) == len(here) - 2


def test_what_is_no_object_and_what_is_no_file_is_named_and_left_alone(nodes: Nodes, tmp_path: Path) -> None:
    bucket, source = nodes.bucket(), a_repository(tmp_path / "source")
    copied_by_hand(bucket, source)
    linked = max(bucket.folder.glob("data/*/*"))
    linked.rename(tmp_path / "elsewhere")
    linked.symlink_to(tmp_path / "elsewhere")
    folder = bucket.folder / "data" / ("00" if linked.parent.name != "00" else "01")
    shutil.rmtree(folder, ignore_errors=True)
    folder.symlink_to(tmp_path, target_is_directory=True)
    body = os.urandom(10)
    while (name := ObjectName.of(ObjectKind.PACK, body)).id[:2] != folder.name:
        body = os.urandom(10)
    (tmp_path / name.id).write_bytes(body)
    strange = bucket.folder / "index" / ".DS_Store"
    strange.write_bytes(b"half")
    (bucket.folder / "snapshots" / "a\nb").touch()
    pipe = bucket.folder / "snapshots" / ("0" * 64)
    os.mkfifo(pipe)
    adopted = bucket.adopt()
    assert adopted.damaged.pop(f"data/{linked.name}") == "it is a link"
    assert adopted.damaged.pop(str(name)) == "its folder is a link"
    for path in (f"index/{strange.name}", "snapshots/a?b", f"snapshots/{pipe.name}"):
        assert "not that of an object" in adopted.damaged.pop(path)
    assert set(adopted.damaged) <= {str(one.relative_to(bucket.folder)) for one in folder.iterdir()} | {
        f"data/{folder.name}/{one.name}" for one in tmp_path.iterdir()
    }
    assert linked.is_symlink()
    assert strange.read_bytes() == b"half"
    assert adopted.objects["snapshots"] == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_in_a_folder_that_the_node_may_not_change_is_left_out(nodes: Nodes, tmp_path: Path) -> None:
    bucket = nodes.bucket()
    copied_by_hand(bucket, a_repository(tmp_path / "source"))
    folder = bucket.folder / "snapshots"
    folder.chmod(0o500)
    try:
        adopted = bucket.adopt()
    finally:
        folder.chmod(0o700)
    assert [name.partition("/")[0] for name in adopted.damaged] == ["snapshots"]
    assert "may not change its folder" in next(iter(adopted.damaged.values()))
    assert bucket.adopt().damaged == {}


def test_index_files_and_snapshots_wait_for_packs_and_for_what_lists_them(nodes: Nodes, tmp_path: Path) -> None:
    bucket = nodes.bucket()
    copied_by_hand(bucket, a_repository(tmp_path / "source"))
    (bucket.folder / "data").rename(tmp_path / "data")
    adopted = bucket.adopt()
    assert "not one pack" in adopted.damaged[names(bucket, "index")[0]]
    assert "index file" in adopted.damaged[names(bucket, "snapshots")[0]]
    assert set(states(bucket)) == set(names(bucket, "keys"))
    shutil.copytree(tmp_path / "data", bucket.folder / "data", dirs_exist_ok=True)
    assert bucket.adopt().damaged == {}


def test_a_folder_without_a_config_or_of_another_vault_is_refused_and_nothing_is_entered(
    nodes: Nodes, tmp_path: Path
) -> None:
    one, other = a_repository(tmp_path / "one"), a_repository(tmp_path / "other")
    bucket = nodes.bucket()
    copied_by_hand(bucket, one)
    (bucket.folder / "config").unlink()
    with pytest.raises(NotARepository, match="no file config"):
        bucket.adopt()
    shutil.copy(one / "config", bucket.folder / "config")
    (bucket.folder / names(bucket, "keys")[0]).unlink()
    with pytest.raises(NotARepository, match="no key file"):
        bucket.adopt()
    assert states(bucket) == {}
    shutil.copytree(one / "keys", bucket.folder / "keys", dirs_exist_ok=True)
    bucket.adopt()
    entered = states(bucket)
    # What the operator copies over the files of a vault by mistake is not entered among them.
    shutil.copytree(other, bucket.folder, dirs_exist_ok=True)
    with pytest.raises(DamagedVault, match="another one cannot take its place"):
        bucket.adopt()
    assert states(bucket) == entered


def test_a_device_makes_no_vault_over_a_config_that_waits_to_be_adopted(nodes: Nodes, tmp_path: Path) -> None:
    bucket, source = nodes.bucket(), a_repository(tmp_path / "source")
    copied_by_hand(bucket, source)
    with bucket.device() as store, store.open(Purpose.BACKUP) as session:
        key = b"key of a device"
        with pytest.raises(OortError, match="adopt"):
            session.initialise(ObjectName.of(ObjectKind.KEY, key), key, b"c" * 100, b"")
    assert bucket.files() == files(source)
    assert bucket.adopt().damaged == {}


def test_files_of_a_vault_in_use_are_entered_without_its_config(nodes: Nodes, tmp_path: Path) -> None:
    bucket, source = nodes.bucket(), a_repository(tmp_path / "source")
    bucket.take_in(source)
    added = more(bucket.folder, ObjectKind.PACK, ObjectKind.INDEX, ObjectKind.SNAPSHOT)
    adopted = bucket.adopt()
    assert adopted.objects == {"data": 1, "index": 1, "snapshots": 1}
    assert (adopted.kept, adopted.damaged, adopted.keys) == (5, {}, [])
    assert {str(name) for name in added} <= set(states(bucket))


def test_the_quota_holds_and_the_rest_is_entered_when_there_is_more(nodes: Nodes, tmp_path: Path) -> None:
    bucket = nodes.bucket(quota_bytes=2_000_000)
    here = copied_by_hand(bucket, a_repository(tmp_path / "source"))
    with pytest.raises(QuotaExceeded):
        bucket.adopt()
    change(bucket, "update buckets set quota_bytes = 0 where id = %s")
    assert bucket.adopt().damaged == {}
    assert len(states(bucket)) == len(here) - 2


def test_one_that_is_broken_off_is_gone_on_with(nodes: Nodes, tmp_path: Path) -> None:
    bucket = nodes.bucket()
    here = copied_by_hand(bucket, a_repository(tmp_path / "source"))

    class Killed(BaseException):
        """The operator's process ends here."""

    for stop in range(1, 6):

        def told(moved: object, stop: int = stop) -> None:
            if sum(moved.objects.values()) - 1 >= stop:  # type: ignore[attr-defined] # a Moved
                raise Killed

        fresh = nodes.bucket()
        shutil.copytree(bucket.folder, fresh.folder)
        with pytest.raises(Killed):
            fresh.adopt(told=told)
        entered = set(states(fresh))
        # No snapshot before its index file, and none of these before all packs.
        kinds = [name.partition("/")[0] for name in entered]
        assert kinds.count("snapshots") <= kinds.count("index") <= kinds.count("data") // 3
        assert fresh.adopt().damaged == {}
        assert len(states(fresh)) == len(here) - 2
        assert fresh.files() == here


def test_nothing_is_entered_while_a_retention_runs_and_none_begins_meanwhile(nodes: Nodes, tmp_path: Path) -> None:
    bucket, source = nodes.bucket(), a_repository(tmp_path / "source")
    bucket.take_in(source)
    more(bucket.folder, ObjectKind.PACK)
    with bucket.device() as store:
        with store.open(Purpose.RETENTION), pytest.raises(RetentionRunning):
            bucket.adopt()
        tried: list[object] = []

        def told(_moved: object) -> None:
            with pytest.raises(RetentionRunning):
                store.open(Purpose.RETENTION)
            tried.append(1)

        assert bucket.adopt(told=told).objects == {"data": 1}
        assert tried


def test_it_runs_beside_a_backup_that_stores_the_same_and_beside_another_one(nodes: Nodes, tmp_path: Path) -> None:
    bucket, source = nodes.bucket(), a_repository(tmp_path / "source")
    bucket.take_in(source)
    added = more(bucket.folder, *[ObjectKind.PACK] * 4)
    with bucket.device() as store, store.open(Purpose.BACKUP) as session:
        first = (bucket.folder / added[0].path).read_bytes()
        session.put(added[0], first)
        put: list[ObjectName] = []

        def told(_moved: object) -> None:
            if not put:
                put.append(added[-1])
                session.put(added[-1], (bucket.folder / added[-1].path).read_bytes())
                put.append(added[1])
                assert bucket.adopt().damaged == {}

        adopted = bucket.adopt(told=told)
        assert adopted.damaged == {}
        assert {str(name) for name in added} <= set(states(bucket))
        assert rows(bucket, "select objects from buckets where id = %s") == [(len(bucket.files()),)]


def condemned(bucket: Bucket, *kinds: str, state: str = "condemned") -> None:
    """As a retention did, whose rows a test need not make one by one."""
    for kind in kinds:
        change(
            bucket,
            f"update objects set state = '{state}', condemned_seq = 1, condemned = now()"
            f" where bucket_id = %s and kind = '{kind}' and state = 'live'",
        )


def test_what_was_removed_stays_removed_although_its_file_lies_there(nodes: Nodes, tmp_path: Path) -> None:
    bucket = nodes.bucket()
    bucket.take_in(a_repository(tmp_path / "source"))
    condemned(bucket, "snapshots", "index", "data")
    removed = {name for name, state in states(bucket).items() if state == "condemned"}
    adopted = bucket.adopt()
    assert (adopted.objects, adopted.revived, adopted.in_basket, adopted.damaged) == ({}, 0, 5, {})
    assert {name for name, state in states(bucket).items() if state == "condemned"} == removed


def test_what_a_snapshot_may_need_comes_out_of_the_basket_before_it_is_entered(nodes: Nodes, tmp_path: Path) -> None:
    bucket = nodes.bucket()
    bucket.take_in(a_repository(tmp_path / "source"))
    condemned(bucket, "snapshots", "index", "data")
    [added] = more(bucket.folder, ObjectKind.SNAPSHOT)
    adopted = bucket.adopt()
    assert (adopted.objects, adopted.revived, adopted.damaged) == ({"snapshots": 1}, 4, {})
    by_kind = {(name.partition("/")[0], state) for name, state in states(bucket).items() if name != str(added)}
    # The one that was removed on purpose is still: only what others may need came back.
    assert by_kind == {("keys", "live"), ("data", "live"), ("index", "live"), ("snapshots", "condemned")}


def test_no_snapshot_is_entered_while_an_index_file_that_it_may_need_is_lost_in_the_basket(
    nodes: Nodes, tmp_path: Path
) -> None:
    bucket = nodes.bucket()
    bucket.take_in(a_repository(tmp_path / "source"))
    condemned(bucket, "index")
    gone = bucket.folder / names(bucket, "index")[0]
    gone.unlink()
    # Another one, that could be what lists it.
    more(bucket.folder, ObjectKind.INDEX)
    [added] = more(bucket.folder, ObjectKind.SNAPSHOT)
    adopted = bucket.adopt()
    assert adopted.objects == {"index": 1}
    assert "waste basket" in adopted.damaged[str(added)]
    assert states(bucket)[f"index/{gone.name}"] == "condemned"


def test_what_is_being_removed_is_left_out_and_what_may_need_it_waits(nodes: Nodes, tmp_path: Path) -> None:
    bucket = nodes.bucket()
    bucket.take_in(a_repository(tmp_path / "source"))
    packs = names(bucket, "data")
    condemned(bucket, "data", state="deleting")
    index, snapshot = more(bucket.folder, ObjectKind.INDEX, ObjectKind.SNAPSHOT)
    adopted = bucket.adopt()
    assert adopted.objects == {}
    assert {adopted.damaged[name] for name in packs} == {"it is just being removed from the disks"}
    assert all("repeat the command" in adopted.damaged[str(name)] for name in (index, snapshot))
    # When the row has gone, a file that was copied in once more is as any other.
    change(bucket, "delete from objects where bucket_id = %s and state = 'deleting'")
    assert bucket.adopt().damaged == {}
    assert {states(bucket)[name] for name in packs} == {"live"}


def test_a_key_that_the_catalogue_does_not_know_is_stored_and_told(nodes: Nodes, tmp_path: Path) -> None:
    bucket, source = nodes.bucket(), a_repository(tmp_path / "source")
    bucket.take_in(source)
    key = next((a_repository(tmp_path / "other") / "keys").iterdir())
    shutil.copy(key, bucket.folder / "keys" / key.name)
    (bucket.folder / "keys" / ("0" * 64)).write_bytes(b"not a key")
    adopted = bucket.adopt()
    assert (adopted.objects, adopted.keys) == ({"keys": 1}, [f"keys/{key.name}"])
    assert list(adopted.damaged) == [f"keys/{'0' * 64}"]
    condemned(bucket, "keys")
    assert bucket.adopt().keys == []


def test_a_seal_of_another_account_is_left_out(nodes: Nodes, tmp_path: Path) -> None:
    bucket, source = nodes.bucket(), a_repository(tmp_path / "source", user=uuid4())
    copied_by_hand(bucket, source)
    adopted = bucket.adopt()
    assert list(adopted.damaged) == [str(SEAL)]
    assert "another account" in adopted.damaged[str(SEAL)]
    with BucketSession.open(nodes.cluster, bucket.id, Purpose.READ) as session:
        assert session.read(CONFIG) == (source / "config").read_bytes()


def a_second_home(bucket: Bucket) -> None:
    """One that is down."""
    change(
        bucket,
        "insert into nodes (id, public_endpoint, internal_endpoint, last_seen, free_bytes, catalogue)"
        " select '0', 'localhost:1', 'localhost:1', now(), 0, max(catalogue) from nodes where %s::uuid is not null"
        " on conflict do nothing",
    )
    change(
        bucket,
        "insert into homes (bucket_id, node_id, tenant_id, user_id)"
        " select id, '0', tenant_id, user_id from buckets where id = %s",
    )


def test_while_a_home_is_down_packs_are_entered_and_what_may_need_others_waits(nodes: Nodes, tmp_path: Path) -> None:
    bucket = nodes.bucket()
    copied_by_hand(bucket, a_repository(tmp_path / "source"))
    a_second_home(bucket)
    adopted = bucket.adopt()
    assert (adopted.objects, list(adopted.down)) == ({"keys": 1, "data": 3}, ["0"])
    for name in (*names(bucket, "index"), *names(bucket, "snapshots")):
        assert "a node that does not answer (0)" in adopted.damaged[name]
    # The operator knows that nothing was copied there.
    adopted = bucket.adopt("a")
    assert (adopted.objects, adopted.damaged, adopted.down) == ({"index": 1, "snapshots": 1}, {}, {})
    missing = rows(bucket, "select distinct node_id from missing_copies where bucket_id = %s")
    assert missing == [("0",)]
    with pytest.raises(ServerUnreachable, match="No home"):
        bucket.adopt("0")


def test_a_file_that_somebody_writes_to_is_left_out_and_what_may_need_it_waits(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = nodes.bucket()
    here = copied_by_hand(bucket, a_repository(tmp_path / "source"))
    victim = min(bucket.folder.glob("data/*/*"))
    hashed = SteadyReader.hash

    async def slow(reader: SteadyReader, opened: OpenObject, size: int, told: Callable[[int], None]) -> bytes | None:
        digest = await hashed(reader, opened, size, told)
        if digest is not None and digest.hex() == victim.name:
            os.utime(victim, (1, 1))
        return digest

    with monkeypatch.context() as patch:
        patch.setattr(SteadyReader, "hash", slow)
        adopted = bucket.adopt()
    assert "changed while it was read" in adopted.damaged.pop(f"data/{victim.name}")
    assert {name.partition("/")[0] for name in adopted.damaged} == {"index", "snapshots"}
    assert adopted.objects == {"keys": 1, "data": 2}
    assert bucket.adopt().damaged == {}
    assert len(states(bucket)) == len(here) - 2


@pytest.mark.parametrize(
    ("folder", "name", "waiting"),
    [
        ("data", ".{}.a1B2c3", {"index", "snapshots"}),
        ("data", "{}.part", {"index", "snapshots"}),
        ("index", "{}~", {"snapshots"}),
        ("snapshots", ".{}.a1B2c3", set()),
    ],
)
def test_what_has_the_temporary_name_of_a_copy_is_waited_for(
    nodes: Nodes, tmp_path: Path, folder: str, name: str, waiting: set[str]
) -> None:
    bucket = nodes.bucket()
    here = copied_by_hand(bucket, a_repository(tmp_path / "source"))
    pack = min(path for path in (bucket.folder / folder).rglob("*") if path.is_file())
    arriving = pack.rename(pack.with_name(name.format(pack.name)))
    adopted = bucket.adopt()
    assert "temporary name" in adopted.damaged.pop(str(arriving.relative_to(bucket.folder)))
    assert {one.partition("/")[0] for one in adopted.damaged} == waiting
    arriving.rename(pack)
    assert bucket.adopt().damaged == {}
    assert bucket.files() == here


def test_a_node_that_is_no_home_is_refused(nodes: Nodes) -> None:
    with pytest.raises(UsageError, match="no home"):
        nodes.bucket().adopt("0")


@dataclass
class Told:
    """What nodes tell of the small files in their folders."""

    answers: dict[str, list[ReadRootsResponse]]
    id: str = ""
    bucket: UUID = field(default_factory=uuid4)
    known: tuple[ObjectName, ...] = ()

    @property
    def homes(self) -> list[str]:
        return list(self.answers)

    def list(self, _kind: ObjectKind) -> Iterator[ObjectInfo]:
        """What the catalogue has."""
        return (ObjectInfo(name, 1) for name in self.known)

    def stream_of(self, node: str, _call: object) -> Sequence[ReadRootsResponse]:
        return self.answers[node]


def roots_of(*answers: ReadRootsResponse) -> dict[str, ReadRootsResponse]:
    """As they are taken from one node after the other."""
    told = Told({str(number): [answer] for number, answer in enumerate(answers)})
    adoption = _Adoption(cast("BucketSession", told), told.homes, lambda _moved: None)
    for node in told.homes:
        adoption._read_roots(node)
    return adoption._roots.found


@pytest.mark.parametrize("is_first", [True, False])
def test_a_small_file_that_one_node_refuses_is_taken_from_another(*, is_first: bool) -> None:
    for name in ("config", f"keys/{sha256(b'body').hexdigest()}"):
        refused = ReadRootsResponse(name=name, refused="it is a link")
        whole = ReadRootsResponse(name=name, body=b"body")
        assert roots_of(*((refused, whole) if is_first else (whole, refused))) == {name: whole}


def test_of_several_keys_of_one_name_the_whole_one_is_taken() -> None:
    name = f"keys/{sha256(b'body').hexdigest()}"
    whole = ReadRootsResponse(name=name, body=b"body")
    assert roots_of(ReadRootsResponse(name=name, body=b"cut"), whole) == {name: whole}
    assert roots_of(whole, ReadRootsResponse(name=name, body=b"cut")) == {name: whole}


def test_two_configs_are_of_two_vaults() -> None:
    with pytest.raises(AnotherVault):
        roots_of(ReadRootsResponse(name="config", body=b"one"), ReadRootsResponse(name="config", body=b"other"))


def test_what_was_damaged_in_one_folder_and_came_from_another_is_not_told_as_left_out() -> None:
    came, missing = (ObjectName.of(ObjectKind.PACK, body) for body in (b"one", b"other"))
    adoption = _Adoption(cast("BucketSession", Told({}, known=(came,))), [], lambda _moved: None)
    adoption._adopted.damaged = dict.fromkeys([str(came), str(missing), "data/stray"], "its content is another")
    adoption._strike_entered()
    assert list(adoption._adopted.damaged) == [str(missing), "data/stray"]
