"""What a node expects of wherever it keeps bodies, of disks and of stores alike."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from domain.names import CONFIG, SEAL, ObjectKind, ObjectName
from services.common.errors import StartError
from services.storage.errors import NameMismatch, Unentered
from services.storage.tests.cluster import a_body, index, pack
from services.storage.tests.kept import Kept, OnDisk, on_emulator, on_s3
from services.storage.volumes.staging import NO_SESSION, StagedName
from services.storage.volumes.volume import StagedBody, Volume, hash_of

BUCKET, SESSION = uuid4(), uuid4()
TOP = f"buckets/{BUCKET}"


@pytest.fixture(params=["disk", "s3"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    """Where `emulated_volumes.py` runs these it asks for an emulator."""
    if request.param == "disk":
        yield OnDisk(tmp_path / "disk")
    elif request.param == "emulator":
        with on_emulator(request.getfixturevalue("emulator"), f"{tmp_path.name}/where else", tmp_path) as kept:
            yield kept
    else:
        with on_s3(request.getfixturevalue("s3_bucket"), "some/where else", tmp_path) as kept:
            yield kept


@pytest.fixture
def volume(kept: Kept) -> Iterator[Volume]:
    with closing(kept.volume()) as volume:
        yield volume


def staged(volume: Volume, name: ObjectName, body: bytes, *, first: bool = False) -> StagedBody:
    arriving = volume.stage(StagedName(BUCKET, SESSION, name, sha256(body).digest()), len(body), first=first)
    _arrive(arriving, body)
    return arriving


def placed(volume: Volume, body: bytes) -> ObjectName:
    staged(volume, pack(body), body).place()
    return pack(body)


def _arrive(arriving: StagedBody, body: bytes) -> None:
    arriving.write(body)
    arriving.finish()


def content(volume: Volume, name: ObjectName, size: int) -> bytes | None:
    opened = volume.open(BUCKET, name, size)
    if opened is None:
        return None
    with closing(opened):
        return opened.read(0, size)


def test_a_body_lies_in_its_place_once_it_was_placed_and_nowhere_else(volume: Volume, kept: Kept) -> None:
    body = a_body()
    arriving = staged(volume, pack(body), body)
    assert content(volume, pack(body), len(body)) is None
    arriving.place()
    arriving.discard()  # as replication does in any case
    assert kept.files() == [f"{TOP}/{pack(body).path}"]
    assert content(volume, pack(body), len(body)) == body
    assert volume.has_bucket(BUCKET)
    assert volume.held() == {BUCKET}


def test_a_large_body_is_read_by_ranges_and_hashed(volume: Volume) -> None:
    body = a_body((9 << 20) + 3)
    name = placed(volume, body)
    opened = volume.open(BUCKET, name, len(body))
    assert opened is not None
    with closing(opened):
        assert opened.read((8 << 20) - 5, 10) == body[(8 << 20) - 5 : (8 << 20) + 5]
        assert opened.read(len(body) - 3, 100) == body[-3:]
        assert opened.read(len(body), 1) == b""
        assert hash_of(opened, len(body)) == bytes.fromhex(name.id)
        assert hash_of(opened, len(body) + 1) is None


def test_an_empty_body_is_one_too(volume: Volume) -> None:
    assert content(volume, placed(volume, b""), 0) == b""


@pytest.mark.parametrize("arrives", [b"short", b"too long a body", b"other body"])
def test_a_body_that_is_not_what_was_announced_is_never_seen(volume: Volume, kept: Kept, arrives: bytes) -> None:
    announced = b"right body"
    arriving = volume.stage(StagedName(BUCKET, SESSION, pack(announced), sha256(announced).digest()), len(announced))
    with pytest.raises(NameMismatch):
        _arrive(arriving, arrives)
    assert list(volume.staged()) == []
    arriving.discard()
    assert kept.files() == []


def test_what_was_staged_and_not_placed_is_found_by_the_next_run_and_placed_once(kept: Kept) -> None:
    body, other = a_body(), a_body()
    with closing(kept.volume()) as crashed:
        staged(crashed, pack(body), body)
        staged(crashed, pack(other), other)
        begun = crashed.stage(StagedName(BUCKET, SESSION, pack(b"x"), sha256(b"x").digest()), 1)
        begun.write(b"x")
    kept.write(f"incoming/{BUCKET}/somebody's", b"")
    with closing(kept.volume()) as volume:
        volume.drop_parts()
        waiting = {one.staged.name: one for one in volume.staged(BUCKET)}
        assert waiting.keys() == {one.staged.name for one in volume.staged()} == {pack(body), pack(other)}
        first = waiting[pack(body)]
        assert first.staged == StagedName(BUCKET, SESSION, pack(body), sha256(body).digest())
        assert (first.exists(), first.is_taken()) == (True, False)
        found = first.open()
        assert found is not None
        with closing(found[0]):
            assert hash_of(*found) == sha256(body).digest()
        first.place()
        first.place()  # as its own put does at the same time
        assert (first.exists(), first.is_taken()) == (False, True)
        waiting[pack(other)].discard()
        with pytest.raises(FileNotFoundError):
            waiting[pack(other)].place()
    assert kept.files() == [f"{TOP}/{pack(body).path}", f"incoming/{BUCKET}/somebody's"]


def test_an_object_of_another_size_is_none_but_what_is_left_of_it_can_be_read(volume: Volume, kept: Kept) -> None:
    name = placed(volume, b"a whole body")
    kept.write(f"{TOP}/{name.path}", b"a whole")
    assert content(volume, name, 12) is None
    assert volume.open(BUCKET, name, 12, cut=True) is None
    left = volume.open(BUCKET, name, 5, cut=True)
    assert left is not None
    with closing(left):
        assert left.read(0, 5) == b"a who"


def test_what_is_lacking_is_told_by_name_and_size(volume: Volume, kept: Kept) -> None:
    bodies = [a_body() for _ in range(3)]
    keys = [ObjectName.of(ObjectKind.KEY, a_body()) for _ in range(9)]  # so many of one folder are listed
    for body in bodies:
        placed(volume, body)
    for key in keys[1:]:
        kept.write(f"{TOP}/{key.path}", b"key")
    kept.write(f"{TOP}/{pack(bodies[0]).path}", bodies[0][1:])
    wanted = [(pack(body), len(body)) for body in bodies] + [(key, 3) for key in keys]
    never = pack(b"never put")
    assert volume.lacking(BUCKET, [*wanted, (never, 9), (keys[1], 4)]) == {pack(bodies[0]), keys[0], keys[1], never}


def test_what_is_removed_is_gone_and_what_never_was_too(volume: Volume, kept: Kept) -> None:
    names = [placed(volume, a_body()) for _ in range(3)]
    assert volume.remove(BUCKET, [*names[:2], pack(b"never put")]) == {*names[:2], pack(b"never put")}
    assert kept.files() == [f"{TOP}/{names[2].path}"]


def test_the_seal_is_replaced_and_a_first_config_buries_none(volume: Volume) -> None:
    for seal in (b"seal", b"another seal"):
        staged(volume, SEAL, seal).place()
    assert content(volume, SEAL, 12) == b"another seal"
    staged(volume, CONFIG, b"config", first=True).place()
    staged(volume, CONFIG, b"config", first=True).discard()
    with pytest.raises(Unentered):
        staged(volume, CONFIG, b"confiG", first=True)


def test_what_lies_in_a_bucket_is_told_and_what_is_no_object_counted(volume: Volume, kept: Kept) -> None:
    body = a_body()
    name, listed = placed(volume, body), index(b"index")
    strange = (f"data/00/{pack(b'elsewhere').id}", "keys/notes.txt", "repo/config", "notes")
    for path in ("config", "oort-vault", listed.path, *strange, "locks/x"):
        kept.write(f"{TOP}/{path}", b"index")
    roots = {one.name: (one.sha256, one.size) for one in volume.root_files(BUCKET)}
    assert roots == dict.fromkeys((CONFIG, SEAL), (sha256(b"index").digest(), 5))
    found = list(volume.files(BUCKET))
    assert {(one.name, one.size) for one in found if not isinstance(one, str)} == {(name, len(body)), (listed, 5)}
    foreign = {one for one in found if isinstance(one, str)}
    assert foreign == {*strange[:2], "repo", "notes"}
    assert list(volume.files(UUID(int=7))) == volume.root_files(UUID(int=7)) == []


def test_what_somebody_has_put_there_is_opened_and_looked_at_again(volume: Volume, kept: Kept) -> None:
    body = a_body()
    name = pack(body)
    assert volume.copied(BUCKET, name) is None
    kept.write(f"{TOP}/{name.path}", body)
    kept.write(f"{TOP}/{index(body).path}", body)
    assert [one.name for one in volume.of_kind(BUCKET, ObjectKind.PACK) if not isinstance(one, str)] == [name]
    opened = volume.copied(BUCKET, name)
    assert opened is not None
    with closing(opened):
        assert (opened.size, hash_of(opened, opened.size)) == (len(body), sha256(body).digest())
        assert opened.is_unchanged()
        kept.write(f"{TOP}/{name.path}", body + b"more")
        assert not opened.is_unchanged()


def test_one_node_has_it_and_it_is_there_while_it_is_that_node_s(kept: Kept) -> None:
    with closing(kept.volume()) as volume:
        assert volume.is_there
        state = volume.state()
        assert (state.there, state.free_bytes, bool(state.id)) == (True, volume.free_bytes, True)
        kept.write("oort-disk.json", f'{{"node": "b", "disk": "{NO_SESSION}"}}'.encode())
        assert not volume.is_there
        assert volume.state() == replace(state, there=False, free_bytes=0)
    with pytest.raises(StartError, match="belongs to node b"):
        kept.volume()
    kept.write("oort-disk.json", b"not ours")
    with pytest.raises(StartError, match="cannot read"):
        kept.volume()


def until_clear(volume: Volume, over: set[UUID]) -> bool:
    """A store says that a bucket is gone when it has looked once more."""
    return volume.clear(BUCKET, over) or volume.clear(BUCKET, over)


def test_a_bucket_is_cleared_but_of_what_may_still_be_entered_or_is_foreign(kept: Kept, volume: Volume) -> None:
    config = staged(volume, CONFIG, b"config")
    config.place()
    placed(volume, a_body())
    other = a_body()
    waiting = staged(volume, pack(other), other)
    foreign = f"{TOP}/data/not ours"
    kept.write(foreign, b"foreign")
    assert volume.sessions_of(BUCKET) == {SESSION}
    assert not until_clear(volume, set())
    assert {path.partition("/")[0] for path in kept.files() if path != foreign} == {"incoming"}
    assert volume.may_hold(BUCKET)
    assert until_clear(volume, {SESSION})
    assert kept.files() == [foreign]
    assert volume.sessions_of(BUCKET) == set()
    waiting.discard()


def test_a_body_that_is_arriving_holds_up_the_clearing_of_its_bucket(kept: Kept, volume: Volume) -> None:
    body = a_body()
    arriving = volume.stage(StagedName(BUCKET, SESSION, pack(body), sha256(body).digest()), len(body))
    arriving.write(body)
    assert volume.sessions_of(BUCKET) == {SESSION}
    assert not until_clear(volume, set())
    arriving.discard()
    assert until_clear(volume, set())
    assert not kept.files()
    assert not volume.may_hold(BUCKET)


def test_what_is_noted_of_an_order_outlasts_the_process(kept: Kept) -> None:
    order, other = uuid4(), uuid4()
    with closing(kept.volume()) as volume:
        assert not volume.is_noted(order)
        volume.note(order)
        volume.note(order)
    with closing(kept.volume()) as volume:
        assert volume.is_noted(order)
        assert not volume.is_noted(other)
