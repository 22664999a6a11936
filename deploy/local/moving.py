"""A bucket's way from one cluster to another that follows it, in steps that may each be the last one before a crash.

Kept true: nothing is done before the auth role is known to send the devices; what writes is ended when the follower has
asked since, and little is still to come, all of which can be read; the bucket is promoted when all that was stored is
there, and the devices are sent after that.
"""

from collections.abc import Callable
from typing import Protocol

from google.protobuf.timestamp_pb2 import Timestamp
from oort.storage.v1 import regions_pb2

_PATIENCE_SECONDS = 600.0
_LITTLE_BYTES = 64 << 20

Told = Callable[[regions_pb2.Following], None]


class Here(Protocol):
    """The cluster that has it (Region)."""

    def hand_over(self, bucket: str, to: str) -> int: ...


class There(Protocol):
    """The cluster that is to have it (Region)."""

    @property
    def name(self) -> str: ...

    def wait(self, bucket: str, is_so: Callable[[regions_pb2.Following], bool], seconds: float, tell: Told) -> None: ...

    def promote(self, bucket: str) -> regions_pb2.Following: ...


def move(bucket: str, here: Here, there: There, *, seen: Timestamp, tell: Told) -> None:
    """Hand the bucket over, and promote it there. The same again goes on where it was cut off.

    `seen`: when the other cluster had last answered the follower as this was ordered. It must do so again first.

    Raises ServerUnreachable while much is still to come, and NotSupported while not all can come. From the hand-over on
    nothing writes to the bucket, until that is mended or it is taken back.
    """
    there.wait(bucket, lambda one: one.seen != seen and is_near(one), _PATIENCE_SECONDS, tell)
    last = here.hand_over(bucket, there.name)
    there.wait(bucket, lambda one: one.upto_seq >= last, _PATIENCE_SECONDS, tell)
    there.promote(bucket)


def is_near(one: regions_pb2.Following) -> bool:
    """Whether all was there once, nothing is missing, and what is still to come keeps nobody waiting for long."""
    return one.complete and not one.damaged_objects and one.behind_bytes <= _LITTLE_BYTES
