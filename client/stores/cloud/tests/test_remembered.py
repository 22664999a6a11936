"""What a device remembers of what it has stored, and for how long."""

import os
import time
from pathlib import Path

import pytest

from client.errors import StoreError
from client.stores.cloud import CloudStore, Remembered
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose

INDEX = ObjectName.of(ObjectKind.INDEX, b"index")


def make_older(folder: Path, name: ObjectName, hours: int) -> None:
    then = time.time() - hours * 3600
    os.utime(folder / name.kind.value / name.id, (then, then))


def test_what_was_stored_is_remembered_for_a_week(tmp_path: Path) -> None:
    names = [ObjectName.of(ObjectKind.INDEX, body) for body in (b"1", b"2", b"3")]
    remembered = Remembered(tmp_path)
    for name in (*names, ObjectName.of(ObjectKind.SNAPSHOT, b"1"), ObjectName.of(ObjectKind.PACK, b"1")):
        remembered.add(name)
    (tmp_path / "index" / "somebody-elses").touch()
    remembered.forget(names[:1])
    assert Remembered(tmp_path).of(ObjectKind.INDEX) == frozenset(names[1:])
    assert Remembered(tmp_path).of(ObjectKind.PACK) == frozenset(), "for they are too many"
    make_older(tmp_path, names[1], 8 * 24)
    assert Remembered(tmp_path).of(ObjectKind.INDEX) == frozenset(names[2:])


def test_what_a_store_says_it_has_not_is_remembered_for_an_hour(tmp_path: Path) -> None:
    remembered = Remembered(tmp_path)
    remembered.add(INDEX)
    remembered.forget_missing([INDEX, ObjectName.of(ObjectKind.INDEX, b"another")])
    assert remembered.of(ObjectKind.INDEX) == frozenset((INDEX,))
    make_older(tmp_path, INDEX, 2)
    remembered.forget_missing([INDEX])
    assert remembered.of(ObjectKind.INDEX) == frozenset()


@pytest.mark.needs("rclone")
def test_on_webdav_what_was_in_a_folder_that_is_missing_is_not_forgotten(
    webdav_store: CloudStore, tmp_path: Path
) -> None:
    webdav_store.remembered = Remembered(tmp_path)
    with webdav_store.open(Purpose.RETENTION) as session:
        assert session.initialise(ObjectName.of(ObjectKind.KEY, b"key"), b"key", b"config", b"seal")
        session.put(INDEX, b"index")
        make_older(tmp_path, INDEX, 2)
        session.run(lambda operator: operator.remove_all("index/"))
    with webdav_store.open(Purpose.RETENTION) as session, pytest.raises(StoreError, match="no folder 'index'"):
        session.list(ObjectKind.INDEX)
    assert webdav_store.remembered.of(ObjectKind.INDEX) == frozenset((INDEX,))
