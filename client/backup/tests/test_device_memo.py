"""The memo of a device by itself: what it finds again, what it forgets, and what it says when it cannot be read."""

import os
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import NoReturn

import lmdb
import pytest

from client.backup.listing import Lister, Listing
from client.backup.memo import DeviceMemo
from client.vault.nodes import EMPTY_TREE

TREE = bytes(32)


def a_listing(number: int) -> Listing:
    lister = Lister()
    lister.add([b"%d" % number], [os.lstat("/")])
    return replace(lister.finish(), entries=0, folders=0)


def test_values_that_were_altered_or_are_another_trees_are_none(tmp_path: Path) -> None:
    listing = a_listing(1)
    memo = DeviceMemo(tmp_path / "memo")
    memo.add(TREE, listing, EMPTY_TREE)
    memo.close()
    memo = DeviceMemo(tmp_path / "memo")
    remembered = memo.find(TREE)
    assert remembered is not None
    assert (remembered.digest, remembered.content, remembered.subtrees) == (listing.digest, [], [])
    assert memo.find(b"\1" * 32) is None
    memo.close()
    file = tmp_path / "memo" / "data.mdb"
    body = bytearray(file.read_bytes())
    body[body.index(listing.digest)] ^= 1
    file.write_bytes(body)
    memo = DeviceMemo(tmp_path / "memo")
    assert memo.find(TREE) is None
    memo.close()


def test_a_memo_that_outgrows_its_budget_begins_anew(tmp_path: Path) -> None:
    listing = a_listing(1)
    for number in range(3):
        memo = DeviceMemo(tmp_path / "memo", budget=256 << 10)
        for tree in range(2000):
            memo.add((number * 2000 + tree).to_bytes(32), listing, EMPTY_TREE)
        memo.close()
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.mdb")) < 1 << 20
    memo = DeviceMemo(tmp_path / "memo")
    memo.add(TREE, listing, EMPTY_TREE)
    memo.close()
    memo = DeviceMemo(tmp_path / "memo")
    assert memo.find(TREE) is not None
    memo.close()


@pytest.mark.parametrize(
    ("error", "is_dropped"),
    [
        *((lmdb.CorruptedError("damaged"), True), (lmdb.MapFullError("full"), True)),
        *((lmdb.ReadersFullError("busy"), False), (lmdb.DiskError("no space"), False), (OSError(5, "broken"), False)),
    ],
    ids=["damaged", "full", "readers", "disk", "input"],
)
def test_only_one_that_is_damaged_or_full_is_dropped_and_all_else_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, is_dropped: bool
) -> None:
    memo = DeviceMemo(tmp_path / "memo")
    memo.add(TREE, a_listing(1), EMPTY_TREE)
    memo.close()
    said: list[str] = []
    memo = DeviceMemo(tmp_path / "memo", tell=said.append)

    with monkeypatch.context() as patched:
        patched.setattr(memo, "_environment", FailingEnvironment(error))
        assert memo.find(TREE) is None
    memo.close()

    assert [str(error) in text for text in said] == [True] * (not is_dropped)
    memo = DeviceMemo(tmp_path / "memo")
    assert (memo.find(TREE) is None) == is_dropped
    memo.close()


class FailingEnvironment:
    """An LMDB environment in which no transaction begins."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def begin(self, **_: object) -> NoReturn:
        raise self._error


def test_several_backups_at_once_share_a_memo(tmp_path: Path) -> None:
    def fill(first: int) -> None:
        memo = DeviceMemo(tmp_path / "memo")
        for number in range(first, first + 100):
            memo.add(number.to_bytes(32), a_listing(number), EMPTY_TREE)
        memo.close()

    threads = [Thread(target=fill, args=(first,)) for first in (0, 50, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    memo = DeviceMemo(tmp_path / "memo")
    found = [memo.find(number.to_bytes(32)) for number in range(200)]
    assert [each and each.digest for each in found] == [a_listing(number).digest for number in range(200)]
    memo.close()


def test_a_tree_that_is_not_of_what_was_listed_is_not_remembered(tmp_path: Path) -> None:
    memo = DeviceMemo(tmp_path / "memo")
    memo.add(TREE, replace(a_listing(1), entries=1), EMPTY_TREE)
    memo.close()
    memo = DeviceMemo(tmp_path / "memo")
    assert memo.find(TREE) is None
    memo.close()
