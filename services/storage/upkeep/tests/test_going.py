"""Which home of a bucket is the one too many."""

from typing import Any

from services.storage.store.homes import HomeState
from services.storage.upkeep.placement import going_of, why_not


def home(node: str, **others: Any) -> HomeState:
    """One that lives and has all, but for `others`."""
    whole: dict[str, Any] = dict.fromkeys(
        ("joining", "lacks", "lacks_whole", "can_fetch", "removes", "outgrown"), False
    ) | dict.fromkeys(("live", "reconciled", "fits"), True)
    given = {"state": "serving", "leaving": None, "compared": None, "waits": "", "free_bytes": 1 << 40}
    return HomeState(node_id=node, **whole | given | others)


def test_the_home_that_the_bucket_has_outgrown_goes_when_all_the_others_have_what_it_has() -> None:
    full, other, new = home("a", outgrown=True, free_bytes=0), home("b"), home("c")
    assert going_of([full, other, new], 2) == [full]
    assert why_not(full, [full, other, new], 2) == ""


def test_a_home_without_room_goes_before_one_that_the_bucket_has_outgrown() -> None:
    tight, new = home("a", outgrown=True, free_bytes=1), home("c")
    full = home("b", lacks=True, fits=False, free_bytes=0)
    assert going_of([tight, full, new], 2) == [full]


def test_a_home_that_joined_for_an_outgrown_one_and_died_goes_first() -> None:
    full, other = home("a", outgrown=True, free_bytes=0), home("b")
    dead = home("c", lacks=True, lacks_whole=True, live=False)
    assert going_of([full, other, dead], 2) == [dead]
    assert why_not(dead, [full, other, dead], 2) == ""
