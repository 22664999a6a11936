"""The steps of a move between clusters, and what each of them waits for."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from oort.storage.v1 import regions_pb2

from client.errors import NotSupported
from deploy.local.moving import Told, is_near, move


@dataclass
class Both:
    """Both clusters; `states` are what the follower's looks come to, one after the other. What was ordered is kept."""

    states: list[regions_pb2.Following]
    refusal: str = ""
    ordered: list[str] = field(default_factory=list)
    name: str = "far"

    def hand_over(self, bucket: str, to: str) -> int:
        self.ordered.append(f"hand {bucket} over to {to}")
        return 100

    def wait(self, bucket: str, is_so: Callable[[regions_pb2.Following], bool], seconds: float, tell: Told) -> None:  # noqa: ARG002 - as a region does
        while not is_so(self.states[0]):
            tell(self.states.pop(0))
        self.ordered.append(f"at {self.states[0].upto_seq}")

    def promote(self, bucket: str) -> regions_pb2.Following:
        if self.refusal:
            raise NotSupported(place=self.name, detail=self.refusal)
        self.ordered.append(f"promote {bucket}")
        return self.states[0]


ORDERED, SINCE = Timestamp(seconds=1), Timestamp(seconds=2)


def at(
    seq: int, behind: int, *, complete: bool = True, damaged: int = 0, seen: Timestamp = SINCE
) -> regions_pb2.Following:
    return regions_pb2.Following(
        upto_seq=seq, behind_bytes=behind, complete=complete, damaged_objects=damaged, seen=seen
    )


def test_nobody_is_kept_waiting_before_little_is_to_come_and_nothing_is_promoted_before_all_came() -> None:
    both = Both([at(1, 0, complete=False), at(20, 500 << 30), at(90, 1 << 20), at(95, 1), at(100, 0)])
    told: list[int] = []
    move("b", both, both, seen=ORDERED, tell=lambda one: told.append(one.upto_seq))
    assert both.ordered == ["at 90", "hand b over to far", "at 100", "promote b"]
    assert told == [1, 20, 90, 95]


def test_a_promotion_that_is_refused_ends_the_move() -> None:
    both = Both([at(100, 0)], refusal="2 objects cannot be read")
    with pytest.raises(NotSupported, match="cannot be read"):
        move("b", both, both, seen=ORDERED, tell=lambda _: None)
    assert both.ordered[-1] == "at 100"


def test_what_was_never_whole_or_has_much_to_come_is_not_near() -> None:
    assert is_near(at(5, 64 << 20))
    assert not is_near(at(5, (64 << 20) + 1))
    assert not is_near(at(5, 0, complete=False))
    assert not is_near(at(5, 0, damaged=1))


def test_nothing_is_handed_over_before_the_follower_was_answered_again() -> None:
    both = Both([at(90, 0, seen=ORDERED), at(95, 0), at(100, 0)])
    move("b", both, both, seen=ORDERED, tell=lambda _: None)
    assert both.ordered == ["at 95", "hand b over to far", "at 100", "promote b"]
