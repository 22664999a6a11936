"""The index made anew from packs, whatever was wrong with it. (Wherever that is stopped: deploy/tests/stops.)"""

from pathlib import Path

import pytest

from client.proof.tests.a_harmed_vault import HarmedVault, verdicts
from client.testing.damage import flip, remove, truncate
from client.vault.blobs import BlobKind
from client.vault.index_files import IndexedPack, IndexFile, encode_index_file
from domain.names import ObjectKind
from domain.sessions import Purpose


@pytest.fixture
def harmed(tmp_path: Path) -> HarmedVault:
    return HarmedVault(tmp_path)


def index_files(harmed: HarmedVault) -> set[Path]:
    return set(harmed.vault.objects(ObjectKind.INDEX))


@pytest.mark.parametrize("read_headers", [False, True])
def test_the_index_of_a_sound_vault_is_written_anew_and_says_the_same(
    harmed: HarmedVault, read_headers: bool, tmp_path: Path
) -> None:
    before = index_files(harmed)
    done, findings = harmed.rebuild(read_headers=read_headers)
    assert findings == []
    assert (done.packs, done.new_files, done.old_files, done.kept) == (len(harmed.packs()), 1, len(before), ())
    assert not before & index_files(harmed)
    assert harmed.vault.problems() == []
    assert harmed.restored(tmp_path / "t") == harmed.whole()


def test_without_any_index_file_all_packs_are_taken_in(harmed: HarmedVault, tmp_path: Path) -> None:
    for path in index_files(harmed):
        path.unlink()
    _, findings = harmed.rebuild()
    assert set(verdicts(findings).values()) == {"UNLISTED"}
    assert harmed.vault.problems() == []
    assert harmed.restored(tmp_path / "t") == harmed.whole()


@pytest.mark.parametrize("damage", [flip, truncate])
def test_an_index_file_that_cannot_be_read_is_named_and_replaced(harmed: HarmedVault, damage: object) -> None:
    victim = max(index_files(harmed), key=lambda path: path.stat().st_size)
    assert callable(damage)
    damage(victim, victim)
    _, findings = harmed.rebuild()
    assert any(victim.name in str(finding) for finding in findings)
    assert not victim.exists()
    assert harmed.vault.problems() == []


def test_a_pack_that_is_missing_is_named_and_is_in_the_index_no_more(harmed: HarmedVault, tmp_path: Path) -> None:
    victim = harmed.pack_of(BlobKind.DATA, new=True)
    remove(victim, victim)
    _, findings = harmed.rebuild()
    assert verdicts(findings) == {victim.name: "MISSING"}
    assert "1 of 1 blobs are gone with it" in str(findings[0])
    assert harmed.restored(tmp_path / "t") == harmed.whole("new")
    # What is in no index file is stored again.
    harmed.vault.backup(harmed.source, parent=harmed.second)
    assert harmed.vault.errors() == []
    assert harmed.restored(tmp_path / "u", harmed.second) == harmed.whole()


def test_what_opens_of_a_truncated_pack_is_saved_into_a_new_one(harmed: HarmedVault, tmp_path: Path) -> None:
    victim = harmed.pack_of(BlobKind.DATA)
    body = victim.read_bytes()
    victim.write_bytes(body[: len(body) - BIG_ENOUGH])
    done, findings = harmed.rebuild()
    assert verdicts(findings) == {victim.name: "DAMAGED"}
    assert done.moved_blobs >= 1
    restored = harmed.restored(tmp_path / "t")
    lost = set(harmed.whole()) - set(restored)
    assert len(lost) == 1
    assert restored == harmed.whole(*lost)
    # The remains are in no index file, and are not taken in again.
    _, again = harmed.rebuild(read_headers=True)
    assert verdicts(again) == {victim.name: "USELESS"}


BIG_ENOUGH = 500  # bytes at a pack's end: its header and a part of its last blob


def test_a_header_that_is_damaged_costs_nothing(harmed: HarmedVault, tmp_path: Path) -> None:
    victim = harmed.pack_of(BlobKind.TREE)
    body = bytearray(victim.read_bytes())
    body[-20] ^= 1
    victim.write_bytes(body)
    assert harmed.rebuild()[1] == []  # nobody has looked there yet
    _, findings = harmed.rebuild(read_headers=True)
    assert verdicts(findings) == {victim.name: "DAMAGED"}
    assert harmed.restored(tmp_path / "t") == harmed.whole()
    assert harmed.vault.errors() == []


def test_an_index_that_differs_from_a_header_gives_way(harmed: HarmedVault) -> None:
    with harmed.vault.opened(Purpose.RETENTION) as vault:
        packs = [
            IndexedPack.of(bytes.fromhex(name.id), [entry._replace(offset=entry.offset + 1) for entry in entries])
            for name, entries in vault.index.packs()
        ]
        for path in index_files(harmed):
            path.unlink()
        vault.save_unpacked(ObjectKind.INDEX, encode_index_file(IndexFile(packs)))
    _, findings = harmed.rebuild()
    assert set(verdicts(findings).values()) == {"DIFFERS"}
    assert harmed.vault.problems() == []
