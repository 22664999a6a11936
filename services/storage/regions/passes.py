"""One going through a bucket that follows another: what it is to do, and what it has come to."""

from dataclasses import dataclass
from uuid import UUID, uuid4

from oort.storage.v1 import regions_pb2

from domain.names import ObjectKind
from domain.sessions import Purpose
from domain.tokens import VaultClaims
from domain.wording import plural
from services.common.database import Database
from services.storage.errors import Damaged, SourceRefused
from services.storage.regions.source import Source
from services.storage.sessions import lifecycle
from services.storage.store import buckets, followed, following
from services.storage.store import sessions as session_rows
from services.storage.store.following import Claimed
from services.storage.store.sessions import NOBODY, SessionRow


@dataclass(slots=True)
class Own:
    """What a node has in this cluster while it is at work on a bucket: the claim, and the session that is open."""

    db: Database
    one: Claimed
    claims: VaultClaims
    session: UUID | None = None

    @property
    def open_session(self) -> UUID:
        if self.session is None:
            raise AssertionError("nothing is changed but in a session")
        return self.session

    async def begin(self, purpose: Purpose) -> None:
        """Open a session, which ends all others that write here: what an earlier holder of the lease has begun is over.

        Raises SourceRefused when the bucket follows no more, or another node has taken it over.
        """
        await self.end()
        one, session = self.one, uuid4()
        async with self.db.worker() as unit:
            bucket = await buckets.lock(unit, one.bucket_id)
            if bucket is None or bucket.follows != one.source or not await following.lock(unit, one):
                raise SourceRefused(detail="it is not followed any more, or another node is at work on it")
            await followed.end_writers(unit, bucket.id, bucket.seq + 1)
            seq = bucket.seq + 2
            row = SessionRow(session, bucket.id, NOBODY, purpose.value, None, seq, None, 0, 0)
            if not await session_rows.insert(unit, row, bucket.tenant_id, bucket.user_id):
                raise LookupError(f"session {session} is there already")
            await buckets.set_seq(unit, bucket.id, seq)
        self.session = session

    async def end(self) -> None:
        """End the session, if one is open."""
        if self.session is not None:
            session, self.session = self.session, None
            await lifecycle.end(self.db, self.claims, session)

    async def seal(self) -> bytes | None:
        """The SHA-256 of the seal that is here, if there is one."""
        async with self.db.worker() as unit:
            return await following.root_file(unit, self.one.bucket_id, ObjectKind.SEAL)


@dataclass(slots=True)
class Pass:
    """`objects` and `bytes` were brought since that was last noted."""

    own: Own
    source: Source
    there: regions_pb2.LookResponse
    objects: int = 0
    bytes: int = 0
    damaged: int = 0
    kept: int = 0
    first_damaged: str = ""

    @property
    def one(self) -> Claimed:
        return self.own.one

    @property
    def is_inventory(self) -> bool:
        """Whether all is to be compared, and not only what is new."""
        return self.one.needs_inventory or (self.one.removals and self.there.removed)

    @property
    def is_other(self) -> bool:
        """Whether the catalogue there is another one than was read last: made anew, or put back from a dump."""
        return self.one.session_id is not None and not self.there.known

    @property
    def has_strayed(self) -> bool:
        """Whether it was another one at any time since an operator has said which is meant, or the one here was."""
        return self.one.strayed or self.is_other

    @property
    def follows_removals(self) -> bool:
        """Whether what is not there is removed here.

        Not while the brake holds the bucket there, as it does after a rescan, nor by another catalogue than was read
        before, unless an operator says that it is meant: what it lacks may be on the disks there, or here alone; so may
        what a rescan has entered here. Nor when something was not to be brought: it may stand for what would go.
        """
        is_sure = not (self.has_strayed or self.there.braked or self.damaged)
        return self.one.removals and is_sure and bool(self.there.config_sha256)

    def note_damaged(self, error: Damaged) -> None:
        """Count an object that no copy there is whole of."""
        self.damaged += 1
        self.first_damaged = self.first_damaged or str(error)


def what_stands(this: Pass) -> str:
    """What an inventory that came to its end has left, for a person."""
    said = []
    if this.damaged:
        so = ", so nothing is removed here" if this.one.removals else ""
        said.append(f"{plural(this.damaged, 'object')} cannot be read there{so}, such as: {this.first_damaged}")
    if this.kept:
        said.append(f"removed there, and held here by object lock or the brake: {plural(this.kept, 'object')}")
    if this.one.removals and this.there.braked:
        said.append("the brake holds the bucket there, so nothing is removed here")
    if this.has_strayed:
        said.append(
            "its catalogue there was lost or came from a dump, or a rescan has entered what lay on disks here, so"
            " nothing is removed here until, after `oort node rescan`, `oort bucket follow` is given again"
        )
    return f"Not all is as it is there: {'; '.join(said)}." if said else ""
