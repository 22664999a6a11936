"""What the campaign of a lost database takes for right and for wrong: it must not be blind."""

from deploy.campaigns.devices.memory import Memory
from deploy.campaigns.devices.trees import Entry

TREE = {"": Entry(0o40755, 1, "")}


def a_memory(*snapshots: str) -> Memory:
    memory = Memory()
    for snapshot in snapshots:
        memory.committed(snapshot, "device", TREE)
    return memory


def listed(*snapshots: str) -> dict[str, str]:
    return dict.fromkeys(snapshots, "device")


def test_what_lay_in_the_waste_basket_when_the_catalogue_was_lost_must_be_there_again() -> None:
    memory = a_memory("first", "second", "third")
    memory.removed(["first"])
    memory.perhaps_removed(["second"])
    memory.come_back(memory.gone)
    assert list(memory.audit(listed("first", "second", "third"))) == []
    for missing in ("first", "second"):
        (wrong,) = memory.audit(listed(*{"first", "second", "third"} - {missing}))
        assert missing in wrong


def test_what_a_retention_removed_while_the_catalogue_was_lost_may_be_there_or_not() -> None:
    memory = a_memory("first", "second", "third")
    memory.removed(["first"])
    gone = memory.gone
    memory.removed(["second"])
    memory.come_back(gone)
    assert list(memory.audit(listed("first", "second", "third"))) == []
    assert list(memory.audit(listed("first", "third"))) == []
    assert len(list(memory.audit(listed("second", "third")))) == 1
