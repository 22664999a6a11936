"""What a repair leaves of a damaged vault: all but what is lost, and nothing removed unasked."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from client.errors import StoreError
from client.proof.repair import Plan, Repair, Repaired
from client.proof.tests.a_harmed_vault import Around, HarmedVault
from client.stores.abc import StoreSession
from client.testing.damage import DAMAGES, Damage, flip, remove
from client.testing.faults import SessionAround
from client.testing.stops import Stop, StoppingSession
from client.testing.vaults import PASSWORD
from client.vault.blobs import BlobKind
from client.vault.repository import Vault, open_vault
from client.vault.tests.builders import a_node, a_writer
from client.vault.tree_check import Touched
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose


@pytest.fixture
def harmed(tmp_path: Path) -> HarmedVault:
    return HarmedVault(tmp_path)


def repaired_in(vault: Vault, *, forgets: bool = False) -> tuple[Plan, list[Touched], Repaired]:
    touched: list[Touched] = []
    with Repair(vault, touched=touched.append) as repair:
        plan = repair.look()
        return plan, touched, repair.carry_out(forgets=forgets)


def repaired(
    harmed: HarmedVault, *, forgets: bool = False, around: Around | None = None
) -> tuple[Plan, list[Touched], Repaired]:
    with harmed.vault.store.open(Purpose.RETENTION) as plain:
        session = around(plain) if around else plain
        with open_vault(session, PASSWORD, harmed.vault.cache) as vault:
            return repaired_in(vault, forgets=forgets)


def checked(harmed: HarmedVault) -> list[str]:
    """A check with all data, which remembers what is damaged."""
    return harmed.vault.errors()


def restic_is_clean(harmed: HarmedVault) -> None:
    environment = os.environ | {"RESTIC_PASSWORD": PASSWORD}
    command = ["restic", "--repo", str(harmed.vault.path), "--no-lock", "--no-cache", "check", "--read-data"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_of_a_sound_vault_nothing_is_to_be_repaired(harmed: HarmedVault) -> None:
    before = {path for path in harmed.vault.path.rglob("*") if path.is_file()}
    plan, touched, done = repaired(harmed, forgets=True)
    assert not plan
    assert (touched, done) == ([], Repaired())
    assert {path for path in harmed.vault.path.rglob("*") if path.is_file()} == before


@pytest.mark.needs("restic")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_lost_pack_of_data_costs_its_files_and_the_next_backup_brings_them_back(
    harmed: HarmedVault, damage: Damage, tmp_path: Path
) -> None:
    victim = harmed.pack_of(BlobKind.DATA, new=True)
    damage(victim, harmed.pack_of(BlobKind.DATA))
    assert any(victim.name in error for error in checked(harmed))
    plan, touched, done = repaired(harmed)
    assert [snapshot.id for snapshot in plan.snapshots] == [harmed.second.id]
    assert [(found.path, found.objects) for found in touched] == [
        (os.fsencode(harmed.source / "new"), (f"data/{victim.name}",))
    ]
    ((new, old),) = done.snapshots
    assert old == harmed.second
    assert new.repaired_from == new.original == harmed.second.id
    assert new.tags == ("oort:item=1", "oort:device=2", "repaired", f"oort:repaired={harmed.second.id}")
    assert harmed.restored(tmp_path / "latest", new.id) == harmed.whole("new")
    # The original is still there, and is still damaged; without it all is well.
    assert checked(harmed)
    _, _, again = repaired(harmed, forgets=True)
    assert again.before == [(new, harmed.second)]
    assert again.forgotten == [harmed.second]
    assert checked(harmed) == []
    restic_is_clean(harmed)
    last = harmed.vault.backup(harmed.source, parent=ObjectName(ObjectKind.SNAPSHOT, new.id)).snapshot
    assert harmed.restored(tmp_path / "again", last) == harmed.whole()


def test_one_bit_costs_one_file_of_those_in_a_pack(harmed: HarmedVault, tmp_path: Path) -> None:
    victim = harmed.pack_of(BlobKind.DATA)
    body = bytearray(victim.read_bytes())
    body[100] ^= 1
    victim.write_bytes(body)
    checked(harmed)
    _, touched, done = repaired(harmed, forgets=True)
    assert done.index
    assert done.index.moved_blobs >= 1
    assert len(done.snapshots) == len(done.forgotten) == 2
    (lost,) = {os.path.relpath(os.fsdecode(found.path), harmed.source) for found in touched}
    newer = next(new for new, old in done.snapshots if old == harmed.second)
    assert harmed.restored(tmp_path / "t", newer.id) == harmed.whole(lost)
    assert checked(harmed) == []


def test_a_lost_list_of_a_folder_leaves_the_folder_empty(harmed: HarmedVault, tmp_path: Path) -> None:
    with harmed.vault.opened() as vault:
        parts = harmed.source.relative_to("/").parts
        tree = vault.load_snapshot(harmed.first).tree
        for part in (*parts, "sub"):
            node = next(node for node in vault.load_tree(tree) if node.name == part.encode())
            assert node.subtree
            tree = node.subtree
        location = vault.index.find(BlobKind.TREE, tree)
    assert location
    victim = harmed.vault.path / location.pack.path
    body = bytearray(victim.read_bytes())
    body[location.entry.offset + 20] ^= 1
    victim.write_bytes(body)
    checked(harmed)
    _, touched, done = repaired(harmed, forgets=True)
    assert [found.path for found in touched] == [os.fsencode(harmed.source / "sub") + b"/"]
    assert len(done.snapshots) == 2
    newer = next(new for new, old in done.snapshots if old == harmed.second)
    assert harmed.restored(tmp_path / "t", newer.id) == harmed.whole("sub/deep")
    assert (tmp_path / "t" / harmed.source.relative_to("/") / "sub").is_dir()
    assert checked(harmed) == []


def test_a_snapshot_of_which_nothing_is_left_goes_when_it_is_to_be_forgotten(harmed: HarmedVault) -> None:
    remove(harmed.pack_of(BlobKind.TREE, new=True), harmed.source)
    plan, _, done = repaired(harmed)
    assert (list(plan.hopeless), done.snapshots, done.forgotten) == ([harmed.second], [], [])
    assert repaired(harmed, forgets=True)[2].forgotten == [harmed.second]
    assert checked(harmed) == []


def test_a_snapshot_that_cannot_be_read_goes_when_it_is_to_be_forgotten(harmed: HarmedVault) -> None:
    flip(harmed.vault.path / harmed.second.path, harmed.source)
    plan, _, done = repaired(harmed)
    assert (list(plan.unreadable), done) == ([harmed.second], Repaired())
    assert repaired(harmed, forgets=True)[2].forgotten == [harmed.second]
    assert checked(harmed) == []


def test_fields_that_are_not_known_here_are_kept() -> None:
    writer = a_writer()
    lost = writer.file(b"lost", b"x" * 100)
    text = json.loads(tree_text(lost.content or ()))
    for fields in text["nodes"]:
        fields["generic_attributes"] = {"later": "<1>"}
    body = json.dumps(text, separators=(",", ":")).replace("<", r"\u003c").replace(">", r"\u003e") + "\n"
    snapshot = writer.snapshot(writer.raw_tree(body.encode()))
    (pack,) = writer.vault.index.packs_of(BlobKind.DATA, (lost.content or ())[0])
    del writer.store.objects[pack]  # type: ignore[attr-defined]
    writer.finish().close()
    with open_vault(writer.store.open(Purpose.RETENTION), "5e" * 32) as vault:
        _, _, done = repaired_in(vault)
        ((new, old),) = done.snapshots
        assert old == snapshot
        left = vault.in_session(vault.session).load_blob(BlobKind.TREE, new.tree).decode()
    assert [fields["name"] for fields in json.loads(left)["nodes"]] == ["kept"]
    assert r'"generic_attributes":{"later":"\u003c1\u003e"}' in left


def tree_text(content: tuple[bytes, ...]) -> bytes:
    from client.vault.nodes import encode_tree

    return encode_tree([a_node(b"kept"), a_node(b"lost", content=content, size=100)])


@pytest.mark.parametrize("is_reply_lost", [False, True])
def test_wherever_a_repair_is_interrupted_the_next_one_ends_it(tmp_path: Path, is_reply_lost: bool) -> None:
    harmed = HarmedVault(tmp_path)
    victim = harmed.pack_of(BlobKind.DATA)
    body = bytearray(victim.read_bytes())
    body[100] ^= 1
    victim.write_bytes(body)
    checked(harmed)
    stops = 0
    for at in range(0, 200, 5):
        stop = Stop(at, is_reply_lost=is_reply_lost)

        def around(session: StoreSession, stop: Stop = stop) -> StoppingSession:
            return StoppingSession(session, stop)

        try:
            repaired(harmed, forgets=False, around=around)
        except StoreError:
            stops += 1
        else:
            break
    assert stops > 3
    _, _, done = repaired(harmed, forgets=True)
    assert len(done.snapshots) + len(done.before) == 2
    with harmed.vault.opened() as vault:
        assert len(vault.snapshots()) == 2
    assert checked(harmed) == []
    newer = next(new for new, old in (*done.snapshots, *done.before) if old == harmed.second)
    assert len(harmed.restored(tmp_path / "t", newer.id)) == len(harmed.whole()) - 1


class WholeOrNothing(SessionAround):
    """A store that sends no part of an object of which it has found no copy to be whole, as storage nodes do."""

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        super().get(name)
        return super().get(name, offset, length)


def test_where_a_store_sends_nothing_of_a_damaged_pack_all_that_is_in_it_is_lost(harmed: HarmedVault) -> None:
    victim = harmed.pack_of(BlobKind.DATA, new=True)
    flip(victim, victim)
    checked(harmed)
    _, touched, done = repaired(harmed, forgets=True, around=WholeOrNothing)
    assert [found.path for found in touched] == [os.fsencode(harmed.source / "new")]
    assert done.forgotten == [harmed.second]
    assert checked(harmed) == []
