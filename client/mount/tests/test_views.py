"""Names of a mount stay what they were while what they name is there."""

from client.mount.views import Names, View, view_of
from client.vault.snapshots import Snapshot

SECOND = 1_000_000_000
TREE = bytes(32)


def a_snapshot(digit: str, device: str = "", *, time_ns: int = SECOND) -> Snapshot:
    return Snapshot(time_ns, TREE, tags=(f"oort:device={device}",) if device else (), id=digit * 64)


def names_in(view: View, folder: bytes) -> set[bytes]:
    inner = view.entries[folder]
    assert isinstance(inner, View)
    return set(inner.entries)


def test_devices_of_one_name_are_told_apart_by_the_end_of_their_ids_but_for_the_first() -> None:
    names = Names()
    first, second = a_snapshot("a", "first-11111111"), a_snapshot("b", "second-22222222")
    assert names_in(view_of([first], {"first-11111111": "laptop"}, names), b"devices") == {b"laptop"}
    both = {"first-11111111": "laptop", "second-22222222": "laptop"}
    assert names_in(view_of([first, second], both, names), b"devices") == {b"laptop", b"laptop-22222222"}
    assert names_in(view_of([second], both, names), b"devices") == {b"laptop-22222222"}


def test_a_device_whose_name_is_heard_of_late_keeps_its_id() -> None:
    names = Names()
    assert names_in(view_of([a_snapshot("a", "3")], {}, names), b"devices") == {b"3"}
    assert names_in(view_of([a_snapshot("a", "3")], {"3": "laptop"}, names), b"devices") == {b"3"}
    assert names_in(view_of([a_snapshot("a", "3")], {"3": "laptop"}, Names()), b"devices") == {b"laptop"}


def test_ids_that_begin_alike_keep_their_names_when_one_of_them_goes() -> None:
    names = Names()
    first = Snapshot(SECOND, TREE, id="a" * 64)
    second = Snapshot(2 * SECOND, TREE, id="a" * 32 + "b" * 32)
    shown = {b"a" * 8, second.id.encode(), b"latest"}
    assert names_in(view_of([first, second], {}, names), b"ids") == shown
    assert names_in(view_of([second], {}, names), b"ids") == {second.id.encode(), b"latest"}
    # One that comes as the other went may have its name.
    third = Snapshot(3 * SECOND, TREE, id="a" * 63 + "c")
    assert names_in(view_of([second, third], {}, names), b"ids") == shown
