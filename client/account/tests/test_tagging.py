import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from client.account import opening
from client.account.device import Device
from client.account.tagging import Changed, Retag, change_snapshots, checked_tags, note_tags, noting, retagging
from client.account.tests.an_auth import Office
from client.account.vaults import Vaults
from client.errors import NoOwnSnapshot, NoSuchSnapshot, SnapshotInUse, StoreError, UsageError
from client.stores.tests.memory import MemorySession, MemoryStore
from client.vault.checker import check
from client.vault.locks import VaultLocked, vault_lock
from client.vault.repository import Vault
from client.vault.snapshots import DEVICE_TAG, ITEM_TAG, Snapshot, encode_snapshot
from client.vault.tests.builders import TIME_NS
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose

OURS = (f"{ITEM_TAG}i", f"{DEVICE_TAG}elsewhere")


class Ground:
    """A requested vault named `main` whose bucket lies in memory, and what is in it."""

    def __init__(self, device: Device, store: "FaultyStore") -> None:
        self.device = device
        self.store = store
        with opening.place_of(device, "main") as place, store.open(Purpose.BACKUP) as session:
            place.open_or_create(session).close()

    def vault(self, purpose: Purpose = Purpose.READ) -> Vault:
        with opening.place_of(self.device, "main") as place:
            vault = place.open(self.store.open(purpose))
        assert vault is not None
        return vault

    def snapshot(self, *tags: str, time_ns: int = TIME_NS, more: str = "") -> Snapshot:
        """A snapshot; `more` are fields of a newer restic."""
        with self.vault(Purpose.BACKUP) as vault:
            document = encode_snapshot(Snapshot(time_ns, bytes(32), ("/<home>",), "kasimir", tags=tags))
            name, body = vault.seal_unpacked(ObjectKind.SNAPSHOT, document[:-1] + more.encode() + b"}")
            vault.session.commit(name, body)
            return vault.load_snapshot(name)

    def all(self) -> list[Snapshot]:
        with self.vault() as vault:
            return vault.snapshots()

    def change(self, retag: Retag, *wanted: str, all_devices: bool = True) -> list[Changed]:
        return list(change_snapshots(self.device, "main", wanted, retag, all_devices=all_devices))


@dataclass
class FaultyStore(MemoryStore):
    """Raises what it is given, one a removal of a snapshot; done nevertheless if `is_answer_lost`."""

    faults: list[Exception] = field(default_factory=list)
    is_answer_lost: bool = False

    def __post_init__(self) -> None:
        super().__init__()

    def open(self, purpose: Purpose, parent: ObjectName | None = None) -> "MemorySession":
        plain = super().open(purpose, parent)
        session = FaultySession(self, purpose)
        if plain.number in self.pins:
            self.pins[session.number] = self.pins.pop(plain.number)
        return session


class FaultySession(MemorySession):
    store: FaultyStore

    def remove(self, name: ObjectName) -> None:
        fault = self.store.faults.pop() if self.store.faults and name.kind is ObjectKind.SNAPSHOT else None
        if fault is None or self.store.is_answer_lost:
            super().remove(name)
        if fault is not None:
            raise fault


