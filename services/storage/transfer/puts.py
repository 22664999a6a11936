"""Puts as a whole: a body goes to every home at once, then into the catalogue, then into its place.

Kept true:
- a put is acknowledged when `ack_copies` homes hold it durably, its catalogue entry is made, and every home that lacks
  it is named in that same entry; while all homes live, and have room, that means all of them;
- what a retention puts is held by every home that lives, or refused: the old copies of it go for its sake;
- a put that is refused leaves no file in any bucket's folder;
- what one put holds in memory is one frame, and what its listener lets come ahead, however large the body is.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from uuid import UUID

import structlog

from domain.names import ObjectName
from domain.tokens import VaultClaims
from domain.wording import plural
from services.common.database import Database
from services.common.errors import Busy, ServiceError, Unavailable
from services.storage.errors import DiskFull, NameMismatch, TooFewCopies, Unentered
from services.storage.peers import Peers
from services.storage.sessions import entries
from services.storage.sessions.bodies import Announced, Body, Entered
from services.storage.store import copies
from services.storage.transfer.copies import Copy, LocalCopy, RemoteCopy
from services.storage.transfer.frames import Frame, put_frames
from services.storage.transfer.patience import Patience
from services.storage.volumes.disks import Disks
from services.storage.volumes.staging import StagedName
from services.storage.volumes.threads import DiskThreads

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Put:
    """What a put says before its body."""

    claims: VaultClaims
    session: UUID
    name: ObjectName
    sha256: bytes
    size: int
    packs: Sequence[ObjectName] = ()


@dataclass(frozen=True, slots=True)
class Stored:
    """The answer to a put; `copies` durable when it was given."""

    existed: bool
    copies: int


class Spread:
    """The copies of one body on their way. Homes that fail drop out, as long as enough remain."""

    def __init__(self, copies: Sequence[Copy], ack_copies: int) -> None:
        self._copies = list(copies)
        self._enough = ack_copies
        self._failures: dict[str, Exception] = {}
        self._log = structlog.get_logger("storage")

    @property
    def durable(self) -> frozenset[str]:
        """The nodes of the copies that have not failed; after `stage` they are durable."""
        return frozenset(copy.node for copy in self._copies)

    def body_of(self, put: Put) -> Body:
        full = frozenset(node for node, failure in self._failures.items() if isinstance(failure, DiskFull))
        return Body(put.name, put.sha256, put.size, self.durable, full)

    async def begin(self) -> None:
        await self._all(lambda copy: copy.begin())

    async def write(self, frame: Frame) -> None:
        await self._all(lambda copy: copy.write(frame))

    async def stage(self) -> None:
        await self._all(lambda copy: copy.stage())

    async def settle(self, placed_on: frozenset[str]) -> frozenset[str]:
        """Place the copies that the catalogue wants and throw the others away. Answers where placing failed.

        What fails here is settled by its own node (incoming.py): the copies are durable and the entry is made.
        """
        unplaced: set[str] = set()
        steps = [copy.place() if copy.node in placed_on else copy.discard() for copy in self._copies]
        for copy, failure in zip(self._copies, await asyncio.gather(*steps, return_exceptions=True), strict=True):
            if isinstance(failure, BaseException):
                self._log.warning("left to be settled", node=copy.node, cause=repr(failure))
                await copy.abandon(entered=True)
                unplaced.update(placed_on & {copy.node})
        return frozenset(unplaced)

    async def abandon(self, *, entered: bool) -> None:
        """Let go of every copy; `entered` when the catalogue entry may have been made."""
        await asyncio.gather(*(copy.abandon(entered=entered) for copy in self._copies), return_exceptions=True)

    async def _all(self, step: Callable[[Copy], Awaitable[None]]) -> None:
        if len(self._copies) == 1:
            failures: list[BaseException | None] = [await _failure(step(self._copies[0]))]
        else:
            failures = await asyncio.gather(*(_failure(step(copy)) for copy in self._copies))
        for copy, failure in zip(list(self._copies), failures, strict=True):
            if isinstance(failure, Exception):
                self._copies.remove(copy)
                self._failures[copy.node] = failure
                self._log.warning("a copy could not be stored", node=copy.node, cause=repr(failure))
                await copy.abandon(entered=False)
        # Where one is refused for what lies in its place, the others would have that replaced later.
        if len(self._copies) < self._enough or any(isinstance(failure, Unentered) for failure in failures):
            raise self._refusal()

    def _refusal(self) -> Exception:
        """Why there are too few copies: what all say, else what is worth trying again."""
        failures = list(self._failures.values())
        for kind in (Unentered, NameMismatch, DiskFull):
            told = [failure for failure in failures if isinstance(failure, kind)]
            if told and (kind is not DiskFull or len(told) == len(failures)):
                return told[0]
        unexpected = next((failure for failure in failures if not isinstance(failure, ServiceError)), None)
        if unexpected is not None:
            self._log.error("a copy failed", exc_info=unexpected)
        causes = "; ".join(f"{node}: {failure}" for node, failure in sorted(self._failures.items()))
        return TooFewCopies(
            detail=f"Copies that could be stored: {len(self._copies)} of the {self._enough} that are needed ({causes})."
            " Try again when the nodes are back."
        )


async def _failure(step: Awaitable[None]) -> Exception | None:
    try:
        await step
    except Exception as error:  # noqa: BLE001 - whatever it is, this copy has failed; Spread decides what follows
        return error
    return None


class Puts:
    """Puts that this node coordinates, for any bucket of the cluster."""

    def __init__(
        self,
        node: str,
        db: Database,
        disks: Disks,
        threads: DiskThreads,
        peers: Peers,
        *,
        patience: Patience,
        silent_seconds: float,
        copy_seconds: float,
    ) -> None:
        self._node = node
        self._db = db
        self._disks = disks
        self._threads = threads
        self._peers = peers
        self._patience = patience
        self._silent_seconds = silent_seconds
        self._copy_seconds = copy_seconds
        self._log = structlog.get_logger("storage")
        self._settling: set[asyncio.Task[object]] = set()

    async def put(self, put: Put, frames: AsyncIterator[Frame]) -> Stored:
        """Store an object; `frames` is not read when the name is there already.

        Raises what entries.enter raises, NameMismatch, DiskFull, TooFewCopies, and what `frames` does.
        """
        spread = await self._spread(put)
        if spread is None:
            again = partial(entries.put_again, self._db, put.claims, put.session, put.name, put.packs)
            await self._patience.enter(put.claims.tenant, again, put.claims.bucket)
            return Stored(existed=True, copies=0)
        await self._stage(spread, frames)
        return await self._finish(self._enter(put, spread))

    async def put_body(self, put: Put, body: bytes) -> Stored:
        """As `put`, for a body in memory."""
        return await self.put(put, _frames_of(body))

    async def replace_seal(self, put: Put, body: bytes, replaced: bytes) -> None:
        """Store another seal in the place of the one whose SHA-256 is `replaced`, or as the first one if that is empty.

        Raises DiskFull, and what entries.replace_seal does.
        """
        spread = await self._spread(put)
        if spread is None:
            raise AssertionError("a root file is taken whether or not there is one")
        await self._stage(spread, _frames_of(body))
        entry = partial(entries.replace_seal, self._db, put.claims, put.session, spread.body_of(put), replaced)
        await self._finish(self._entered(put, spread, entry))

    async def initialise(self, claims: VaultClaims, session: UUID, bodies: Sequence[tuple[Put, bytes]]) -> bool:
        """Store the first key, `config` and the seal together; False if the vault has a `config` that is not lost."""
        if await entries.is_initialised(self._db, claims, session):
            return False
        taken: list[Put] = []
        spreads: list[Spread] = []
        try:
            for put, body in bodies:
                spread = await self._spread(put)
                if spread is None:
                    # A key that the vault has.
                    continue
                taken.append(put)
                spreads.append(spread)
                await spread.begin()
                await _pump(_frames_of(body), spread)
                await spread.stage()
        except BaseException as error:
            await self._finish(_abandon(spreads))
            # What lies there may have come meanwhile, from another device that was first.
            if isinstance(error, Unentered) and await entries.is_initialised(self._db, claims, session):
                return False
            raise
        return await self._finish(self._enter_first(claims, session, taken, spreads))

    async def drain(self) -> None:
        """Wait for what is being entered."""
        if self._settling:
            await asyncio.wait(self._settling)

    async def _spread(self, put: Put) -> Spread | None:
        """The copies to make; None if the object is there already."""
        announced = Announced(put.name, put.size, put.packs)
        plan = await entries.plan_put(self._db, put.claims, put.session, announced, self._silent_seconds)
        if plan.exists:
            return None
        staged = StagedName(put.claims.bucket, put.session, put.name, put.sha256)
        made: list[Copy] = []
        for home in plan.homes:
            if home.node_id == self._node:
                made.append(
                    LocalCopy(
                        self._node, self._disks, self._threads, staged, put.size, frees=plan.frees, first=plan.first
                    )
                )
            elif home.live:
                endpoint = home.internal_endpoint
                made.append(
                    RemoteCopy(
                        home.node_id,
                        endpoint,
                        self._peers,
                        staged,
                        put.size,
                        seconds=self._copy_seconds,
                        frees=plan.frees,
                        first=plan.first,
                    )
                )
        if len(made) < plan.ack_copies:
            raise TooFewCopies(
                detail=f"Bucket {put.claims.bucket} needs {plural(plan.ack_copies, 'copy', 'copies')}, and {len(made)}"
                f" of its {plural(len(plan.homes), 'node')} could be reached. Try again when they are back."
            )
        enough = len(made) if plan.everywhere else plan.ack_copies
        return Spread(made, enough)

    async def _stage(self, spread: Spread, frames: AsyncIterator[Frame]) -> None:
        try:
            await spread.begin()
            await _pump(frames, spread)
            await spread.stage()
        except BaseException:
            await self._finish(spread.abandon(entered=False))
            raise

    async def _enter(self, put: Put, spread: Spread) -> Stored:
        entry = partial(entries.enter, self._db, put.claims, put.session, spread.body_of(put), put.packs)
        return await self._entered(put, spread, entry)

    async def _entered(self, put: Put, spread: Spread, entry: Callable[[], Awaitable[Entered]]) -> Stored:
        entered = await self._decided(put.claims, entry, [spread])
        await self._place(put, spread, entered.placed_on)
        return Stored(entered.existed, len(spread.durable))

    async def _enter_first(
        self, claims: VaultClaims, session: UUID, puts: Sequence[Put], spreads: Sequence[Spread]
    ) -> bool:
        bodies = [spread.body_of(put) for put, spread in zip(puts, spreads, strict=True)]
        entry = partial(entries.initialise, self._db, claims, session, bodies)
        homes = await self._decided(claims, entry, spreads)
        for put, spread in zip(puts, spreads, strict=True):
            await self._place(put, spread, spread.durable & (homes or frozenset()))
        return homes is not None

    async def _decided(
        self, claims: VaultClaims, entry: Callable[[], Awaitable[Result]], spreads: Sequence[Spread]
    ) -> Result:
        """The catalogue's decision. A refusal throws the copies away; an unknown outcome leaves them to be settled."""
        try:
            return await self._patience.enter(claims.tenant, entry, claims.bucket)
        except BaseException as error:
            is_unknown = isinstance(error, Unavailable) and not isinstance(error, Busy)
            refused = isinstance(error, ServiceError) and not is_unknown
            for spread in spreads:
                if refused:
                    await spread.settle(frozenset())
                else:
                    await spread.abandon(entered=True)
            raise

    async def _place(self, put: Put, spread: Spread, placed_on: frozenset[str]) -> None:
        """Settle the copies; those that could not be placed are missing until their own nodes have placed them."""
        unplaced = await spread.settle(placed_on)
        if not unplaced:
            return
        try:
            async with self._db.unit(put.claims.tenant, put.claims.user) as unit:
                await copies.add_named(unit, put.claims.bucket, put.name, sorted(unplaced))
        except Unavailable as error:
            # Their nodes find out as well: while they settle, and when they are started.
            self._log.warning("could not enter copies as missing", nodes=sorted(unplaced), cause=str(error))

    async def _finish(self, step: Awaitable[Result]) -> Result:
        """Run to the end even if the caller goes away: an entry once begun must be followed by its settling."""
        task = asyncio.ensure_future(step)
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
        return await asyncio.shield(task)


async def _abandon(spreads: Sequence[Spread]) -> None:
    for spread in spreads:
        await spread.abandon(entered=False)


async def _pump(frames: AsyncIterator[Frame], spread: Spread) -> None:
    """Write one frame after the other; the next one arrives meanwhile, in what gRPC may hold of the stream."""
    async for frame in frames:
        await spread.write(frame)


async def _frames_of(body: bytes) -> AsyncGenerator[Frame, None]:
    for frame in put_frames(body):
        yield frame
