"""Prunes beside sessions that hold what is to go: nothing is written twice, and nothing of it is wrong."""

import errno
import tempfile
from pathlib import Path
from typing import IO, Any

import pytest

from client.errors import HomeFull
from client.reachability.tests.a_history import AS_IT_IS, EXACTLY, History, chunk, store_blobs
from client.retention.prune import PruneLimits, PruneReport
from client.stores.tests.memory import MemoryStore
from client.vault.blobs import BlobKind
from client.vault.index import IndexWriter
from client.vault.index_files import IndexedPack, IndexFile, encode_index_file
from client.vault.repository import Vault
from domain.names import ObjectKind
from domain.sessions import Purpose


def many_small_backups() -> History:
    history = History()
    for number in range(12):
        history.backup({str(number): range(10 * number, 10 * number + 3)})
    return history


def hold_all(vault: Vault) -> None:
    """As a backup that lasts, and lists at each checkpoint what it has reserved."""
    writer = IndexWriter(vault.index, vault)
    for name, _ in list(vault.index.packs()):
        vault.session.reserve([name])
        writer.add_reserved(name)
        writer.flush()


def is_as_it_should_be(report: PruneReport) -> bool:
    return not (report.problems or report.damaged or report.refused)


@pytest.mark.parametrize("limits", [AS_IT_IS, EXACTLY])
def test_what_was_written_for_files_that_a_session_holds_is_not_written_again(limits: PruneLimits) -> None:
    history = many_small_backups()
    with history.opened(Purpose.BACKUP) as vault:
        hold_all(vault)
        first, *others = [history.prune(limits) for _ in range(3)]
        assert first.new_index_files == 1
        for report in others:
            assert (report.added_bytes, report.new_index_files, report.new_packs) == (0, 0, 0)
            assert report.in_use > 0
            assert is_as_it_should_be(report)
        assert history.is_whole()
        assert history.problems(errors=True) == []

    history.prune(limits)

    assert len(history.names(ObjectKind.INDEX)) == 1
    assert history.problems() == []
    assert history.blobs() == history.needed()


def test_a_pack_that_held_files_list_in_parts_is_listed_in_full_once() -> None:
    history = History()
    history.backup({"a": range(8)}, pack_blobs=8)
    (whole,) = history.names(ObjectKind.INDEX)
    with history.opened(Purpose.BACKUP) as vault:
        packs = vault.read_index_file(whole).packs
        vault.session.reserve([pack.name for pack in packs])
        for part in (0, 1):
            some = [IndexedPack.of(pack.pack, pack.entries[part::2]) for pack in packs]
            document = encode_index_file(IndexFile([pack for pack in some if len(pack)]))
            vault.save_unpacked(ObjectKind.INDEX, document, [pack.name for pack in packs])
        history.store.objects.pop(whole)  # type: ignore[attr-defined]

        written = [history.prune(AS_IT_IS).new_index_files for _ in range(3)]

        assert written == [1, 0, 0]
    history.prune(AS_IT_IS)
    assert len(history.names(ObjectKind.INDEX)) == 1
    assert history.problems() == []
    assert history.is_whole()


def test_that_the_checkpoint_of_a_running_backup_stays_is_no_refusal_and_no_pass() -> None:
    history = History()
    history.backup({"a": range(8)})
    with history.opened(Purpose.BACKUP) as vault:
        writer = IndexWriter(vault.index, vault)
        store_blobs(vault, writer, BlobKind.DATA, [chunk(900)], pack_blobs=1)
        writer.flush()
        store_blobs(vault, writer, BlobKind.DATA, [chunk(901)], pack_blobs=1)

        report = history.prune()

        assert (report.index_files_in_use, report.packs_in_use) == (1, 1)
        assert is_as_it_should_be(report)
        assert report.freed_nothing
    assert not history.prune().freed_nothing  # of what the backup has left
    assert not history.prune().freed_nothing  # as there is nothing to free
    assert history.problems() == []


def test_a_prune_of_a_vault_that_the_storage_holds_stores_nothing_and_says_why() -> None:
    history = many_small_backups()
    history.backup({"0": range(1)})
    store = history.store
    assert isinstance(store, MemoryStore)
    before = dict(store.objects)
    store.held = "the brake on mass removal holds the vault"

    report = history.prune(EXACTLY)

    assert report.refused.named == ["all packs and index files: the brake on mass removal holds the vault"]
    assert store.objects == before
    store.held = ""
    assert history.prune(EXACTLY).new_index_files > 0
    assert history.problems() == []


def test_a_prune_on_a_full_home_has_its_temporary_files_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path | None] = []
    genuine = tempfile.TemporaryFile
    full: set[Path | None] = {tmp_path}

    def temporary(*arguments: Any, dir: Path | None = None, **options: Any) -> IO[bytes]:  # noqa: A002 - as it is called
        made.append(dir)
        if dir in full and len(made) > 1:  # what was begun there is begun again
            raise OSError(errno.ENOSPC, "No space left on device")
        return genuine(*arguments, dir=dir, **options)

    monkeypatch.setattr(tempfile, "TemporaryFile", temporary)
    history = many_small_backups()
    history.vault.cache_folder = tmp_path

    assert history.prune().new_index_files == 1

    assert made[0] == tmp_path
    assert made[-1] is None
    full.add(None)
    with pytest.raises(HomeFull, match=str(tmp_path)):
        history.prune()
    history.vault.cache_folder = None
    full.clear()
    assert history.problems() == []


def test_what_a_lock_or_a_brake_holds_for_days_is_not_tried_again_after_each_backup() -> None:
    report = PruneReport()
    report.refused.add("data/12", "it is locked until Sunday")
    assert not report.freed_nothing