@pytest.fixture
def ground(office: Office, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    with Device(office.logged_in()) as device:
        store = FaultyStore()
        Vaults(device).request("main", "default")
        monkeypatch.setattr(opening, "_store", lambda *_arguments: store)
        yield Ground(device, store)


def test_a_changed_snapshot_takes_the_place_of_the_old_one_and_names_the_first(ground: Ground) -> None:
    old = ground.snapshot(*OURS, "a", "b")
    other = ground.snapshot(*OURS, "a", time_ns=TIME_NS + 1)
    (changed,) = ground.change(retagging(["c", "a"], ["b"], None), old.id)
    assert changed.old == old
    assert changed.new.tags == (*OURS, "a", "c")
    assert changed.new.original == old.id
    assert ground.all() == [changed.new, other]
    (again,) = ground.change(noting("before the move"), changed.new.short_id)
    assert (again.new.note, again.new.original) == ("before the move", old.id)
    assert again.new.user_tags == ("a", "c")
    (bare,) = ground.change(noting(""), again.new.id)
    assert bare.new.tags == changed.new.tags
    (only,) = ground.change(retagging([], [], ["x"]), bare.new.id)
    assert only.new.tags == (*OURS, "x")
    assert ground.change(retagging([], [], []), only.new.id)[0].new.tags == OURS


def test_what_is_as_wanted_is_left_alone(ground: Ground) -> None:
    old = ground.snapshot(*OURS, "a")
    assert ground.change(retagging(["a"], ["b"], None), old.id) == [Changed(old, old)]
    assert ground.store.removed == {}


def test_fields_that_are_not_known_here_and_the_order_of_restic_are_kept(ground: Ground) -> None:
    old = ground.snapshot(more=',"program_version":"restic 0.17","summary":{"files_new":3,"data_added":1.50}')
    (changed,) = ground.change(retagging(["<tag>"], [], None), old.id)
    with ground.vault() as vault:
        document = vault.load_unpacked(ObjectName(ObjectKind.SNAPSHOT, changed.new.id))
        faults = [problem.detail for problem in check(vault) if "snapshots/" in problem.name]
    assert list(json.loads(document)) == [
        *("time", "tree", "paths", "hostname", "tags", "original", "program_version", "summary")
    ]
    assert b'"tags":["\\u003ctag\\u003e"]' in document
    assert document.endswith(b'"summary":{"files_new":3,"data_added":1.50}}')
    assert faults == []


def test_the_parent_of_a_running_backup_is_left_as_it_was(ground: Ground) -> None:
    old = ground.snapshot(*OURS)
    first = ground.snapshot(*OURS, time_ns=TIME_NS - 1)
    running = ground.store.open(Purpose.BACKUP, ObjectName(ObjectKind.SNAPSHOT, old.id))
    with pytest.raises(SnapshotInUse, match=f"builds on snapshot {old.short_id}"):
        ground.change(noting("x"), first.id, old.id)
    left = ground.all()
    assert [one.note for one in left] == ["x", ""]
    assert left[1] == old
    running.close()
    ground.change(noting("x"), old.id)
    assert [one.note for one in ground.all()] == ["x", "x"]


@pytest.mark.parametrize("is_answer_lost", [False, True])
def test_after_an_answer_that_never_came_at_least_one_is_there_and_the_next_command_completes_it(
    ground: Ground, is_answer_lost: bool
) -> None:
    old = ground.snapshot(*OURS)
    ground.store.faults = [StoreError(place="memory", detail="no answer")]
    ground.store.is_answer_lost = is_answer_lost
    with pytest.raises(StoreError, match="no answer"):
        ground.change(noting("x"), old.id)
    left = ground.all()
    assert [one.note for one in left if one.note] == ["x"]
    assert len(left) == (1 if is_answer_lost else 2)
    (changed,) = ground.change(noting("x"), "latest" if is_answer_lost else old.id)
    assert ground.all() == [changed.new]


def test_nothing_is_changed_if_one_of_several_is_not_there(ground: Ground) -> None:
    old = ground.snapshot(*OURS)
    with pytest.raises(NoSuchSnapshot):
        ground.change(noting("x"), old.id, "ffff")
    assert ground.all() == [old]


def test_latest_is_this_device_s_own(ground: Ground) -> None:
    ground.snapshot(*OURS)
    with pytest.raises(NoOwnSnapshot, match="No snapshot of the vault is of this device"):
        ground.change(noting("x"), "latest", all_devices=False)
    own = ground.snapshot(f"{DEVICE_TAG}{ground.device.id}", time_ns=TIME_NS - 1)
    assert ground.change(noting("x"), "latest", all_devices=False)[0].old == own


def test_a_store_with_locks_is_changed_alone(ground: Ground) -> None:
    old = ground.snapshot(*OURS)
    ground.store.needs_locks = True
    with ground.vault() as vault, vault_lock(vault, needed=True), pytest.raises(VaultLocked):
        ground.change(noting("x"), old.id)
    assert ground.all() == [old]
    ground.change(noting("x"), old.id)
    assert [one.note for one in ground.all()] == ["x"]
    assert not [name for name in ground.store.objects if name.kind is ObjectKind.LOCK]


@pytest.mark.parametrize(
    "tags", [["oort:item=x"], ["oort:"], [""], ["a,b"], ["two\nlines"], ["x" * 201], ["a", "\udcff"]]
)
def test_tags_that_are_ours_or_none_are_refused(tags: Sequence[str]) -> None:
    with pytest.raises(UsageError):
        checked_tags(tags)
    with pytest.raises(UsageError):
        retagging([], tags, None)


def test_tags_and_notes_are_text() -> None:
    assert checked_tags(["grün", "two words", "grün"]) == ("grün", "two words")
    assert note_tags("one, two\nthree") == ("oort:note=one, two\nthree",)
    assert note_tags("") == ()
    for text in ("\udcff", "x" * 2001):
        with pytest.raises(UsageError):
            note_tags(text)
