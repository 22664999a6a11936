"""One going through a bucket that follows another: what it is to do, and what it has come to."""

from dataclasses import dataclass
from datetime import UTC
from uuid import UUID

from oort.storage.v1 import regions_pb2

from domain.tokens import VaultClaims
from services.storage.source import Source
from services.storage.store.following import Claimed

_JUMP = 1 << 32  # of the seq, when a database was restored from a dump
_STANDING = "Not all"


@dataclass(slots=True)
class Pass:
    """`session` is the one here; `objects` and `bytes` were brought since that was last noted."""

    one: Claimed
    source: Source
    there: regions_pb2.LookResponse
    claims: VaultClaims
    session: UUID | None = None
    objects: int = 0  # brought since that was last noted
    bytes: int = 0
    damaged: int = 0
    kept: int = 0
    first_damaged: str = ""

    @property
    def is_inventory(self) -> bool:
        """Whether all is to be compared, and not only what is new."""
        one, there = self.one, self.there
        return one.needs_inventory or not self.is_same or (one.removals and there.removed)

    @property
    def is_same(self) -> bool:
        """Whether the catalogue there is the one that was asked before, and has gone on since."""
        one, there = self.one, self.there
        is_later = one.upto_seq <= there.seq < one.upto_seq + _JUMP
        return one.source_created == there.created.ToDatetime(UTC) and is_later

    @property
    def follows_removals(self) -> bool:
        """Whether what is not there is removed here.

        Not while the brake holds the bucket there, as it does after a rescan, nor just after its catalogue was lost or
        came from a dump: what is not entered yet is no removal.
        """
        is_sure = self.is_same or self.one.source_created is None
        return self.one.removals and is_sure and not self.there.braked and bool(self.there.config_sha256)


def standing(problem: str) -> str:
    """A problem that an inventory has left; empty for any other."""
    return problem if problem.startswith(_STANDING) else ""


def what_stands(this: Pass) -> str:
    """What an inventory that came to its end has left, for a person."""
    said = []
    if this.damaged:
        so = ", so nothing is removed here" if this.one.removals else ""
        said.append(f"{this.damaged} objects cannot be read there{so}, such as: {this.first_damaged}")
    if this.kept:
        said.append(f"{this.kept} objects that were removed there are held here by object lock or the brake")
    if this.one.removals and this.there.braked:
        said.append("the brake holds the bucket there, so nothing is removed here")
    if this.one.removals and not this.is_same and this.one.source_created is not None:
        said.append("its catalogue there was lost or came from a dump, so what is not in it is removed here later")
    return f"{_STANDING} is as it is there: {'; '.join(said)}." if said else ""
