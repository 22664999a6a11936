"""Snapshots, index files, locks and config: written as restic does, read safely."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.errors import DamagedVault, NoSuchSnapshot
from client.vault.blobs import BlobKind, PackEntry
from client.vault.index_files import IndexedPack, IndexFile, decode_index_file, encode_index_file, split
from client.vault.locks import Lock, decode_lock, encode_lock
from client.vault.polynomial import is_irreducible
from client.vault.repository import Config, decode_config, encode_config
from client.vault.snapshots import Snapshot, decode_snapshot, encode_snapshot, newest_first, select_snapshot
from client.vault.strict import index_complaints, snapshot_complaints
from client.vault.tests.builders import TIME_NS
from client.vault.tests.test_keys import JSON
from client.vault.tests.test_nodes import IDS, TEXTS, U32
from client.vault.times import parse_time

HEX_IDS = IDS.map(bytes.hex)
TIMES = st.integers(0, 2**62)
DOCUMENTS = st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode())


def documents_with(*fields: str) -> st.SearchStrategy[bytes]:
    values = JSON | HEX_IDS | st.lists(st.dictionaries(st.sampled_from(["id", "blobs", "type"]), JSON | HEX_IDS))
    return DOCUMENTS | st.dictionaries(st.sampled_from(fields), values).map(lambda value: json.dumps(value).encode())


SNAPSHOTS = st.builds(
    Snapshot,
    time_ns=TIMES,
    tree=IDS,
    paths=st.lists(TEXTS, min_size=1, max_size=2).map(tuple),
    hostname=TEXTS,
    username=TEXTS,
    uid=U32,
    gid=U32,
    excludes=st.lists(TEXTS, max_size=2).map(tuple),
    tags=st.lists(TEXTS, max_size=2).map(tuple),
    parent=st.none() | HEX_IDS,
    original=st.none() | HEX_IDS,
    program_version=TEXTS,
    id=HEX_IDS,
)


@given(SNAPSHOTS)
def test_a_snapshot_is_read_as_it_was_written(snapshot: Snapshot) -> None:
    body = encode_snapshot(snapshot)
    assert decode_snapshot(body, snapshot.id) == snapshot
    assert list(snapshot_complaints(body)) == []


def test_a_snapshot_is_written_as_restic_writes_it() -> None:
    snapshot = Snapshot(TIME_NS, b"\1" * 32, ("/home/<x>",), "kasimir", "fd0", 1000, 100, tags=("NL",))
    assert encode_snapshot(snapshot).decode() == (
        f'{{"time":"2014-12-06T16:30:23.34513538Z","tree":"{"01" * 32}","paths":["/home/\\u003cx\\u003e"],'
        '"hostname":"kasimir","username":"fd0","uid":1000,"gid":100,"tags":["NL"]}'
    )


@given(documents_with("time", "tree", "paths", "tags", "parent", "uid"))
def test_arbitrary_bytes_are_a_damaged_snapshot(body: bytes) -> None:
    with pytest.raises(DamagedVault):
        decode_snapshot(body)


def test_item_and_device_are_tags() -> None:
    snapshot = Snapshot(TIME_NS, bytes(32), ("/",), tags=("mine", "oort:item=i", "oort:device=d"))
    assert (snapshot.item, snapshot.device) == ("i", "d")
    assert Snapshot(0, bytes(32)).item == ""


def test_snapshots_are_selected_by_latest_id_or_unambiguous_prefix() -> None:
    old, new, other = (
        Snapshot(time, bytes(32), ("/",), id=name * 32) for time, name in ((1, "aa"), (3, "ab"), (2, "cd"))
    )
    snapshots = [old, new, other]
    assert newest_first(snapshots) == [new, other, old]
    assert select_snapshot(snapshots, "latest") is new
    assert select_snapshot(snapshots, "cd" * 32) is other
    assert select_snapshot(snapshots, "C") is other
    for wanted in ("a", "ff", "", "latestx"):
        with pytest.raises(NoSuchSnapshot):
            select_snapshot(snapshots, wanted)
    with pytest.raises(NoSuchSnapshot):
        select_snapshot([], "latest")


def chained(*times: int) -> list[Snapshot]:
    """Snapshots of one device, each the parent of the next."""
    made: list[Snapshot] = []
    for number, time in enumerate(times):
        parent = made[-1].id if made else None
        made.append(Snapshot(time, bytes(32), ("/",), parent=parent, id=f"{number:02x}" * 32))
    return made


def test_a_snapshot_is_newer_than_its_parent_whatever_the_clock_said() -> None:
    first, second, third = chained(100, 20, 30)
    assert select_snapshot([third, first, second], "latest") is third
    assert newest_first([third, first, second]) == [third, second, first]


def test_a_clock_that_was_ahead_for_one_backup_does_not_hide_those_of_other_devices() -> None:
    first, ahead, third = chained(10, 9_000, 20)
    other = Snapshot(25, bytes(32), ("/",), id="ee" * 32)
    assert newest_first([first, ahead, other, third]) == [other, third, ahead, first]


def test_snapshots_whose_parents_are_gone_or_form_a_circle_are_all_listed_by_time() -> None:
    one = Snapshot(1, bytes(32), ("/",), parent="bb" * 32, id="aa" * 32)
    other = Snapshot(2, bytes(32), ("/",), parent="aa" * 32, id="bb" * 32)
    orphan = Snapshot(3, bytes(32), ("/",), parent="cc" * 32, id="dd" * 32)
    assert newest_first([one, other, orphan]) == [orphan, other, one]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=9))
def test_every_snapshot_is_listed_once_and_before_its_parent(drawn: list[tuple[int, int]]) -> None:
    made: list[Snapshot] = []
    for number, (time, parent) in enumerate(drawn):
        known = made[parent].id if parent < len(made) else None
        made.append(Snapshot(time, bytes(32), ("/",), parent=known, id=f"{number:02x}" * 32))
    listed = newest_first(made)
    assert sorted(listed, key=lambda snapshot: snapshot.id) == made
    places = {snapshot.id: place for place, snapshot in enumerate(listed)}
    assert all(places[snapshot.id] < places[snapshot.parent] for snapshot in listed if snapshot.parent)


ENTRIES = st.builds(
    PackEntry,
    id=IDS,
    kind=st.sampled_from(BlobKind),
    offset=st.integers(0, 2**31),
    length=st.integers(32, 2**31 - 1),
    uncompressed_length=U32,
)
PACKS = st.builds(IndexedPack.of, pack=IDS, entries=st.lists(ENTRIES, max_size=3))


@given(st.lists(PACKS, max_size=3), st.lists(IDS, max_size=2))
def test_an_index_file_is_read_as_it_was_written(packs: list[IndexedPack], supersedes: list[bytes]) -> None:
    body = encode_index_file(IndexFile(packs, supersedes))
    assert decode_index_file(body, "index") == IndexFile(packs, supersedes)
    assert list(index_complaints(body)) == []


@given(documents_with("packs", "supersedes"))
def test_arbitrary_bytes_are_an_index_file_or_damaged(body: bytes) -> None:
    try:
        for pack in decode_index_file(body, "index").packs:
            assert len(pack.pack) == 32
    except DamagedVault:
        return


@pytest.mark.parametrize(
    "change",
    [
        {"type": "blob"},
        {"type": 1},
        {"offset": -1},
        {"offset": 2**32},
        {"length": 31},
        {"length": "38"},
        {"length": 1.5},
        {"uncompressed_length": -1},
        {"uncompressed_length": None, "id": None},
        {"id": "AB" * 32},
        {"id": "ab" * 31},
    ],
)
def test_an_index_entry_that_cannot_be_is_damaged(change: dict[str, object]) -> None:
    entry = {"id": "ab" * 32, "type": "data", "offset": 0, "length": 38} | change
    with pytest.raises(DamagedVault):
        decode_index_file(json.dumps({"packs": [{"id": "cd" * 32, "blobs": [entry]}]}).encode(), "index")


def test_packs_are_never_divided_between_index_files() -> None:
    entry = PackEntry(bytes(32), BlobKind.DATA, 0, 40, 0)
    packs = [IndexedPack.of(bytes([number]) * 32, [entry] * size) for number, size in enumerate((3, 3, 10, 1, 1))]
    assert [[len(pack.entries) for pack in group] for group in split(packs, 4)] == [[3], [3], [10], [1, 1]]
    assert split([]) == []


@given(st.builds(Lock, TIMES, st.booleans(), TEXTS, TEXTS, U32, U32, U32, TEXTS))
def test_a_lock_is_read_as_it_was_written(lock: Lock) -> None:
    assert decode_lock(encode_lock(lock), "lock") == lock


@given(documents_with("time", "exclusive", "pid"))
def test_arbitrary_bytes_are_a_damaged_lock(body: bytes) -> None:
    with pytest.raises(DamagedVault):
        decode_lock(body, "lock")


@given(st.builds(Config, st.sampled_from([1, 2]), HEX_IDS, st.integers(0, 2**54)))
def test_a_config_is_read_as_it_was_written(config: Config) -> None:
    assert decode_config(encode_config(config)) == config


@given(documents_with("version", "id", "chunker_polynomial"))
def test_arbitrary_bytes_are_a_damaged_config(body: bytes) -> None:
    with pytest.raises(DamagedVault):
        decode_config(body)


@pytest.mark.parametrize("version", [0, 3])
def test_versions_that_are_not_known_are_refused(version: int) -> None:
    with pytest.raises(DamagedVault, match="version"):
        decode_config(encode_config(Config(version, "ab" * 32, 1)))


def test_zones_of_other_writers_are_read() -> None:
    body = f'{{"time":"2015-01-02T18:10:50.895208559+01:00","tree":"{"ab" * 32}","paths":["/x"]}}'.encode()
    assert decode_snapshot(body).time_ns == parse_time("2015-01-02T17:10:50.895208559Z")
    assert not is_irreducible(0)
