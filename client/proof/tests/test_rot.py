"""Rot inside packs, wherever they are listed: nothing that is rotten is listed again, nothing that opens is lost."""

from collections.abc import Callable
from pathlib import Path

import pytest

from client.cli.rebuild_index import Findings
from client.proof.remains import Remains
from client.proof.repair import Plan, Repair
from client.proof.tests.a_harmed_vault import HarmedVault, verdicts
from client.testing.vaults import PASSWORD
from client.vault.blobs import BlobKind, PackEntry, blob_id
from client.vault.damage import Damage
from client.vault.known_lengths import KnownLengths
from client.vault.nodes import EMPTY_TREE
from client.vault.repository import open_vault
from client.vault.tree_check import TreeCheck
from domain.names import ObjectName
from domain.sessions import Purpose

Change = Callable[[Path, list[PackEntry]], list[PackEntry]]


@pytest.fixture
def harmed(tmp_path: Path) -> HarmedVault:
    return HarmedVault(tmp_path)


def without(pack: Path) -> Change:
    return lambda path, entries: [] if path == pack else entries


def repaired(harmed: HarmedVault) -> Plan:
    with (
        harmed.vault.store.open(Purpose.RETENTION) as session,
        open_vault(session, PASSWORD, harmed.vault.cache) as vault,
        Repair(vault) as repair,
    ):
        plan = repair.look()
        repair.carry_out(forgets=True)
        return plan


def test_a_pack_that_was_given_up_is_not_taken_in_again(harmed: HarmedVault, tmp_path: Path) -> None:
    victim = harmed.pack_of(BlobKind.DATA)
    harmed.rot(victim)
    assert harmed.vault.errors()
    assert verdicts(harmed.rebuild()[1]) == {victim.name: "DAMAGED"}
    harmed.forget_doubts()
    done, findings = harmed.rebuild()
    assert verdicts(findings) == {victim.name: "USELESS"}
    assert "1 of" in str(findings[0])
    assert done.moved_blobs == 0
    assert harmed.entries(victim) == []
    last = harmed.vault.backup(harmed.source).snapshot
    assert harmed.restored(tmp_path / "t", last) == harmed.whole()
    # What was stored again is not lost, though the old pack is damaged for ever.
    (again,) = harmed.rebuild()[1]
    assert "0 of" in str(again)


@pytest.mark.parametrize("is_doubted", [False, True])
def test_of_an_unlisted_pack_all_that_opens_is_saved(harmed: HarmedVault, is_doubted: bool, tmp_path: Path) -> None:
    victim = harmed.pack_of(BlobKind.DATA)
    count = len(harmed.entries(victim))
    harmed.rot(victim)
    if is_doubted:
        assert harmed.vault.errors()
    harmed.list_anew(without(victim))
    done, findings = harmed.rebuild()
    assert verdicts(findings) == {victim.name: "DAMAGED"}
    assert f"1 of {count} blobs" in str(findings[0])
    assert done.moved_blobs == count - 1
    assert len(harmed.restored(tmp_path / "t")) == len(harmed.whole()) - 1


@pytest.mark.parametrize("is_header_hit", [False, True])
def test_a_damaged_pack_that_no_index_file_listed_is_counted(harmed: HarmedVault, is_header_hit: bool) -> None:
    victim = harmed.pack_of(BlobKind.DATA, new=True)
    harmed.rot(victim, victim.stat().st_size - 60 if is_header_hit else 0)
    harmed.list_anew(without(victim))
    _, (finding,) = harmed.rebuild()
    assert verdicts([finding]) == {victim.name: "USELESS"}
    findings = Findings(as_json=False)
    findings(finding)
    assert findings.is_damaged
    assert findings.lost == (0 if is_header_hit else 1)  # what lay in it is not known without its header


def test_a_blob_is_moved_unless_it_opens_elsewhere(harmed: HarmedVault, tmp_path: Path) -> None:
    victim = harmed.pack_of(BlobKind.DATA)
    lost, *others = harmed.entries(victim)
    rotten = harmed.twice(victim, others[0])
    harmed.rot(victim, lost.offset)
    assert harmed.vault.errors()
    harmed.rot(rotten)
    done, findings = harmed.rebuild()
    assert verdicts(findings) == {victim.name: "DAMAGED"}
    assert done.moved_blobs == len(others)
    assert len(harmed.restored(tmp_path / "t")) == len(harmed.whole()) - 1


def test_a_repair_finds_rot_in_lists_of_folders_by_itself(harmed: HarmedVault) -> None:
    victim, entry = tree_of(harmed, "sub", harmed.second)
    harmed.rot(victim, entry.offset)
    repaired(harmed)
    assert harmed.entries(victim) == []
    assert harmed.vault.errors() == []


def test_a_repaired_snapshot_names_no_tree_that_is_lost(harmed: HarmedVault) -> None:
    (harmed.source / "empty").mkdir()
    last = harmed.vault.backup(harmed.source, parent=harmed.second).snapshot
    places = [tree_of(harmed, folder, last) for folder in ("empty", "sub")]
    for victim, entry in places:
        harmed.rot(victim, entry.offset)
    with harmed.vault.opened(Purpose.RETENTION) as vault, KnownLengths(vault.index, None) as lengths:
        for _, entries in vault.index.packs():
            lengths.add(entries)
        trees = TreeCheck(vault, vault.index, lengths, Damage(vault.index))
        assert list(trees.run([last]))
        remains = Remains(vault, trees, lambda: None)
        remains.tree(vault.load_snapshot(last).tree)
        remains.finish()
    with harmed.vault.opened() as vault:
        assert vault.load_blob(BlobKind.TREE, blob_id(EMPTY_TREE)) == EMPTY_TREE


def test_blobs_that_only_the_header_of_a_damaged_pack_lists_are_saved(harmed: HarmedVault, tmp_path: Path) -> None:
    victim = harmed.pack_of(BlobKind.DATA)
    entries = harmed.entries(victim)
    harmed.rot(victim, entries[0].offset)
    harmed.list_anew(lambda path, entries: entries[:1] if path == victim else entries)
    done, findings = harmed.rebuild()
    assert verdicts(findings) == {victim.name: "DAMAGED"}
    assert f"1 of {len(entries)} blobs" in str(findings[0])
    assert done.moved_blobs == len(entries) - 1
    assert len(harmed.restored(tmp_path / "t")) == len(harmed.whole()) - 1


def test_a_wrong_entry_does_not_condemn_the_right_one(harmed: HarmedVault) -> None:
    harmed.list_anew(lambda _, entries: [entry._replace(offset=entry.offset + 1) for entry in entries])
    plan = repaired(harmed)
    assert plan.makes_index
    assert (plan.snapshots, plan.hopeless) == ([], [])
    assert harmed.vault.errors() == []


def tree_of(harmed: HarmedVault, folder: str, snapshot: ObjectName) -> tuple[Path, PackEntry]:
    """Where the list of a folder of a snapshot lies."""
    with harmed.vault.opened() as vault:
        tree = vault.load_snapshot(snapshot).tree
        for part in (*harmed.source.relative_to("/").parts, folder):
            node = next(node for node in vault.load_tree(tree) if node.name == part.encode())
            assert node.subtree
            tree = node.subtree
        location = vault.index.find(BlobKind.TREE, tree)
    assert location
    return harmed.vault.path / location.pack.path, location.entry
