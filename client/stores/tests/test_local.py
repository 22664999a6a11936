import errno
import os
import stat
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from client.errors import DamagedVault, NameMismatch, ObjectMissing, StoreError, StoreFull, TruncatedObject
from client.stores.local import LocalSession, LocalStore, sweep
from client.stores.tests.contract import StoreContract, a_pack, initialised
from domain.names import CONFIG, ObjectKind, ObjectName
from domain.sessions import Purpose


class TestLocalStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> LocalStore:
        return LocalStore(tmp_path / "vault")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "vault")
    with store.open(Purpose.BACKUP) as session:
        initialised(session)
    return store


def packs_of_one_folder(number: int) -> list[tuple[ObjectName, bytes]]:
    found: dict[str, list[tuple[ObjectName, bytes]]] = defaultdict(list)
    while True:
        pack = a_pack(10)
        same = found[pack[0].id[:2]]
        same.append(pack)
        if len(same) == number:
            return same


def packs_of_other_folders(number: int) -> list[tuple[ObjectName, bytes]]:
    found: dict[str, tuple[ObjectName, bytes]] = {}
    while len(found) < number:
        pack = a_pack(10)
        found[pack[0].id[:2]] = pack
    return list(found.values())


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_files_and_folders_are_for_their_owner_alone(store: LocalStore) -> None:
    with store.open(Purpose.BACKUP) as session:
        session.put(*a_pack())
    for path in [store.path, *store.path.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_an_object_altered_on_the_disk_is_damaged_when_it_is_read_whole(store: LocalStore) -> None:
    name, body = a_pack()
    with store.open(Purpose.BACKUP) as session:
        session.put(name, body)
        path = store.path / name.path
        path.chmod(0o600)
        path.write_bytes(b"x" + body[1:])
        with pytest.raises(DamagedVault, match=name.id):
            session.get(name)
        assert session.get(name, 1, 5) == body[1:6]


def test_packs_lie_in_one_of_256_folders_made_with_the_first_of_each(store: LocalStore) -> None:
    assert list((store.path / "data").iterdir()) == []
    (name, body), (other, other_body) = packs = [a_pack(), a_pack()]
    with store.open(Purpose.BACKUP) as session:
        for pack in packs:
            assert session.put(*pack)
    assert (store.path / "data" / name.id[:2] / name.id).read_bytes() == body
    assert (store.path / "data" / other.id[:2] / other.id).read_bytes() == other_body
    assert {path.name for path in (store.path / "data").iterdir()} == {name.id[:2], other.id[:2]}


def test_the_name_of_a_folder_is_synced_before_the_first_pack_in_it_is_acknowledged(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def folders_synced(session: LocalSession, pack: tuple[ObjectName, bytes]) -> list[str]:
        synced: list[str] = []

        def fsync(descriptor: int) -> None:
            path = Path(f"/proc/self/fd/{descriptor}").resolve()
            synced.extend([str(path.relative_to(store.path))] if path.is_dir() else [])

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            assert session.put(*pack)
        return synced

    first, second, foreign = packs = packs_of_other_folders(3)
    folder, other_folder, foreign_folder = [f"data/{name.id[:2]}" for name, _ in packs]
    with store.open(Purpose.BACKUP) as session, store.open(Purpose.BACKUP) as other:
        assert folders_synced(session, first) == ["data", folder]
        # Another process has made this one, and may not have come to its sync.
        (store.path / foreign_folder).mkdir()
        assert folders_synced(session, foreign) == ["data", foreign_folder]
        assert folders_synced(session, second) == ["data", other_folder]
        # Once synced by a session, all that it found there is durable.
        for name, _ in packs:
            session.remove(name)
        assert folders_synced(other, first) == ["data", folder]
        assert folders_synced(other, second) == [other_folder]


def test_many_threads_and_sessions_may_need_the_same_folder_at_once(store: LocalStore) -> None:
    packs = packs_of_one_folder(8)
    at_once = Barrier(len(packs))

    def put(pack: tuple[ObjectName, bytes], session: LocalSession) -> bool:
        at_once.wait()
        return session.put(*pack)

    with (
        store.open(Purpose.BACKUP) as one,
        store.open(Purpose.BACKUP) as other,
        ThreadPoolExecutor(len(packs)) as threads,
    ):
        assert all(threads.map(put, packs, [one, other] * 4))
        assert {info.name for info in one.list(ObjectKind.PACK)} == {name for name, _ in packs}


def test_a_folder_that_is_removed_while_a_session_is_open_is_made_again(store: LocalStore) -> None:
    (name, body), (second, second_body) = packs_of_one_folder(2)
    with store.open(Purpose.BACKUP) as session:
        session.put(name, body)
        session.remove(name)
        (store.path / name.path).parent.rmdir()
        assert session.put(second, second_body)
        assert session.get(second) == second_body


def test_packs_of_the_flat_layout_are_listed_read_and_removed(store: LocalStore) -> None:
    flat, nested = [a_pack() for _ in range(5)], [a_pack() for _ in range(5)]
    for name, body in flat:
        (store.path / "data" / name.id).write_bytes(body)
    with store.open(Purpose.BACKUP) as session:
        for name, body in nested:
            session.put(name, body)
        assert [info.name for info in session.list(ObjectKind.PACK)] == sorted(name for name, _ in flat + nested)
        for name, body in flat:
            assert session.get(name) == body
            assert not session.put(name, body)
            session.remove(name)
        assert session.reserve([name for name, _ in flat + nested]) == {name for name, _ in flat}


def test_the_folders_of_the_old_layout_are_found(tmp_path: Path) -> None:
    for folder in ("data", "index", "key", "snapshot", "lock"):
        (tmp_path / folder).mkdir()
    name = ObjectName.of(ObjectKind.KEY, b"key")
    (tmp_path / "key" / name.id).write_bytes(b"key")
    with LocalStore(tmp_path).open(Purpose.READ) as session:
        assert [info.name for info in session.list(ObjectKind.KEY)] == [name]
        assert session.get(name) == b"key"


def test_a_full_disk_is_told_and_leaves_nothing_behind(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    name, body = a_pack(100_000)
    written = 0

    def write(descriptor: int, data: Any) -> int:
        nonlocal written
        if written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = 5000
        return genuine(descriptor, data[:5000])

    genuine = os.write
    with store.open(Purpose.BACKUP) as session:
        before = files_below(store.path)
        monkeypatch.setattr(os, "write", write)
        with pytest.raises(StoreFull, match="No space left"):
            session.put(name, body)
        monkeypatch.undo()
        assert files_below(store.path) == before
        assert session.put(name, body)


def test_a_disk_that_fails_to_sync_keeps_the_name_free(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    name, body = a_pack()
    with store.open(Purpose.BACKUP) as session:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            with pytest.raises(StoreError, match="Input/output error"):
                session.put(name, body)
        with pytest.raises(ObjectMissing):
            session.get(name)


def test_a_full_disk_at_first_use_leaves_no_vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path / "vault")

    def link(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with store.open(Purpose.BACKUP) as session:
        with monkeypatch.context() as patch:
            patch.setattr(os, "link", link)
            with pytest.raises(StoreFull):
                initialised(session)
        with pytest.raises(ObjectMissing):
            session.get(CONFIG)
        assert list(session.list(ObjectKind.KEY)) == []
        initialised(session)


def test_a_file_system_without_links_can_hold_a_vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    with LocalStore(tmp_path / "vault").open(Purpose.BACKUP) as session:
        initialised(session)
        assert session.get(CONFIG) == b"config"


def test_a_folder_that_cannot_be_written_is_named(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with store.open(Purpose.BACKUP) as session, monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(StoreError, match="Read-only file system") as caught:
            session.put(*a_pack())
    assert str(store.path) in str(caught.value)
    assert caught.value.exit_code == 5


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "vault").write_text("no folder")
    with pytest.raises(StoreError, match="it is a file"):
        LocalStore(tmp_path / "vault").open(Purpose.READ)


def test_looking_at_a_folder_that_is_not_there_makes_none(tmp_path: Path) -> None:
    with LocalStore(tmp_path / "vault").open(Purpose.READ) as session:
        assert list(session.list(ObjectKind.PACK)) == []
        with pytest.raises(ObjectMissing):
            session.get(CONFIG)
    assert not (tmp_path / "vault").exists()


def test_a_truncated_object_is_said_to_be_truncated_and_is_mended_by_the_next_put(store: LocalStore) -> None:
    name, body = a_pack(1000)
    with store.open(Purpose.BACKUP) as session:
        session.put(name, body)
        os.truncate(store.path / name.path, 500)
        with pytest.raises(TruncatedObject):
            session.get(name, 400, 200)
        assert session.put(name, body)
        assert session.get(name) == body


def test_what_is_no_object_is_not_listed(store: LocalStore) -> None:
    (store.path / "index" / "README").write_text("mine")
    (store.path / "index" / ("a" * 64)).mkdir()
    (store.path / "data" / "00").mkdir()
    (store.path / "data" / "00" / "lost").write_text("mine")
    with store.open(Purpose.READ) as session:
        assert list(session.list(ObjectKind.INDEX)) == []
        assert list(session.list(ObjectKind.PACK)) == []


def test_root_files_are_not_put_over(store: LocalStore) -> None:
    with store.open(Purpose.BACKUP) as session, pytest.raises(NameMismatch):
        session.put(CONFIG, b"other config")


def test_what_a_crash_left_in_the_temporary_folder_is_swept_after_a_day(store: LocalStore) -> None:
    old, young = store.path / "tmp" / "old", store.path / "tmp" / "young"
    old.write_text("left")
    young.write_text("being written")
    os.utime(old, (1_000_000, 1_000_000))
    os.utime(young, (1_090_000, 1_090_000))
    assert sweep(store, now=1_100_000) == 1
    assert files_below(store.path / "tmp") == ["young"]
    store.open(Purpose.READ).close()
    assert files_below(store.path / "tmp") == ["young"]
    store.open(Purpose.RETENTION).close()  # by today's clock it is old
    assert files_below(store.path / "tmp") == []


@pytest.mark.parametrize("kind", [ObjectKind.LOCK, ObjectKind.INDEX])
def test_what_is_set_aside_on_a_full_disk_gives_way_to_what_removals_cannot_do_without(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, kind: ObjectKind
) -> None:
    reserve = store.path / "tmp" / "reserve"
    store.open(Purpose.READ).close()
    store.open(Purpose.RETENTION).close()
    assert not reserve.exists()
    store.open(Purpose.BACKUP).close()
    assert 4 << 20 == reserve.stat().st_size <= reserve.stat().st_blocks * 512
    write = os.write

    def full(descriptor: int, body: bytes) -> int:
        if reserve.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, body)

    monkeypatch.setattr(os, "write", full)
    name = ObjectName.of(kind, b"body")
    for purpose in Purpose:
        with store.open(purpose) as session, pytest.raises(StoreFull):
            session.put(*(a_pack() if purpose is Purpose.RETENTION else (name, b"body")))
    with store.open(Purpose.RETENTION) as session:
        assert session.put(name, b"body")
    assert not reserve.exists()


def test_what_is_set_aside_is_not_swept_and_a_disk_without_room_for_it_does_without(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = store.path / "tmp" / "reserve"

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        store.open(Purpose.BACKUP).close()
        assert not reserve.exists()
    store.open(Purpose.BACKUP).close()
    os.utime(reserve, (1_000_000, 1_000_000))
    store.open(Purpose.BACKUP).close()
    assert reserve.stat().st_mtime == 1_000_000


@pytest.mark.parametrize("kind", [ObjectKind.SNAPSHOT, ObjectKind.INDEX, ObjectKind.PACK])
def test_a_folder_that_is_missing_from_a_vault_is_not_taken_for_empty(store: LocalStore, kind: ObjectKind) -> None:
    folder = store.path / kind.value
    folder.rmdir()
    folder.symlink_to(store.path.parent / "unmounted")
    with store.open(Purpose.RETENTION) as session:
        with pytest.raises(StoreError, match=f"has no folder '{kind.value}'"):
            session.list(kind)
        folder.unlink()
        with pytest.raises(StoreError, match=f"has no folder '{kind.value}'"):
            session.list(kind)
        folder.mkdir()
        assert list(session.list(kind)) == []


def test_folders_of_keys_and_locks_may_be_missing(store: LocalStore) -> None:
    (store.path / "locks").rmdir()
    with store.open(Purpose.READ) as session:
        assert list(session.list(ObjectKind.LOCK)) == []


def test_a_folder_that_is_no_vault_yet_has_nothing(tmp_path: Path) -> None:
    with LocalStore(tmp_path / "new").open(Purpose.READ) as session:
        assert [list(session.list(kind)) for kind in ObjectKind] == [[] for _ in ObjectKind]
